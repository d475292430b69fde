"""An exchange straight with the service, over http.client: what a command that ends at once can afford to import.

A connection can be opened while there is nothing to send yet: the handshakes then take place while the token signs.
"""

import http.client
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

from rolekey.deadline import Deadline, Started
from rolekey.errors import RolekeyError
from rolekey.transport import messages
from rolekey.transport.messages import Answer, Post, Route, no_answer, no_tls, too_large

# A server closes a connection on which nothing is said; before that it is opened anew.
MAX_IDLE_SECONDS = 10.0
_CHUNK = 16384
_CAUSES: dict[type[Exception], str] = {
    http.client.RemoteDisconnected: "the connection was closed without an answer",
    http.client.IncompleteRead: "the answer is cut short",
    http.client.HTTPException: "what answers does not speak HTTP",
    UnicodeError: "it is no host name",
}


class _Unusable(Exception):  # noqa: N818 - it never leaves this module
    """An answer that is HTTP and cannot be read; its text says why."""


class Opening:
    """A connection that is being opened in a thread of its own, for the one request that will be sent over it.

    Args:
        url: the service's.
        route: TLS.
        deadline: for opening it.
    """

    def __init__(self, url: str, route: Route, deadline: Deadline) -> None:
        self._since = time.monotonic()
        self._lock = threading.Lock()
        self._opened: http.client.HTTPConnection | None = None
        self._is_given_up = False

        def connect() -> http.client.HTTPConnection:
            connection = _connect(url, route, deadline)
            with self._lock:
                self._opened = connection
                if self._is_given_up:
                    connection.close()
            return connection

        self._started: Started[http.client.HTTPConnection] | None = deadline.start("the connection", connect)

    def take(self, host: str) -> http.client.HTTPConnection | None:
        """The connection, once; None where it was taken, or was opened too long ago.

        Args:
            host: for the error's text.

        Raises:
            OSError, UnicodeError: it could not be opened.
            DeadlineError: not in time.
        """
        started, self._started = self._started, None
        if started is None:
            return None
        connection = started.result(f"the connection to {host}")
        if time.monotonic() - self._since < MAX_IDLE_SECONDS:
            return connection
        connection.close()
        return None

    def close(self) -> None:
        """Give the connection up where nobody has taken it; never waits."""
        with self._lock:
            if self._started is not None:
                self._is_given_up = True
                if self._opened is not None:
                    self._opened.close()


def send_directly(request: Post, route: Route, deadline: Deadline, opening: Opening | None = None) -> Answer:
    """Send one POST and read the whole answer, as transport.send() says.

    Args:
        request: what to send.
        route: TLS.
        deadline: for everything.
        opening: a connection to take, if it is still good.
    """
    host = request.headers["Host"]

    def exchange() -> Answer:
        connection = opened or _connect(request.url, route, deadline)
        try:
            return _exchange(connection, request, deadline)
        finally:
            connection.close()

    try:
        opened = opening.take(host) if opening else None
        return deadline.run(f"the answer of {host}", exchange)
    except (OSError, http.client.HTTPException, UnicodeError, _Unusable) as error:
        failure, cause = _failure(error, host)
        if isinstance(error, TimeoutError) and deadline.remaining() <= 0:  # the socket noticed it before we did
            failure, cause = deadline.over(f"the answer of {host}"), None
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


def _connect(url: str, route: Route, deadline: Deadline) -> http.client.HTTPConnection:
    """Open a connection, TLS included."""
    parts = urlsplit(url)
    # As bytes: for a text Python loads the tables of international names, which are no part of a signed Host header.
    name = (parts.hostname or "").encode("ascii")
    if any(not 0 < len(label) < 64 for label in name.split(b".")) and b":" not in name:
        raise UnicodeError
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connection = http.client.HTTPConnection("", port)
    context = _context(route) if parts.scheme == "https" else None
    # The deadline ends the wait; a socket that noticed it first would make another error of it.
    seconds = min(deadline.remaining() + 1.0, messages.CONNECT_TIMEOUT)
    opened = socket.create_connection((name, port), seconds)  # type: ignore[arg-type]  # typeshed knows no bytes here
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = context.wrap_socket(opened, server_hostname=name) if context else opened
    except BaseException:
        opened.close()
        raise
    return connection


def _context(route: Route) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    if not route.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif route.ca_bundle is None:
        import certifi  # noqa: PLC0415 - slow, and not needed where the user names the CAs

        context.load_verify_locations(certifi.where())
    elif route.ca_bundle.is_dir():
        context.load_verify_locations(capath=route.ca_bundle)
    else:
        context.load_verify_locations(route.ca_bundle)
    return context


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
