"""One HTTPS exchange: a POST that follows no redirect, reads no ~/.netrc, and ends at the deadline."""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests
import urllib3
from requests import exceptions as failures

from rolekey.deadline import Deadline
from rolekey.errors import MalformedResponseError, TransportError
from rolekey.secret import Secret

log = logging.getLogger(__name__)

MAX_ANSWER = 1 << 20
CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Post:
    """A request.

    Args:
        url: already encoded.
        headers: sent as they are, Host among them.
        body: the exact bytes.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
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


@dataclass(frozen=True, slots=True)
class Route:
    """How an exchange travels.

    Args:
        verify_tls: whether the server's certificate is checked.
        ca_bundle: trusted CAs in place of certifi's, or None.
        proxy: URL of a proxy (it may hold a password), or None.
    """

    verify_tls: bool = True
    ca_bundle: Path | None = None
    proxy: Secret | None = None


class RefusedTLSError(TransportError):
    """The server's certificate was not accepted: trying again does not help."""


def send(request: Post, route: Route, deadline: Deadline) -> Answer:
    """Send one POST and read the whole answer.

    Args:
        request: what to send.
        route: TLS and proxy.
        deadline: for resolving, connecting, sending and reading together.

    Raises:
        TransportError: no answer. Its text holds no URL, header or proxy, which may hold secrets.
        MalformedResponseError: an answer of more than 1 MiB.
        DeadlineError: the time was over first.
    """
    host = request.headers["Host"]

    def exchange() -> Answer:
        with requests.Session() as http_session:
            # Else requests takes Authorization from ~/.netrc and proxies and CAs by its own rules.
            http_session.trust_env = False
            return _exchange(http_session, request, route, deadline)

    try:
        return deadline.run(f"the answer of {host}", exchange)
    except failures.SSLError as error:
        raise RefusedTLSError(
            f"no TLS connection to {host}: {_cause(error)}",
            hint="if its CA is a private one, name the CA's PEM file in AWS_CA_BUNDLE; check this machine's clock",
        ) from error
    except failures.ProxyError as error:
        raise TransportError(
            f"the proxy for {host} does not let the request through: {_cause(error)}",
            hint="check HTTPS_PROXY (user and password too), or exempt the host in NO_PROXY",
        ) from error
    except failures.InvalidProxyURL:
        # Not chained: its text is the proxy's URL, with the password.
        raise TransportError("the proxy's URL cannot be used", hint="check HTTPS_PROXY and HTTP_PROXY") from None
    except (failures.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise TransportError(
            f"no answer from {host}: {_cause(error)}",
            hint="check the network, the DNS, the region and --endpoint; behind a proxy set HTTPS_PROXY",
        ) from error


def _exchange(http_session: requests.Session, request: Post, route: Route, deadline: Deadline) -> Answer:
    verify: bool | str = str(route.ca_bundle) if route.ca_bundle else True
    if not route.verify_tls:
        verify = False
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    proxies = {"http": route.proxy.reveal(), "https": route.proxy.reveal()} if route.proxy else {}
    left = max(deadline.remaining(), 0.001)
    response = http_session.post(
        request.url,
        data=request.body,
        headers=dict(request.headers),
        timeout=(min(left, CONNECT_TIMEOUT), left),
        verify=verify,
        proxies=proxies,
        allow_redirects=False,
        stream=True,
    )
    with response:
        received = bytearray()
        for chunk in response.iter_content(16384):
            received += chunk
            if len(received) > MAX_ANSWER:
                raise MalformedResponseError(
                    f"the answer of {request.headers['Host']} is larger than 1 MiB",
                    hint="something else than IAM Roles Anywhere answers there: check --endpoint and the proxy",
                )
        names = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, names, bytes(received))


def _cause(error: BaseException) -> str:
    """The innermost reason, which is an operating system's or OpenSSL's text and holds no URL."""
    seen: list[BaseException] = []
    current: object = error
    while isinstance(current, BaseException) and current not in seen:
        seen.append(current)
        inner = getattr(current, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((a for a in current.args if isinstance(a, BaseException)), None)
        current = inner or current.__cause__ or current.__context__
    for found in reversed(seen):
        if isinstance(found, ssl.SSLCertVerificationError):
            return found.verify_message
        if isinstance(found, OSError) and not isinstance(found, failures.RequestException) and found.strerror:
            return found.strerror
    return type(seen[-1]).__name__
