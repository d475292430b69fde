"""The child's end of a worker: it runs open_identity() and CreateSession beside other people's code.

It takes pickles from its parent, which it trusts, and answers in JSON.
"""

import base64
import json
import os
import pickle
import sys
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.config import Settings
from rolekey.deadline import Deadline
from rolekey.errors import RolekeyError, error_to_document
from rolekey.fetch import fetch
from rolekey.identity import SigningIdentity, open_identity
from rolekey.pins import Pin
from rolekey.secret import Secret, guard_memory
from rolekey.worker_pipe import END, KEPT, load_error, read, write

_PR_SET_PDEATHSIG = 1
# How often it is looked whether the parent is still there, where the system does not tell.
_PIPE_SECONDS = 1.0


class _ParentInteraction:
    """Asks the parent."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader = reader
        self._writer = writer

    def ask(self, question: str, opens: str) -> Secret | None:
        write(self._writer, json.dumps({"ask": question, "opens": opens}).encode())
        answer: Secret | None = pickle.loads(read(self._reader))  # noqa: S301 - from our parent
        return answer

    def remind(self, text: str) -> None:
        write(self._writer, json.dumps({"remind": text}).encode())


class _ParentPins:
    """The PIN that the parent keeps."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader = reader
        self._writer = writer

    def read(self) -> Pin | None:
        write(self._writer, json.dumps({"read_pin": True}).encode())
        answer: Pin | dict[str, Any] | None = pickle.loads(read(self._reader))  # noqa: S301 - from our parent
        if isinstance(answer, dict):
            raise load_error(answer)
        return answer

    def note(self, *, usable: bool) -> None:
        write(self._writer, json.dumps({"pin_usable": usable}).encode())


class _Child:
    """The child's end."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader = reader
        self._writer = writer
        self._identity: SigningIdentity | None = None

    def run(self) -> None:
        """Answer requests until the parent is gone."""
        while True:
            try:
                request = pickle.loads(read(self._reader))  # noqa: S301 - from our parent
            except EOFError:
                return
            if request[0] == END:
                return
            try:
                answer = self._answer(*request)
            except RolekeyError as error:
                answer = {"error": error_to_document(error)}
            write(self._writer, json.dumps(answer).encode())

    def _answer(self, operation: str, seconds: float, *arguments: Any) -> dict[str, Any]:
        if operation == "open":
            return self._open(arguments[0], Deadline(seconds))
        if operation == "fetch":
            return self._fetch(arguments[0], Deadline(seconds))
        if operation == "sign" and self._identity is not None:
            message, hash_name = arguments
            signature = self._identity.signer.sign(message, hash=hash_name)
            return {"signature": base64.b64encode(signature).decode()}
        self._close()
        return {}

    def _open(self, settings: Settings, deadline: Deadline) -> dict[str, Any]:
        self._close()
        self._identity = open_identity(settings, self._interaction(), deadline, pins=self._pins(settings))
        certificates = (self._identity.certificate, *self._identity.chain)
        first, *rest = (base64.b64encode(c.public_bytes(Encoding.DER)).decode() for c in certificates)
        return {"certificate": first, "chain": rest}

    def _fetch(self, settings: Settings, deadline: Deadline) -> dict[str, Any]:
        self._close()
        deadline.when_person_expected(lambda: write(self._writer, json.dumps({"person_expected": True}).encode()))
        fetched = fetch(settings, self._interaction(), deadline, pins=self._pins(settings))
        credentials, until = fetched.credentials, fetched.certificate_expires
        assert until is not None  # noqa: S101 - for the type
        return {
            "access_key_id": credentials.access_key_id,
            "secret_access_key": credentials.secret_access_key,
            "session_token": credentials.session_token,
            "expires": credentials.expiration.timestamp(),
            "certificate_expires": until.timestamp(),
        }

    def _interaction(self) -> _ParentInteraction:
        return _ParentInteraction(self._reader, self._writer)

    def _pins(self, settings: Settings) -> _ParentPins | None:
        source = settings.pin_source
        keeps = source is not None and source.kind in KEPT
        return _ParentPins(self._reader, self._writer) if keeps else None

    def _close(self) -> None:
        identity, self._identity = self._identity, None
        if identity is not None:
            identity.close()


def _die_with_parent(reader: BinaryIO) -> None:
    """A module that hangs must not outlive the parent; on macOS the closed pipe has to do."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - for this alone
        import signal  # noqa: PLC0415 - for this alone

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if sys.platform == "win32":
        import threading  # noqa: PLC0415 - for this alone

        threading.Thread(target=_end_with_pipe, args=(reader,), daemon=True).start()


def _end_with_pipe(reader: BinaryIO) -> None:
    """End the process when nobody holds the pipe's other end; while the pipe is being read, that read sees it."""
    if sys.platform == "win32":
        import _winapi  # noqa: PLC0415 - Windows only
        import msvcrt  # noqa: PLC0415 - Windows only
        import time  # noqa: PLC0415 - for this alone

        pipe = msvcrt.get_osfhandle(reader.fileno())
        try:
            while True:
                _winapi.PeekNamedPipe(pipe, 0)
                time.sleep(_PIPE_SECONDS)
        except OSError:
            # Not os._exit(), which has the module say good-bye: it hangs.
            _winapi.TerminateProcess(_winapi.GetCurrentProcess(), 1)


def main() -> None:
    """The child's entry: requests on stdin, answers on stdout; what a module writes there goes nowhere."""
    guard_memory()
    reader, writer = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    _die_with_parent(reader)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    _Child(reader, writer).run()
    os._exit(0)


if __name__ == "__main__":
    main()
