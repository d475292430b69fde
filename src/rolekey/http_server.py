"""Two small HTTP/1.1 servers behind limits of our own (RFC 9112), which bound the time, the bytes and the number of
connections that a stranger can take.

`HTTPServer` runs an ASGI application (ASGI 3.0) on uvicorn, which by itself keeps a connection whose headers never end,
and everything that was sent on it, for as long as the client likes. `ResponderServer` calls plain functions that answer
at once, and does without uvicorn.

uvicorn and httptools belong to the extra ``server`` and are imported when a server is made, not before.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolekey.errors import ConfigurationError, MissingExtraError
from rolekey.http_protocol.addresses import bind, url_of
from rolekey.http_protocol.messages import Responder

if TYPE_CHECKING:
    from rolekey.http_protocol.asgi import GuardedServer
    from rolekey.http_protocol.responder_server import ResponderLoop

ASGIApplication = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


@dataclass(frozen=True)
class Limits:
    """What one client may take.

    Args:
        header_bytes: bytes of a request's line and headers; more is answered with 431.
        header_seconds: seconds until a request's headers are complete, counted from the connection being made and,
            for each further request, from its first byte. The TLS handshake has the same time.
        body_bytes: bytes of a request's body; more is answered with 413.
        body_seconds: seconds from the end of the headers to the end of the body; also the time that a client may
            leave an answer unread.
        idle_seconds: seconds that a connection may stay open without a request.
        connections: open connections; one more is turned away with 503, over TLS closed at once.
    """

    header_bytes: int = 64 * 1024
    header_seconds: float = 10.0
    body_bytes: int = 1024 * 1024
    body_seconds: float = 20.0
    idle_seconds: float = 30.0
    connections: int = 512


def tls_context(certificate_file: Path, key_file: Path | None) -> ssl.SSLContext:
    """A server's TLS settings: TLS 1.2 or newer, HTTP/1.1.

    Args:
        certificate_file: PEM, the server's certificate first.
        key_file: PEM, not encrypted; None when ``certificate_file`` holds the key too.

    Returns:
        The context for the listening side.

    Raises:
        ConfigurationError: a file cannot be read, or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password of our own OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate_file, key_file, password=lambda: b"")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        names = f"{certificate_file}" + (f" and {key_file}" if key_file else "")
        raise ConfigurationError(
            f"the TLS certificate and key cannot be used ({names}): {reason}",
            hint="name a PEM certificate and its unencrypted PEM key",
        ) from error
    return context


class HTTPServer:
    """One ASGI application on one address. The socket is bound, and clients may connect, once this exists.

    Args:
        app: the ASGI application; it gets no lifespan events.
        host: an address or name of this machine.
        port: 0 takes any free port.
        limits: what one client may take.
        tls: the TLS settings, None for plain HTTP.

    Raises:
        MissingExtraError: uvicorn or httptools is not installed.
        ListenError: the address cannot be used.
    """

    def __init__(
        self,
        app: ASGIApplication,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = _make_server(app, limits or Limits(), tls)
        self._socket = bind(host, port)
        #: The port that is listened on.
        self.port: int = self._socket.getsockname()[1]
        #: The base URL, without a final slash.
        self.url = url_of(host, self.port, tls=tls is not None)

    def run(self) -> None:
        """Serve until `stop`, or, in the main thread, until a signal; requests under way are finished."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Make `run` return soon. May be called from any thread, and before `run`."""
        self._server.should_exit = True

    def close(self) -> None:
        """Give the address back when `run` is not called."""
        self._socket.close()


def _make_server(app: ASGIApplication, limits: Limits, tls: ssl.SSLContext | None) -> "GuardedServer":
    try:
        from rolekey.http_protocol.asgi import make_server  # noqa: PLC0415 - uvicorn and httptools are an extra
    except ImportError as error:
        raise _missing(error) from error
    return make_server(app, limits, tls)


def _missing(error: ImportError) -> MissingExtraError:
    return MissingExtraError(
        f"the local HTTP server needs a package that is not installed: {error.name or error}",
        hint="pip install 'rolekey[server]'",
    )


@contextlib.contextmanager
def running(
    app: ASGIApplication,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Serve in a thread for the length of a ``with`` block.

    Args:
        app: as for `HTTPServer`.
        host: as for `HTTPServer`.
        port: as for `HTTPServer`.
        limits: as for `HTTPServer`.
        tls: as for `HTTPServer`.

    Yields:
        The base URL, without a final slash; it answers from now on.

    Raises:
        MissingExtraError: uvicorn or httptools is not installed.
        ListenError: the address cannot be used.
    """
    server = HTTPServer(app, host=host, port=port, limits=limits, tls=tls)
    thread = threading.Thread(target=server.run, name="rolekey-http-server", daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join()


@dataclass(frozen=True)
class Listener:
    """A socket that is listening, and what answers there.

    Args:
        socket: from bind(), bind_loopback() or systemd; it is closed when the server stops.
        respond: answers a request, at once.
        limits: what one client may take; the number of connections is this listener's.
        tls: the TLS settings, None for plain HTTP.
    """

    socket: socket.socket
    respond: Responder
    limits: Limits
    tls: ssl.SSLContext | None = None


class ResponderServer:
    """Plain functions on any number of sockets, in one thread.

    Args:
        listeners: the sockets and functions.

    Raises:
        MissingExtraError: httptools is not installed.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._loop = _make_loop(listeners)
        self._listeners = tuple(listeners)

    def run(self, on_hangup: Callable[[], None] | None = None) -> None:
        """Serve until `stop`, or, in the main thread, until a signal; what has been asked is answered.

        Args:
            on_hangup: is called, between two requests, after each SIGHUP in the main thread; it may not raise. Without
                it SIGHUP does what it does.
        """
        try:
            self._loop.run(on_hangup)
        finally:
            self.close()

    def stop(self) -> None:
        """Make `run` return soon. May be called from any thread, and before `run`."""
        self._loop.should_exit = True

    def close(self) -> None:
        """Give the addresses back when `run` is not called."""
        for listener in self._listeners:
            listener.socket.close()


def _make_loop(listeners: Sequence[Listener]) -> "ResponderLoop":
    try:
        from rolekey.http_protocol.responder_server import ResponderLoop  # noqa: PLC0415 - httptools is an extra
    except ImportError as error:
        raise _missing(error) from error
    return ResponderLoop(listeners)
