"""A service of AWS that says who signed, and rolekey's service, for programs with an SDK."""

from collections.abc import Iterator
from contextlib import contextmanager

from support.listener import RawRequest
from support.service import ScriptedService, answer

_IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Arn>arn:aws:sts::000000000000:assumed-role/r/s</Arn></GetCallerIdentityResult>
</GetCallerIdentityResponse>"""


@contextmanager
def caller_identity_service() -> Iterator[ScriptedService]:
    """STS, as far as GetCallerIdentity goes; whoever signed."""
    with ScriptedService((answer(200, _IDENTITY, {"Content-Type": "text/xml"}),)) as service:
        yield service


def signed_with(request: RawRequest) -> tuple[str, str | None]:
    """The access key id and the session token that a request was signed with.

    Args:
        request: what the SDK sent.
    """
    credential = (request.header("Authorization") or "").partition("Credential=")[2]
    return credential.partition("/")[0], request.header("X-Amz-Security-Token")
