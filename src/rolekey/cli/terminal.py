"""The person at the terminal, and what of the process's output they and the SDK get to see."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from rolekey.cli import console
from rolekey.deadline import Deadline
from rolekey.errors import PinRequiredError, printable
from rolekey.secret import Secret


class Terminal:
    """Asks on the controlling terminal, or in a window where there is a display and no terminal.

    stdin, stdout and stderr belong to the SDK that started us.

    Args:
        deadline: how long an answer may take.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def ask(self, question: str, opens: str) -> Secret | None:  # noqa: ARG002 - the question says it
        """Ask for a secret without echo, as Interaction.ask() says."""
        if not console.has_terminal():
            program = pinentry_program(os.environ)
            if program is None:
                return None
            from rolekey.cli.pinentry import Pinentry  # noqa: PLC0415 - slow to import; mostly nobody is asked

            self._deadline.expect_person()
            with signals_raise():
                return Pinentry(program, self._deadline).ask(question)
        self._deadline.expect_person()
        try:
            # The echo comes back whatever ends the question: an answer, the deadline, Ctrl-C or another signal.
            with console.restored(), signals_raise():
                return Secret(
                    self._deadline.run("an answer on the terminal", lambda: console.read_hidden(printable(question)))
                )
        except EOFError:
            raise PinRequiredError("nothing was entered on the terminal", hint="run the command again") from None

    def remind(self, text: str) -> None:
        """Write a line on the terminal, and show it on the desktop where there is one."""
        import shutil  # noqa: PLC0415 - slow to import; mostly nobody is told
        import subprocess  # noqa: PLC0415 - as above

        shown = printable(text)
        with suppress(OSError):
            console.write_line(shown)
        program = shutil.which("notify-send") if os.environ.get("DBUS_SESSION_BUS_ADDRESS") else None
        if program is not None:
            # Not waited for: a desktop that does not answer must not hold up the signature.
            with suppress(OSError):
                subprocess.Popen(  # noqa: S603 - the text is one argument, after the end of the options
                    [program, "--app-name=rolekey", "--", "rolekey", shown],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )


def can_ask() -> bool:
    """Whether there is somebody who can be asked: a terminal, or a display with a pinentry."""
    return console.has_terminal() or pinentry_program(os.environ) is not None


def pinentry_program(environment: Mapping[str, str]) -> str | None:
    """The pinentry of this desktop: the one that PINENTRY names, else the one that is called so.

    Args:
        environment: the process's.

    Returns:
        Its path; None where there is no display or no such program.
    """
    if not (environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")):
        return None
    import shutil  # noqa: PLC0415 - slow to import; mostly there is no display

    return shutil.which(environment.get("PINENTRY") or "pinentry", path=environment.get("PATH"))


@contextmanager
def signals_raise() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end a with block as an exception does, so that what it holds is put in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    from rolekey.cli.process import ENDING_SIGNALS  # noqa: PLC0415 - not for one that asks nobody

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back what ends the process from outside, for the length of a block; it comes after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    from rolekey.cli.process import ENDING_SIGNALS  # noqa: PLC0415 - as above

    came: list[int] = []
    numbers = (signal.SIGINT, *ENDING_SIGNALS)
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def shield_output(*, debug: bool) -> None:
    """Keep what a PKCS#11 module writes on file descriptors 1 and 2 from the SDK; for a process that ends soon.

    sys.stdout and sys.stderr go on to where they went; the descriptors themselves lead to nowhere from now on (with
    debug, to stderr).

    Args:
        debug: the user wants to see what the module says.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    output, errors = os.dup(1), os.dup(2)
    if debug:
        os.dup2(2, 1)
    else:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)
    sys.stdout = os.fdopen(output, "w", encoding="utf-8")
    sys.stderr = os.fdopen(errors, "w", encoding="utf-8", errors="backslashreplace", buffering=1)


def unshield_output() -> None:
    """Undo shield_output(): descriptors 1 and 2 lead to where they led before."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        os.dup2(stream.fileno(), number)


class _DebugFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"rolekey: debug: {record.relativeCreated:7.0f} ms  {printable(record.getMessage())}"


def trace_to_stderr() -> None:
    """Show rolekey's own log, and no library's, on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_DebugFormatter())
    logger = logging.getLogger("rolekey")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
