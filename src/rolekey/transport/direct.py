"""An exchange straight with the service, over http.client: what a command that ends at once can afford to import."""

import http.client
import ssl
from urllib.parse import urlsplit

from rolekey.deadline import Deadline
from rolekey.errors import RolekeyError
from rolekey.transport import messages
from rolekey.transport.messages import Answer, Post, Route, no_answer, no_tls, too_large
from rolekey.transport.opening import Opening, connect

_CHUNK = 16384
_CAUSES: dict[type[Exception], str] = {
    http.client.RemoteDisconnected: "the connection was closed without an answer",
    http.client.IncompleteRead: "the answer is cut short",
    http.client.HTTPException: "what answers does not speak HTTP",
    UnicodeError: "it is no host name",
}


class _Unusable(Exception):  # noqa: N818 - it never leaves this module
    """An answer that is HTTP and cannot be read; its text says why."""


def send_directly(request: Post, route: Route, deadline: Deadline, opening: Opening | None = None) -> Answer:
    """Send one POST and read the whole answer, as transport.send() says.

    Args:
        request: what to send.
        route: TLS.
        deadline: for everything.
        opening: a connection to take, if it is still good.
    """
    host = request.headers["Host"]
    what = f"the answer of {host}"

    def exchange() -> Answer:
        connection = http.client.HTTPConnection("")
        connection.sock = opened or connect(request.url, route, deadline, what)
        try:
            return _exchange(connection, request, deadline)
        finally:
            connection.close()

    try:
        opened = opening.take(host) if opening else None
        return deadline.run(what, exchange)
    except (OSError, http.client.HTTPException, UnicodeError, _Unusable) as error:
        failure, cause = _failure(error, host)
        if isinstance(error, TimeoutError) and deadline.remaining() <= 0:  # the socket noticed it before we did
            failure, cause = deadline.over(what), None
    # Not in the handler: what http.client raises quotes the answer. Only the system's own error is a cause.
    raise failure from cause


def _failure(error: Exception, host: str) -> tuple[RolekeyError, OSError | None]:
    if isinstance(error, ssl.SSLCertVerificationError):
        return no_tls(host, error.verify_message), error
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return no_tls(host, error.strerror or type(error).__name__), error
    if isinstance(error, _Unusable):
        return no_answer(host, str(error)), None
    text = next((text for kind, text in _CAUSES.items() if isinstance(error, kind)), None)
    if text is None and isinstance(error, TimeoutError) and not error.strerror:
        text = f"no connection within {messages.CONNECT_TIMEOUT:g} s"
    cause = error if isinstance(error, OSError) and text is None else None
    return no_answer(host, text or str(getattr(error, "strerror", "") or type(error).__name__)), cause


def _exchange(connection: http.client.HTTPConnection, request: Post, deadline: Deadline) -> Answer:
    host = request.headers["Host"]
    connection.sock.settimeout(deadline.remaining() + 1.0)
    target = urlsplit(request.url)._replace(scheme="", netloc="").geturl()
    connection.putrequest("POST", target, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(request.body)))
    connection.endheaders(request.body)
    with connection.getresponse() as response:
        return Answer(response.status, *_read(response, host))


def _read(response: http.client.HTTPResponse, host: str) -> tuple[dict[str, str], bytes]:
    headers = {name.lower(): value for name, value in response.getheaders()}
    if len(set(response.headers.get_all("content-length", []))) > 1:
        raise _Unusable("the answer's headers contradict each other")
    if headers.get("content-encoding", "identity") != "identity":
        raise _Unusable("the answer is compressed, which was not asked for")
    body = bytearray()
    while piece := response.read(_CHUNK):
        body += piece
        if len(body) > messages.MAX_ANSWER:
            raise too_large(host)
    if response.length:  # http.client tells nobody that a body ended early when it is read in pieces
        raise http.client.IncompleteRead(b"")
    return headers, bytes(body)
