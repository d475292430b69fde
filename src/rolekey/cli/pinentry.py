"""A question in a window: pinentry, spoken to in its own protocol (Assuan, as libassuan's manual describes it).

The PIN comes over a pipe and never stands on a command line; what is asked goes over the pipe too.
"""

import logging
import os
import re
from contextlib import suppress
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from rolekey.cli.process import kill_group
from rolekey.deadline import Deadline
from rolekey.errors import PinRequiredError, printable
from rolekey.secret import Secret

if TYPE_CHECKING:
    import subprocess

log = logging.getLogger(__name__)

# A line has at most 1000 bytes, its end included; a question of so many characters fits, whatever they are.
_MAX_LINE = 1000
_MAX_QUESTION = 230
# GPG_ERR_CANCELED and GPG_ERR_FULLY_CANCELED, below the error's source.
_CANCELLED = (99, 198)
_LINES = 100


class Pinentry:
    """Asks in a window.

    Args:
        program: path of a pinentry.
        deadline: how long an answer may take.
    """

    def __init__(self, program: str, deadline: Deadline) -> None:
        self._program = program
        self._deadline = deadline

    def ask(self, question: str) -> Secret | None:
        """Ask for a secret.

        Args:
            question: one line.

        Returns:
            The answer, or None where the program cannot be started.

        Raises:
            PinRequiredError: the question was cancelled, or the program did not do as a pinentry does.
            DeadlineError: nobody answered in time.
        """
        import subprocess  # noqa: PLC0415 - as above

        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own pinentry, without arguments
                [self._program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # closing a buffered pipe waits for whoever reads it
                start_new_session=True,
            )
        except OSError as error:
            log.debug("%s cannot be started: %s", self._program, error.strerror)
            return None
        try:
            return self._deadline.run("an answer in pinentry's window", lambda: self._dialogue(process, question))
        finally:
            _kill(process)
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]  # both were asked for

    def _dialogue(self, process: "subprocess.Popen[bytes]", question: str) -> Secret:
        assert process.stdin is not None  # noqa: S101 - asked for
        assert process.stdout is not None  # noqa: S101 - as above
        self._expect_ok(process.stdout)
        for line in (
            f"OPTION lc-ctype={os.environ.get('LC_CTYPE') or 'C.UTF-8'}",
            f"SETTIMEOUT {max(1, int(self._deadline.remaining()))}",
            "SETTITLE rolekey",
            f"SETDESC {escaped(printable(question)[:_MAX_QUESTION].strip())}",
            "SETPROMPT PIN:",
        ):
            self._send(process.stdin, line)
            _, answer = self._answer(process.stdout)
            if not answer.startswith("OK"):
                log.debug("pinentry does not take %s", line.partition(" ")[0])
        self._send(process.stdin, "GETPIN")
        data, answer = self._answer(process.stdout)
        if answer.startswith("OK"):
            # Lone surrogates stand for what is no UTF-8; a decoder's error would hold the answer.
            text = unquote_to_bytes(data).decode("utf-8", "surrogateescape")
            if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
                raise self._failed("its answer is not UTF-8")
            return Secret(text)
        code = re.match(r"ERR (\d{1,10})", answer)
        if code and int(code[1]) & 0xFFFF in _CANCELLED:
            raise PinRequiredError("the question for the PIN was cancelled", hint="run the command again")
        raise self._failed(f"error {code[1]}" if code else "it says nothing that a pinentry says")

    def _expect_ok(self, stream: IO[bytes]) -> None:
        if not self._answer(stream)[1].startswith("OK"):
            raise self._failed("it says nothing that a pinentry says")

    def _send(self, stream: IO[bytes], line: str) -> None:
        try:
            stream.write(line.encode() + b"\n")
            stream.flush()
        except OSError:
            raise self._failed("it ended") from None

    def _answer(self, stream: IO[bytes]) -> tuple[bytes, str]:
        """The data of an answer, escaped as it came, and its last line."""
        data = b""
        for _ in range(_LINES):
            line = stream.readline(_MAX_LINE + 1)
            if not line.endswith(b"\n"):
                raise self._failed("it says nothing that a pinentry says" if line else "it ended")
            line = line.rstrip(b"\r\n")
            if line.startswith(b"D "):
                data += line[2:]
            elif line == b"OK" or line.startswith((b"OK ", b"ERR ")):
                return data, line.decode("utf-8", "replace")
            elif not (line.startswith((b"S ", b"#")) or line in (b"", b"S", b"D")):
                break
        raise self._failed("it says nothing that a pinentry says")

    def _failed(self, why: str) -> PinRequiredError:
        return PinRequiredError(
            f"{self._program} gave no PIN: {why}",
            hint="name a pinentry that works here in PINENTRY, or configure a source with --pin-source",
        )


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(OSError):
        kill_group(process)  # a pinentry may be a script around the real one
    process.wait()


def escaped(text: str) -> str:
    r"""A text as an argument of an Assuan command.

    Returns:
        The text without anything that a terminal or a window would obey, with ``%`` as ``%25``.
    """
    return printable(text).replace("%", "%25")
