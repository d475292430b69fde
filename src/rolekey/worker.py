"""A child process that owns the PKCS#11 modules of a long-lived parent.

A module that hangs, crashes, writes to stdout or cannot be forked takes nothing down with it: the child is started by
exec, killed when it does not answer in time, and started again for the next identity. The PIN travels over its pipe
only: from a descriptor or a variable, which are the parent's, it is read there, once.

The parent sends pickles, which the child trusts; the child, in which other people's code runs, answers in JSON.
"""

import base64
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rolekey import errors
from rolekey.config import Settings
from rolekey.credentials import Credentials, Fetched
from rolekey.deadline import Deadline
from rolekey.errors import RolekeyError, TokenOperationError, error_to_document
from rolekey.forks import renew_after_fork
from rolekey.interaction import Interaction
from rolekey.pin_source import PinSource
from rolekey.pins import KeptPin, Pin, PinReader
from rolekey.worker_pipe import END, KEPT, dump, load_error, read, write

if TYPE_CHECKING:
    from rolekey.identity import SigningIdentity
    from rolekey.signers.base import HashName

# How long a child that is not asked for anything may take to end by itself.
_END_SECONDS = 2.0
_LAST_EXIT_CODE = 255


class Worker:
    """The parent's end. It is safe for threads; one request is under way at a time.

    A process that is forked gets a child of its own, and never speaks to its parent's; it knows the PIN that was read.

    Args:
        interaction: answers the child's questions (PIN, passphrase).
        kept_pins: PINs that this process keeps, which others share; none yet if not given.
    """

    def __init__(self, interaction: Interaction, kept_pins: dict[PinSource, KeptPin] | None = None) -> None:
        self._interaction = interaction
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._kept_pins = {} if kept_pins is None else kept_pins
        self._kept: KeptPin | None = None
        renew_after_fork(self)

    def renew(self) -> None:
        """Let the parent have its child, as Renewable.renew() says."""
        self._lock = threading.RLock()
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0  # it is not ours to wait for
            _close_pipes(process)
        for pin in self._kept_pins.values():
            pin.renew()

    def open_identity(self, settings: Settings, deadline: Deadline) -> "SigningIdentity":
        """identity.open_identity() in the child; an identity that was open there is closed.

        Args:
            settings: where certificate and key are.
            deadline: for finding them and, later, for each signature.

        Raises:
            RolekeyError: as identity.open_identity(), with the same classes; TokenOperationError where the child ended.
        """
        # Not for a parent that only fetches, which stays small.
        from rolekey import identity  # noqa: PLC0415
        from rolekey.certificates import load_certificate  # noqa: PLC0415

        with self._lock:
            self._kept = self._keep_pin(settings.pin_source)
            answer = self._request(deadline, "open", settings)
        certificate, *chain = (
            load_certificate(base64.b64decode(text)) for text in (answer["certificate"], *answer["chain"])
        )
        signer = _RemoteSigner(self, deadline)
        # The child has opened nothing else where that is required.
        required = settings.require_non_exportable
        return identity.SigningIdentity(certificate, tuple(chain), signer, non_exportable=required)

    def fetch(self, settings: Settings, deadline: Deadline) -> Fetched:
        """One CreateSession in the child: certificate and key are found anew, and one signature is made.

        Args:
            settings: what is asked, of whom, with which key.
            deadline: for all of it.

        Raises:
            RolekeyError: as open_identity() here and create_session.request_credentials().
        """
        with self._lock:
            self._kept = self._keep_pin(settings.pin_source)
            answer = self._request(deadline, "fetch", settings)
        key_id, secret, token = (str(answer[name]) for name in ("access_key_id", "secret_access_key", "session_token"))
        expires, certificate_expires = (
            datetime.fromtimestamp(float(answer[name]), UTC) for name in ("expires", "certificate_expires")
        )
        return Fetched(Credentials(key_id, secret, token, expires), certificate_expires)

    def sign(self, message: bytes, hash_name: "HashName", deadline: Deadline) -> bytes:
        """Sign with the identity that is open in the child."""
        answer = self._request(deadline, "sign", message, hash_name)
        return base64.b64decode(answer["signature"])

    def close_identity(self) -> None:
        """Close the identity that is open in the child, if there is one."""
        with self._lock, contextlib.suppress(RolekeyError):
            if self._process is not None:
                self._request(Deadline(5.0), "close")

    def close(self) -> None:
        """End the child: by itself, so that it leaves nothing in its token, or by force where that takes long."""
        if self._lock.acquire(timeout=_END_SECONDS):
            try:
                process = self._process
                if process is not None and process.stdin is not None:
                    with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
                        # Said, and not only by the pipe's end, which a process that was forked may hold open.
                        write(process.stdin, dump((END,)))
                        process.stdin.close()
                        process.wait(_END_SECONDS)
            finally:
                self._lock.release()
        self._kill()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            _close_pipes(process)

    def claim(self, settings: Settings) -> None:
        """Take the PIN out of its variable, so that no child of this process has it, whoever starts one.

        Args:
            settings: may name one.
        """
        with self._lock:
            self._keep_pin(settings.pin_source)

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
                answer = deadline.run("the token's process", lambda: self._exchange(process, request, deadline))
            except (errors.DeadlineError, OSError, EOFError, ValueError) as error:
                if isinstance(error, errors.DeadlineError):
                    self._kill()
                    raise
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)  # its pipe is closed before it has quite ended
                code = process.poll()
                self._kill()
                raise TokenOperationError(
                    f"the process that uses the token ended ({_ending(code)})",
                    hint="the PKCS#11 module has probably crashed; the next attempt starts it anew",
                ) from error
        if "error" in answer:
            raise load_error(answer["error"])
        return answer

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes, deadline: Deadline) -> Mapping[str, Any]:
        assert process.stdin is not None  # noqa: S101 - for the type
        assert process.stdout is not None  # noqa: S101 - for the type
        write(process.stdin, request)
        while True:
            answer: Mapping[str, Any] = json.loads(read(process.stdout))
            if "ask" in answer:
                write(process.stdin, dump(self._interaction.ask(str(answer["ask"]), str(answer["opens"]))))
            elif "read_pin" in answer:
                write(process.stdin, dump(self._read_pin()))
            elif "pin_usable" in answer and self._kept is not None:
                self._kept.note(usable=answer["pin_usable"] is True)
            elif "remind" in answer:
                self._interaction.remind(str(answer["remind"]))
            elif "person_expected" in answer:
                deadline.expect_person()
            else:
                return answer

    def _read_pin(self) -> Pin | dict[str, Any] | None:
        try:
            return self._kept.read() if self._kept is not None else None
        except RolekeyError as error:
            return error_to_document(error)


class _RemoteSigner:
    """A Signer whose key the child has open."""

    public_key = None

    def __init__(self, worker: Worker, deadline: Deadline) -> None:
        self._worker = worker
        self._deadline = deadline

    def sign(self, message: bytes, *, hash: "HashName" = "sha256") -> bytes:  # noqa: A002 - the word of the field
        return self._worker.sign(message, hash, self._deadline)

    def close(self) -> None:
        self._worker.close_identity()


def _close_pipes(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]  # both are pipes


def _start() -> subprocess.Popen[bytes]:
    # -P: nothing is imported from the directory in which the parent happens to stand.
    words = [sys.executable, "-P", "-m", "rolekey.worker_child"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603 - our own


def _ending(code: int | None) -> str:
    if code is None:
        return "it answers nothing that can be understood"
    if code > _LAST_EXIT_CODE:  # Windows: what the process was ended for, as its documents write it
        return f"status 0x{code:08X}"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
