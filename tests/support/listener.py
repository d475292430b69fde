"""What a scripted service and a scripted proxy are made of: a listening socket, raw requests, a server's TLS."""

import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cryptography import x509

from support.pki import Issued, make_root

RECEIVED: Final = 65536  # bytes that are received at once


@dataclass(frozen=True)
class RawRequest:
    """A request as it came over the wire.

    Args:
        head: up to and without the empty line.
        body: what followed, as far as Content-Length says.
    """

    head: bytes
    body: bytes = b""

    @property
    def raw(self) -> bytes:
        """All its bytes."""
        return self.head + b"\r\n\r\n" + self.body

    @property
    def request_line(self) -> str:
        """The first line."""
        return self.head.split(b"\r\n")[0].decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values as they were written, in order."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def header(self, name: str) -> str | None:
        """The one value of a header, None where there is none.

        Args:
            name: in any case.
        """
        values = [value for found, value in self.headers if found.lower() == name.lower()]
        if len(values) > 1:
            raise AssertionError(f"{name} was sent {len(values)} times")
        return values[0] if values else None


@dataclass(frozen=True)
class ServerTLS:
    """A server's side of TLS, and what a client has to trust.

    Args:
        context: for the server.
        ca: PEM file of the CA.
        certificate: PEM file of the server's certificate.
        key: PEM file of its key.
    """

    context: ssl.SSLContext
    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, directory: Path, *names: str) -> Self:
        """A certificate of a throw-away CA.

        Args:
            directory: an existing directory for the files.
            names: host names and addresses; 127.0.0.1 and localhost if there are none.
        """
        directory.mkdir(parents=True, exist_ok=True)
        leaf = _server_certificate(names or ("127.0.0.1", "localhost"))
        assert leaf.root is not None
        certificate, key = leaf.write(directory, "server")
        ca = directory / "server-ca.pem"
        ca.write_bytes(Issued(leaf.root, leaf.key).pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return cls(context, ca, certificate, key)


def _server_certificate(names: Sequence[str]) -> Issued:
    root = make_root(common_name="Test server CA")
    # Python 3.13 verifies strictly: key identifiers have to be there.
    identifier = x509.SubjectKeyIdentifier.from_public_key(root.key.public_key())
    root = make_root(root.key, "Test server CA", extensions=((identifier, False),))
    return root.issue(
        common_name="Test server",
        alternative_names=[_general_name(name) for name in names],
        extensions=((x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class ResetConnection(Exception):  # noqa: N818 - an order, not an error
    """The script wants the connection broken off."""


class Listener:
    """Accepts connections in a thread and serves each in one of its own, until it is closed."""

    def __init__(self, host: str) -> None:
        #: Set when everything is to end.
        self.over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._socket = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.host = host
        #: The port that is listened on.
        self.port: int = self._socket.getsockname()[1]
        #: How many connections were accepted.
        self.connections = 0

    @property
    def address(self) -> str:
        """Host and port, as a URL has them."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __enter__(self) -> Self:
        self.start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End everything. A connection to the address is refused from now on."""
        self.over.set()
        _shut(self._socket)
        with self._lock:
            for connection in self._open:
                _shut(connection)
        for thread in self._threads:
            thread.join(10)

    def start(self, target: Any, *arguments: object) -> threading.Thread:
        """Run a function in a thread that `close` waits for."""
        thread = threading.Thread(target=target, args=arguments, name="scripted service", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            number = self.connections
            self.connections += 1
            with self._lock:
                self._open.append(connection)
            self.start(self._guarded, connection, number)

    def _guarded(self, connection: socket.socket, number: int) -> None:
        try:
            self.serve(connection, number)
        except ResetConnection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        except OSError:
            pass  # the client has gone, or is no TLS client
        finally:
            _shut(connection)

    def serve(self, connection: socket.socket, number: int) -> None:
        """Serve one connection; it is closed afterwards.

        Args:
            connection: just accepted.
            number: of the connection, from 0.
        """
        raise NotImplementedError


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
    except OSError:
        pass
    finally:
        connection.close()


def read_request(connection: socket.socket) -> RawRequest | None:
    """One request, None where the client went away in the middle of it."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(RECEIVED)
        if not data:
            return None
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(RawRequest(head).header("Content-Length") or 0)
    while len(body) < length:
        data = connection.recv(RECEIVED)
        if not data:
            return None
        body += data
    return RawRequest(head, body)
