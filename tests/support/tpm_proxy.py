"""A UNIX socket in front of a TPM, as TPM_DEVICE may name one: it counts, overhears, and answers for the TPM.

Each connection brings one command. What a test does not script goes to the TPM and back as it is.
"""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from support.swtpm import SWTPM

CREATE_PRIMARY, LOAD, SIGN, FLUSH_CONTEXT, READ_PUBLIC = 0x131, 0x157, 0x15D, 0x165, 0x173
START_AUTH_SESSION, GET_CAPABILITY = 0x176, 0x17A
_HEADER = 10
# Gets the command and a function that asks the TPM; what it returns is sent, and None closes the connection.
Behaviour = Callable[[bytes, Callable[[bytes], bytes]], bytes | None]


class TPMProxy:
    """The socket.

    Args:
        tpm: the TPM behind it.
        path: of the socket.

    Attributes:
        commands: how often each command was sent, by TPM_CC.
        overheard: everything that was said, in both directions.
    """

    def __init__(self, tpm: SWTPM, path: Path) -> None:
        self.path = path
        self.commands: Counter[int] = Counter()
        self.overheard = b""
        self._tpm = tpm
        self._scripts: dict[int, list[Behaviour]] = {}
        self._mutex = threading.Lock()
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(64)

    def script(self, code: int, behaviour: Behaviour, times: int = 1) -> None:
        """Have something done with the next commands of a kind instead of passing them on.

        Args:
            code: TPM_CC.
            behaviour: what is done.
            times: with how many of them.
        """
        self._scripts.setdefault(code, []).extend([behaviour] * times)

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # accept() does not notice that the socket is closed.
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            command = _read_message(connection)
            code = int.from_bytes(command[6:10])
            with self._mutex:
                self.commands[code] += 1
                self.overheard += command
                scripted = self._scripts.get(code)
                behaviour = scripted.pop(0) if scripted else None
            response = behaviour(command, self._ask) if behaviour else self._ask(command)
            if response is not None:
                self.overheard += response
                connection.sendall(response)

    def _ask(self, command: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._tpm.port), 60) as tpm:
            tpm.sendall(command)
            return _read_message(tpm)


def answering(code: int) -> Behaviour:
    """Answers in place of the TPM.

    Args:
        code: TPM_RC.
    """
    return lambda _command, _ask: b"\x80\x01" + _HEADER.to_bytes(4) + code.to_bytes(4)


def vanishing(command: bytes, ask: Callable[[bytes], bytes]) -> None:
    """Closes the connection without an answer: the TPM has not seen the command."""


def breaking_off(command: bytes, ask: Callable[[bytes], bytes]) -> bytes:
    """Gives half of the TPM's answer."""
    response = ask(command)
    return response[: len(response) // 2]


@contextmanager
def holding_back() -> Iterator[tuple[Behaviour, threading.Event, threading.Event]]:
    """A behaviour that passes the command on, and holds its answer back.

    Returns:
        The behaviour, an event that says when it has an answer, and one that lets the answer go.
    """
    reached, go = threading.Event(), threading.Event()

    def behaviour(command: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        response = ask(command)
        reached.set()
        go.wait(60)
        return response

    try:
        yield behaviour, reached, go
    finally:
        go.set()


@contextmanager
def proxy_of(tpm: SWTPM, directory: Path) -> Iterator[TPMProxy]:
    """A proxy for the length of a with block.

    Args:
        tpm: the TPM behind it.
        directory: for the socket.
    """
    with TPMProxy(tpm, directory / "tpm-socket") as proxy:
        yield proxy


def _read_message(connection: socket.socket) -> bytes:
    message = _read_exactly(connection, _HEADER)
    return message + _read_exactly(connection, int.from_bytes(message[2:6]) - _HEADER)


def _read_exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
