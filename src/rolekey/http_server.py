"""A small HTTP/1.1 server for ASGI applications: uvicorn and httptools behind limits of our own (ASGI 3.0, RFC 9112).

uvicorn keeps a connection whose headers never end, and everything that was sent on it, for as long as the client likes.
The limits here bound the time, the bytes and the number of connections that a stranger can take.

uvicorn and httptools belong to the extra ``server`` and are imported when a server is made, not before.
"""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolekey.errors import ConfigurationError, ListenError, MissingExtraError

if TYPE_CHECKING:
    from rolekey.http_protocol.asgi import GuardedServer

ASGIApplication = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]

_MAXIMUM_PORT = 65535
_BACKLOG = 1024  # connections that the kernel holds until they are accepted


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


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Args:
        host: an address or name of this machine.
        port: 0 to 65535; 0 takes any free port.

    Returns:
        The socket; clients may connect to it from now on.

    Raises:
        ListenError: the address is not this machine's, is in use, or may not be used.
    """
    if not 0 <= port <= _MAXIMUM_PORT:
        # getaddrinfo would take it modulo 65536.
        raise _listen_error(host, port, ValueError("not a port number"))
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise _listen_error(host, port, error) from error
    try:
        if os.name == "posix":
            # Elsewhere this option lets two servers share a port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise _listen_error(host, port, error) from error
    return listener


def _listen_error(host: str, port: int, error: Exception) -> ListenError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    hint = "choose another address or port (port 0 takes any free one)"
    if isinstance(error, PermissionError):
        hint = "choose a port above 1023, or 0 for any free one"
    elif isinstance(error, socket.gaierror):
        hint = "name an address of this machine, such as 127.0.0.1"
    return ListenError(f"cannot listen on {host} port {port}: {reason}", hint=hint)


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
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def run(self) -> None:
        """Serve until `stop`, or, in the main thread, until SIGINT or SIGTERM; requests under way are finished."""
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
        raise MissingExtraError(
            f"the local HTTP server needs a package that is not installed: {error.name or error}",
            hint="pip install 'rolekey[server]'",
        ) from error
    return make_server(app, limits, tls)


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
