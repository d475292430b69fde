"""The container credentials endpoint (AWS SDK reference, container credential provider): GET /creds/NAME.

SDKs send what is in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, or else in AWS_CONTAINER_AUTHORIZATION_TOKEN, in the header
Authorization, to the last byte.
"""

import hmac
import json
from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes

from rolekey.credentials import Credentials, format_timestamp
from rolekey.http_protocol.messages import JSON, Request, answer
from rolekey.secret import Secret
from rolekey.vend.source import Source

PREFIX = b"/creds/"


class _Identity:
    """An identity's answer, put together once for each set of credentials."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._credentials: Credentials | None = None
        self._whole = b""

    def answer(self) -> bytes:
        """The credentials, or why there are none."""
        credentials = self._source.current()
        if credentials is None:
            self._credentials, self._whole = None, b""
            return _refusal(503, *self._source.problem())
        if credentials is not self._credentials:
            self._whole = answer(200, credentials_document(credentials), content_type=JSON)
            self._credentials = credentials
        return self._whole


def credentials_document(credentials: Credentials) -> bytes:
    """What the endpoint says of an identity that has credentials.

    Args:
        credentials: the identity's.

    Returns:
        One line of JSON.
    """
    document = {
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": format_timestamp(credentials.expiration),
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _refusal(status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> bytes:
    body = json.dumps({"code": code, "message": message}, separators=(",", ":")).encode() + b"\n"
    return answer(status, body, *headers, content_type=JSON)


class ContainerCredentials:
    """The endpoint.

    Args:
        sources: the identities, with different names.
        read_token: gives the token that everybody has to show; raises RolekeyError.
    """

    def __init__(self, sources: Sequence[Source], read_token: Callable[[], Secret]) -> None:
        self._identities = {PREFIX + source.name.encode(): _Identity(source) for source in sources}
        self._read_token = read_token
        self.reload()

    def reload(self) -> None:
        """Read the token anew.

        Raises:
            RolekeyError: as read_token() does; the old one stays.
        """
        self._token = self._read_token().reveal().encode()

    def respond(self, request: Request) -> bytes:
        """Answer a request for any path.

        Args:
            request: the request.
        """
        if not request.path.startswith(PREFIX):
            return _refusal(404, "NotFound", "there is nothing here")
        if request.method != b"GET":
            return _refusal(405, "MethodNotAllowed", "only GET is answered", (b"allow", b"GET"))
        token = request.headers.get(b"authorization")
        if not token:
            return _refusal(401, "Unauthorized", "the header Authorization is missing")
        if not hmac.compare_digest(token, self._token):
            return _refusal(401, "Unauthorized", "the token in the header Authorization is not the one that is wanted")
        path = request.path if b"%" not in request.path else unquote_to_bytes(request.path)
        identity = self._identities.get(path)
        if identity is None:
            return _refusal(404, "NotFound", "no identity has this name")
        return identity.answer()
