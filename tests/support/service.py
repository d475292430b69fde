"""A service and a forward proxy that do what a script says, well or badly, on sockets of this machine.

    with ScriptedService((answer(403, b"{}"),)) as service:
        ...                        # a client of service.url
    service.requests[0].header("X-Amz-Date")

A script is what happens on one connection, once its request has been read: bytes are sent as they are, a `Pause`
waits, a `Drip` sends a byte at a time, a `Flood` repeats itself, `RESET` breaks the connection off, and the end of the
script closes it. The first connection gets the first script and so on; the last one serves all further connections.
"""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from cryptography import x509

from support.pki import Issued, make_root

FOREVER: Final = 600.0  # seconds; every pause ends when the service is closed
_RECEIVED = 65536


@dataclass(frozen=True)
class Pause:
    """Nothing for some seconds."""

    seconds: float = FOREVER


@dataclass(frozen=True)
class Drip:
    """Bytes, one at a time, each after some seconds."""

    data: bytes
    seconds: float = 0.2


@dataclass(frozen=True)
class Flood:
    """The same bytes over and over; without a number of times until the client goes."""

    data: bytes
    times: int | None = None


class Break(Enum):
    """Ends of a connection that are no ordinary end."""

    RESET = "a TCP reset"


RESET: Final = Break.RESET
HANG: Final = Pause()
Step: TypeAlias = bytes | Pause | Drip | Flood | Break
Script: TypeAlias = Sequence[Step]


def answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, length: int = -1) -> bytes:
    """An HTTP answer.

    Args:
        status: the status.
        body: the body.
        headers: besides Content-Length, which is left out where it is here with an empty value.
        length: the Content-Length; the body's own unless given.

    Returns:
        All its bytes.
    """
    fields = {"Content-Length": str(len(body) if length < 0 else length)} | dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode("latin-1") + body


def session_document(role_arn: str, **credentials: object) -> dict[str, Any]:
    """The document of a CreateSession that succeeded, good for an hour.

    Args:
        role_arn: the role.
        credentials: in place of the usual values; None leaves the field out.
    """
    fields: dict[str, object] = {
        "accessKeyId": "ASIAEXAMPLEEXAMPLE00",
        "secretAccessKey": "example-secret-access-key",
        "sessionToken": "example-session-token",
        "expiration": f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
    } | credentials
    given = {name: value for name, value in fields.items() if value is not None}
    return {"credentialSet": [{"credentials": given, "roleArn": role_arn}], "subjectArn": "arn:aws:example"}


def session_answer(role_arn: str, **credentials: object) -> bytes:
    """The 201 that carries a `session_document`; the arguments are the same."""
    body = json.dumps(session_document(role_arn, **credentials)).encode()
    return answer(201, body, {"Content-Type": "application/json"})


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


class _ResetError(Exception):
    """The script wants the connection broken off."""


class _Listener:
    """Accepts connections in a thread and serves each in one of its own, until it is closed."""

    def __init__(self, host: str) -> None:
        self._over = threading.Event()
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
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End everything. A connection to the address is refused from now on."""
        self._over.set()
        _shut(self._socket)
        with self._lock:
            for connection in self._open:
                _shut(connection)
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Any, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="scripted service", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            number = self.connections
            self.connections += 1
            with self._lock:
                self._open.append(connection)
            self._start(self._guarded, connection, number)

    def _guarded(self, connection: socket.socket, number: int) -> None:
        try:
            self.serve(connection, number)
        except _ResetError:
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


def _read_request(connection: socket.socket) -> RawRequest | None:
    """One request, None where the client went away in the middle of it."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(_RECEIVED)
        if not data:
            return None
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(RawRequest(head).header("Content-Length") or 0)
    while len(body) < length:
        data = connection.recv(_RECEIVED)
        if not data:
            return None
        body += data
    return RawRequest(head, body)


class ScriptedService(_Listener):
    """An HTTP or HTTPS server that answers each connection by its script.

    Args:
        scripts: one for each connection; the last one for all further ones. Without any, a request is read and
            nothing follows.
        tls: None for plain HTTP.
        host: an address of this machine.
    """

    def __init__(self, *scripts: Script, tls: ServerTLS | None = None, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self._scripts = scripts or ((HANG,),)
        self._tls = tls
        #: What was received, in order.
        self.requests: list[RawRequest] = []

    @property
    def url(self) -> str:
        """The base URL, without a final slash."""
        return f"{'https' if self._tls else 'http'}://{self.address}"

    def serve(self, connection: socket.socket, number: int) -> None:
        """Read one request and follow the script."""
        if self._tls is None:
            self._converse(connection, number)
            return
        with self._tls.context.wrap_socket(connection.dup(), server_side=True) as secured:
            self._converse(secured, number)

    def _converse(self, connection: socket.socket, number: int) -> None:
        request = _read_request(connection)
        if request is None:
            return
        self.requests.append(request)
        for step in self._scripts[min(number, len(self._scripts) - 1)]:
            self._do(connection, step)

    def _do(self, connection: socket.socket, step: Step) -> None:
        if isinstance(step, Pause):
            self._over.wait(step.seconds)
        elif isinstance(step, Break):
            raise _ResetError
        else:
            for data, seconds in _pieces(step):
                if seconds and self._over.wait(seconds):
                    return
                connection.sendall(data)


def _pieces(step: bytes | Drip | Flood) -> Iterator[tuple[bytes, float]]:
    if isinstance(step, Drip):
        yield from ((bytes([byte]), step.seconds) for byte in step.data)
    elif isinstance(step, Flood):
        number = 0
        while step.times is None or number < step.times:
            yield step.data, 0.0
            number += 1
    else:
        yield step, 0.0


class ScriptedProxy(_Listener):
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
        request = _read_request(connection)
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
            self._start(_pump, upstream, connection)
            _pump(connection, upstream)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until one side ends."""
    try:
        while data := source.recv(_RECEIVED):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one of the two has gone, which is the end for both
