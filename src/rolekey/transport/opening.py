"""A connection to the service: TCP, and TLS over it.

It can be opened while there is nothing to send yet: the handshakes then take place while the token signs. Whoever opens
one ahead has much else to import, so that nothing is imported here that the first packet does not need.
"""

import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rolekey.deadline import Deadline, Started
from rolekey.transport import messages
from rolekey.transport.messages import Route

if TYPE_CHECKING:
    import ssl

# A server closes a connection on which nothing is said; before that it is opened anew.
MAX_IDLE_SECONDS = 10.0


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
        self._opened: socket.socket | None = None
        self._is_given_up = False
        what = f"the connection to {urlsplit(url).netloc}"

        def open_it() -> socket.socket:
            connection = connect(url, route, deadline, what)
            with self._lock:
                self._opened = connection
                if self._is_given_up:
                    connection.close()
            return connection

        self._started: Started[socket.socket] | None = deadline.start("the connection", open_it)

    def take(self, host: str) -> socket.socket | None:
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


def connect(url: str, route: Route, deadline: Deadline, what: str) -> socket.socket:
    """Open a connection, TLS included. The trusted CAs are loaded while the system connects.

    Args:
        url: the service's.
        route: TLS.
        deadline: for all of it.
        what: is being waited for, for the error's text.

    Raises:
        OSError, UnicodeError: it could not be opened.
        DeadlineError: not in time.
    """
    parts = urlsplit(url)
    # As bytes: for a text Python loads the tables of international names, which are no part of a signed Host header.
    name = (parts.hostname or "").encode("ascii")
    if any(not 0 < len(label) < 64 for label in name.split(b".")) and b":" not in name:
        raise UnicodeError
    loading = deadline.start("the trusted CAs", lambda: _context(route)) if parts.scheme == "https" else None
    # The deadline ends the wait; a socket that noticed it first would make another error of it.
    seconds = min(deadline.remaining() + 1.0, messages.CONNECT_TIMEOUT)
    address = (name, parts.port or (443 if loading else 80))
    connection = socket.create_connection(address, seconds)  # type: ignore[arg-type]  # typeshed knows no bytes here
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return loading.result(what).wrap_socket(connection, server_hostname=name) if loading else connection
    except BaseException:
        connection.close()
        raise


def _context(route: Route) -> "ssl.SSLContext":
    import ssl  # noqa: PLC0415 - the connection is under way meanwhile

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
