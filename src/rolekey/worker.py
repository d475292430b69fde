"""A child process that owns the PKCS#11 modules of a long-lived parent.

A module that hangs, crashes, writes to stdout or cannot be forked takes nothing down with it: the child is started by
exec, killed when it does not answer in time, and started again for the next identity. The PIN travels over its pipe
only: from a descriptor or a variable, which are the parent's, it is read there, once.

The parent sends pickles, which the child trusts; the child, in which other people's code runs, answers in JSON.
"""

import base64
import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.serialization import Encoding

from rolekey import errors
from rolekey.certificates import load_certificate
from rolekey.config import Settings
from rolekey.deadline import Deadline
from rolekey.errors import RolekeyError, TokenOperationError
from rolekey.identity import SigningIdentity, open_identity
from rolekey.interaction import Interaction
from rolekey.pin_source import PinSource
from rolekey.pins import KeptPin, Pin, PinReader
from rolekey.secret import Secret
from rolekey.signers.base import HashName
from rolekey.worker_pipe import dump, dump_error, load_error, read, write

# Sources that are the parent's, and can be read once.
KEPT = ("fd", "env")
_PR_SET_PDEATHSIG = 1


class Worker:
    """The parent's end. It is safe for threads; one request is under way at a time.

    Args:
        interaction: answers the child's questions (PIN, passphrase).
    """

    def __init__(self, interaction: Interaction) -> None:
        self._interaction = interaction
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._kept_pins: dict[PinSource, KeptPin] = {}
        self._kept: KeptPin | None = None

    def open_identity(self, settings: Settings, deadline: Deadline) -> SigningIdentity:
        """identity.open_identity() in the child; an identity that was open there is closed.

        Args:
            settings: where certificate and key are.
            deadline: for finding them and, later, for each signature.

        Raises:
            RolekeyError: as identity.open_identity(), with the same classes; TokenOperationError where the child ended.
        """
        with self._lock:
            self._kept = self._keep_pin(settings.pin_source)
            answer = self._request(deadline, "open", settings)
        certificate, *chain = (
            load_certificate(base64.b64decode(text)) for text in (answer["certificate"], *answer["chain"])
        )
        return SigningIdentity(certificate, tuple(chain), _RemoteSigner(self, deadline))

    def sign(self, message: bytes, hash_name: HashName, deadline: Deadline) -> bytes:
        """Sign with the identity that is open in the child."""
        answer = self._request(deadline, "sign", message, hash_name)
        return base64.b64decode(answer["signature"])

    def close_identity(self) -> None:
        """Close the identity that is open in the child, if there is one."""
        with self._lock, contextlib.suppress(RolekeyError):
            if self._process is not None:
                self._request(Deadline(5.0), "close")

    def close(self) -> None:
        """End the child."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]  # both are pipes

    def _keep_pin(self, source: PinSource | None) -> KeptPin | None:
        if source is None or source.kind not in KEPT:
            return None
        if source not in self._kept_pins:
            self.close()  # a child that was started before has the variable in its environment
            self._kept_pins[source] = KeptPin(PinReader(source), source)
        return self._kept_pins[source]

    def _request(self, deadline: Deadline, operation: str, *arguments: object) -> Mapping[str, Any]:
        with self._lock:
            if self._process is None:
                self._process = _start()
            process = self._process
            request = dump((operation, deadline.remaining(), *arguments))
            try:
                answer = deadline.run("the token's process", lambda: self._exchange(process, request))
            except (errors.DeadlineError, OSError, EOFError, ValueError) as error:
                if isinstance(error, errors.DeadlineError):
                    self.close()
                    raise
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)  # its pipe is closed before it has quite ended
                code = process.poll()
                self.close()
                raise TokenOperationError(
                    f"the process that uses the token ended ({_ending(code)})",
                    hint="the PKCS#11 module has probably crashed; the next attempt starts it anew",
                ) from error
        if "error" in answer:
            raise load_error(answer["error"])
        return answer

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes) -> Mapping[str, Any]:
        assert process.stdin is not None  # noqa: S101 - for the type
        assert process.stdout is not None  # noqa: S101 - for the type
        write(process.stdin, request)
        while True:
            answer: Mapping[str, Any] = json.loads(read(process.stdout))
            if "ask" in answer:
                write(process.stdin, dump(self._interaction.ask(str(answer["ask"]))))
            elif "read_pin" in answer:
                write(process.stdin, dump(self._read_pin()))
            elif "pin_usable" in answer and self._kept is not None:
                self._kept.note(usable=answer["pin_usable"] is True)
            elif "remind" in answer:
                self._interaction.remind(str(answer["remind"]))
            else:
                return answer

    def _read_pin(self) -> Pin | dict[str, Any] | None:
        try:
            return self._kept.read() if self._kept is not None else None
        except RolekeyError as error:
            return dump_error(error)


class _RemoteSigner:
    """A Signer whose key the child has open."""

    public_key = None

    def __init__(self, worker: Worker, deadline: Deadline) -> None:
        self._worker = worker
        self._deadline = deadline

    def sign(self, message: bytes, *, hash: HashName = "sha256") -> bytes:  # noqa: A002 - the word of the field
        return self._worker.sign(message, hash, self._deadline)

    def close(self) -> None:
        self._worker.close_identity()


def _start() -> subprocess.Popen[bytes]:
    # -P: nothing is imported from the directory in which the parent happens to stand.
    words = [sys.executable, "-P", "-m", "rolekey.worker"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603 - our own


def _ending(code: int | None) -> str:
    if code is None:
        return "it answers nothing that can be understood"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class _ParentInteraction:
    """Asks the parent."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader = reader
        self._writer = writer

    def ask(self, question: str) -> Secret | None:
        write(self._writer, json.dumps({"ask": question}).encode())
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
            try:
                answer = self._answer(*request)
            except RolekeyError as error:
                answer = {"error": dump_error(error)}
            write(self._writer, json.dumps(answer).encode())

    def _answer(self, operation: str, seconds: float, *arguments: Any) -> dict[str, Any]:
        if operation == "open":
            return self._open(arguments[0], Deadline(seconds))
        if operation == "sign" and self._identity is not None:
            message, hash_name = arguments
            signature = self._identity.signer.sign(message, hash=hash_name)
            return {"signature": base64.b64encode(signature).decode()}
        self._close()
        return {}

    def _open(self, settings: Settings, deadline: Deadline) -> dict[str, Any]:
        self._close()
        source = settings.pin_source
        keeps = source is not None and source.kind in KEPT
        pins = _ParentPins(self._reader, self._writer) if keeps else None
        person = _ParentInteraction(self._reader, self._writer)
        self._identity = open_identity(settings, person, deadline, pins=pins)
        certificates = (self._identity.certificate, *self._identity.chain)
        first, *rest = (base64.b64encode(c.public_bytes(Encoding.DER)).decode() for c in certificates)
        return {"certificate": first, "chain": rest}

    def _close(self) -> None:
        identity, self._identity = self._identity, None
        if identity is not None:
            identity.close()


def _die_with_parent() -> None:
    """A module that hangs must not outlive the parent; elsewhere than on Linux the closed pipe has to do."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - for this alone
        import signal  # noqa: PLC0415 - for this alone

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """The child's entry: requests on stdin, answers on stdout; what a module writes there goes nowhere."""
    _die_with_parent()
    reader, writer = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    _Child(reader, writer).run()
    os._exit(0)


if __name__ == "__main__":
    main()
