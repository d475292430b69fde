"""A TCP proxy that makes a server on this machine as far away as a server elsewhere.

A connection takes one round trip, and then each chunk half of one, in either direction. Chunks travel side by side: one
that is sent while another is under way arrives as much later as it was sent later. Bandwidth and loss are left out.

The system accepts before the proxy can: connect() returns at once, and its round trip is added to what the client sends
first. A client that has work to do in between does it in that time, and looks faster than it is.
"""

import socket
import time
from queue import SimpleQueue

from support.listener import RECEIVED, Listener


class Clock:
    """The time of the proxy, in seconds."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wait_until(self, moment: float) -> None:
        """Return at a moment, or at once where it has passed.

        Args:
            moment: as now() tells it.
        """
        time.sleep(max(0.0, moment - self.now()))


class DelayingProxy(Listener):
    """Passes connections to a port of 127.0.0.1 on, with a delay.

    Args:
        port: of the server.
        round_trip: seconds.
        clock: another one for tests.
    """

    def __init__(self, port: int, round_trip: float, clock: Clock | None = None) -> None:
        super().__init__("127.0.0.1")
        self._server = ("127.0.0.1", port)
        self._round_trip = round_trip
        self._clock = clock or Clock()

    def serve(self, connection: socket.socket, number: int) -> None:  # noqa: ARG002 - the base class's signature
        """Relay both directions until each has come to its end."""
        established = self._clock.now() + self._round_trip
        with socket.create_connection(self._server) as upstream:
            for end in (connection, upstream):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = self.start(self._relay, upstream, connection, established)
            self._relay(connection, upstream, established)
            back.join()

    def _relay(self, source: socket.socket, sink: socket.socket, established: float) -> None:
        under_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        delivery = self.start(self._deliver, sink, under_way)
        data = b"anything"
        while data:
            data = _receive(source)
            under_way.put((max(self._clock.now(), established) + self._round_trip / 2, data))
        delivery.join()

    def _deliver(self, sink: socket.socket, under_way: "SimpleQueue[tuple[float, bytes]]") -> None:
        while True:
            due, data = under_way.get()
            self._clock.wait_until(due)
            try:
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:
                return  # it has gone, which the other direction notices


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(RECEIVED)
    except OSError:
        return b""
