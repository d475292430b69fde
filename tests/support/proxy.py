"""A forward proxy for CONNECT that does what a test wants, on a socket of this machine."""

import socket
from collections.abc import Mapping

from support.listener import RECEIVED, Listener, RawRequest, read_request
from support.service import answer


class ScriptedProxy(Listener):
    """A forward proxy for CONNECT.

    Args:
        routes: from the ``host:port`` of CONNECT to a port of 127.0.0.1; 502 for what is not there.
        authorization: the Proxy-Authorization without which it says 407; None for none.
        refusal: what it answers to every CONNECT, in place of all this.
    """

    def __init__(
        self,
        routes: Mapping[str, int] | None = None,
        *,
        authorization: str | None = None,
        refusal: bytes | None = None,
    ) -> None:
        super().__init__("127.0.0.1")
        self._routes = routes or {}
        self._authorization = authorization
        self._refusal = refusal
        #: The CONNECT requests, in order.
        self.connects: list[RawRequest] = []

    def serve(self, connection: socket.socket, number: int) -> None:  # noqa: ARG002 - the base class's signature
        """Answer one CONNECT and pass on what follows."""
        request = read_request(connection)
        if request is None:
            return
        self.connects.append(request)
        verb, target, _ = request.request_line.split(" ")
        if self._refusal is not None:
            connection.sendall(self._refusal)
        elif self._authorization not in (None, request.header("Proxy-Authorization")):
            connection.sendall(answer(407, headers={"Proxy-Authenticate": 'Basic realm="scripted"'}))
        elif verb != "CONNECT" or target not in self._routes:
            connection.sendall(answer(502))
        else:
            self._connect(connection, self._routes[target])

    def _connect(self, connection: socket.socket, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.start(_pump, upstream, connection)
            _pump(connection, upstream)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until one side ends."""
    try:
        while data := source.recv(RECEIVED):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one of the two has gone, which is the end for both
