"""A service that does what a script says, well or badly, on a socket of this machine.

    with ScriptedService((answer(403, b"{}"),)) as service:
        ...                        # a client of service.url
    service.requests[0].header("X-Amz-Date")

A script is what happens on one connection, once its request has been read: bytes are sent as they are, a `Pause`
waits, a `Drip` sends a byte at a time, a `Flood` repeats itself, `RESET` breaks the connection off, and the end of the
script closes it. The first connection gets the first script and so on; the last one serves all further connections.
"""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, TypeAlias

from support.listener import Listener, RawRequest, ResetConnection, ServerTLS, read_request

FOREVER: Final = 600.0  # seconds; every pause ends when the service is closed


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


class ScriptedService(Listener):
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

    def follow(self, *script: Step) -> None:
        """Go over to another script, for all connections from now on.

        Args:
            script: its steps.
        """
        self._scripts = (script,)

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
        request = read_request(connection)
        if request is None:
            return
        self.requests.append(request)
        for step in self._scripts[min(number, len(self._scripts) - 1)]:
            self._do(connection, step)

    def _do(self, connection: socket.socket, step: Step) -> None:
        if isinstance(step, Pause):
            self.over.wait(step.seconds)
        elif isinstance(step, Break):
            raise ResetConnection
        else:
            for data, seconds in _pieces(step):
                if seconds and self.over.wait(seconds):
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
