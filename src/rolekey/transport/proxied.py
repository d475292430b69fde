"""An exchange through a proxy, over requests."""

import re
import ssl

import requests
import urllib3
from requests import exceptions as failures
from requests.utils import get_auth_from_url

from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError, RolekeyError, TransportError
from rolekey.secret import Secret
from rolekey.transport.messages import (
    CONNECT_TIMEOUT,
    MAX_ANSWER,
    Answer,
    PermanentTransportError,
    Post,
    Route,
    no_answer,
    no_tls,
    too_large,
)

_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")
# The class of what went wrong, in the standard library, urllib3 or requests, where it has no text fit to be shown.
_CAUSES = {
    "BadStatusLine": "what answers does not speak HTTP",
    "DecodeError": "the answer's compression is broken",
    "HTTPException": "what answers does not speak HTTP",
    "IncompleteRead": "the answer is cut short",
    "InvalidChunkLength": "the answer's chunks are broken",
    "InvalidHeader": "the answer's headers contradict each other",
    "InvalidSchema": "a proxy of this kind is not supported",
    "LineTooLong": "what answers does not speak HTTP",
    "LocationParseError": "it is no host name",
    "ProtocolError": "the answer is cut short",
    "ProxySchemeUnknown": "a proxy of this kind is not supported",
    "RemoteDisconnected": "the connection was closed without an answer",
    "TimeoutError": f"no connection within {CONNECT_TIMEOUT:g} s",
}


class _HTTPSession(requests.Session):
    """Takes nothing from ~/.netrc and the environment, and does not look at redirects.

    Asked not to follow one, requests still reads its whole body, however large, and raises ValueError at a bad
    Location.
    """

    def __init__(self) -> None:
        super().__init__()
        # Else requests takes Authorization from ~/.netrc and proxies and CAs by its own rules.
        self.trust_env = False

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - the base class's signature
        """None, always."""
        return None


def send_through_proxy(request: Post, route: Route, proxy: Secret, deadline: Deadline) -> Answer:
    """Send one POST and read the whole answer, as transport.send() says.

    Args:
        request: what to send.
        route: TLS.
        proxy: its URL.
        deadline: for everything.
    """
    host = request.headers["Host"]
    proxies = _proxies(proxy)

    def exchange() -> Answer:
        with _HTTPSession() as http_session:
            return _exchange(http_session, request, route, proxies, deadline)

    try:
        return deadline.run(f"the answer of {host}", exchange)
    except (failures.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        failure, cause = _failure(error, host)
        if isinstance(error, failures.Timeout) and deadline.remaining() <= 0:  # the socket noticed it before we did
            failure, cause = deadline.over(f"the answer of {host}"), None
    # Not in the handler: what the libraries raise quotes the answer, or pickles with it. Only the system's own error,
    # which knows nothing of it, is a cause.
    raise failure from cause


def _failure(error: Exception, host: str) -> tuple[RolekeyError, OSError | None]:
    text, cause = _cause(error)
    if isinstance(error, failures.SSLError):
        return no_tls(host, text), cause
    if isinstance(error, failures.ProxyError):
        kind = PermanentTransportError if "HTTP status 4" in text else TransportError
        return kind(
            f"the proxy for {host} does not let the request through: {text}",
            hint="check HTTPS_PROXY (user and password too), or exempt the host in NO_PROXY",
        ), cause
    return no_answer(host, text, has_proxy=True), cause


def _proxies(proxy: Secret) -> dict[str, str]:
    """A proxy as requests takes it, checked: the libraries quote a URL that they cannot use, with its password."""
    url = proxy.reveal()
    if not _is_usable(url):
        raise ConfigurationError(
            "the proxy's URL cannot be used",
            hint="check HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT, special characters in USER and PASSWORD as %XX",
        )
    return {"http": url, "https": url}


def _is_usable(proxy_url: str) -> bool:
    try:
        for text in get_auth_from_url(proxy_url):
            text.encode("latin-1")  # as requests does for Basic authentication
        return bool(urllib3.util.parse_url(proxy_url).host)
    except ValueError:  # LocationParseError and UnicodeError are ones; not passed on, since it holds the URL
        return False


def _exchange(
    http_session: requests.Session,
    request: Post,
    route: Route,
    proxies: dict[str, str],
    deadline: Deadline,
) -> Answer:
    verify: bool | str = str(route.ca_bundle) if route.ca_bundle else True
    if not route.verify_tls:
        verify = False
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    # The deadline ends the wait; a socket that noticed it first would make another error of it.
    left = deadline.remaining() + 1.0
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
                raise too_large(request.headers["Host"])
        names = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, names, bytes(received))


def _cause(error: BaseException) -> tuple[str, OSError | None]:
    """The innermost reason in words, and the operating system's or OpenSSL's error that it is, if it is one."""
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
            return found.verify_message, found
        if isinstance(found, OSError) and not isinstance(found, failures.RequestException) and found.strerror:
            return found.strerror, found
        if refused := _TUNNEL_REFUSED.match(str(found)):
            return f"it answers with HTTP status {refused[1]}", None
        if type(found).__name__ in _CAUSES:
            return _CAUSES[type(found).__name__], None
    return type(seen[-1]).__name__, None
