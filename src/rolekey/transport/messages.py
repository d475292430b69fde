"""What goes to the service and what comes back, whichever way it takes."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Self

from rolekey.config import Settings
from rolekey.errors import MalformedResponseError, TransportError
from rolekey.secret import Secret
from rolekey.value import Value

MAX_ANSWER = 1 << 20
CONNECT_TIMEOUT = 10.0


class Post(Value):
    """A request.

    Args:
        url: already encoded.
        headers: sent as they are, Host among them.
        body: the exact bytes.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes


class Answer(Value):
    """An HTTP answer.

    Args:
        status: the HTTP status.
        headers: names in lower case.
        body: at most 1 MiB; not in the repr, since it may hold credentials.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, body of {len(self.body)} bytes)"


class Route(Value):
    """How an exchange travels.

    Args:
        verify_tls: whether the server's certificate is checked.
        ca_bundle: trusted CAs in place of certifi's, or None.
        proxy: URL of a proxy (it may hold a password), or None.
    """

    verify_tls: bool = True
    ca_bundle: Path | None = None
    proxy: Secret | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The one that the settings say."""
        return cls(settings.verify_tls, settings.ca_bundle, settings.proxy)


class PermanentTransportError(TransportError):
    """Trying again does not help, or harms: TLS, and a proxy that counts wrong passwords."""


def too_large(host: str) -> MalformedResponseError:
    """The error of an answer of more than MAX_ANSWER bytes."""
    return MalformedResponseError(
        f"the answer of {host} is larger than 1 MiB",
        hint="something else than IAM Roles Anywhere answers there: check --endpoint and the proxy",
    )


def no_tls(host: str, text: str) -> PermanentTransportError:
    """The error of a server that is not the one that was asked for, as far as TLS can tell."""
    return PermanentTransportError(
        f"no TLS connection to {host}: {text}",
        hint="if its CA is a private one, name the CA's PEM file in AWS_CA_BUNDLE; check this machine's clock",
    )


def no_answer(host: str, text: str, *, has_proxy: bool = False) -> TransportError:
    """The error of everything that may be over in a moment."""
    return TransportError(
        f"no answer from {host}{' through the proxy' if has_proxy else ''}: {text}",
        hint="check the network, the DNS, the region and --endpoint; behind a proxy set HTTPS_PROXY",
    )
