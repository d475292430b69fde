"""`rolekey` as a user runs it: a process of its own, without a terminal.

No process outlives its test, however that ends: `rolekey` and `running_program` see to it themselves, and what
`start_program` has started is ended by a fixture of every test (tests/conftest.py).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")
# Seconds for --timeout of what is to succeed, on a machine however busy.
GENEROUS: Final = "50"
_FETCHING = ("credential-process", "exec", "login", "serve", "update")


@dataclass(frozen=True)
class Outcome:
    """What a process left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def credentials(self) -> dict[str, Any]:
        """The JSON document on stdout, after checking that there is nothing else."""
        assert self.code == 0, self.stderr
        assert self.stderr == ""
        assert self.stdout.endswith("}\n")
        assert self.stdout.count("\n") == 1
        document: dict[str, Any] = json.loads(self.stdout)
        assert document["Version"] == 1
        return document

    def failed(self, code: int, *words: str) -> None:
        """Check the form of every failure: two lines on stderr, nothing on stdout, the code, the words."""
        assert self.code == code, self.stderr
        assert self.stdout == ""
        lines = self.stderr.splitlines()
        assert len(lines) == 2, self.stderr
        assert lines[0].startswith("rolekey: error: ")
        assert lines[1].startswith("rolekey: hint: ")
        for word in words:
            assert word in self.stderr


def patient(words: Sequence[str]) -> list[str]:
    """A command line with time for a busy machine, unless it says itself how much it has: the default is 4.5 s.

    Args:
        words: after `rolekey`.
    """
    command, *rest = words or ("",)
    if command not in _FETCHING or any(word.startswith("--timeout") for word in rest):
        return list(words)
    return [command, "--timeout", GENEROUS, *rest]


_started: list[subprocess.Popen[str]] = []


def start_program(
    *words: str, environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> subprocess.Popen[str]:
    """Start a program that has no terminal and reads nothing, for finish().

    Args:
        words: the command.
        environment: all of its variables; None for ours.
        directory: where it runs, if not here.
    """
    process = subprocess.Popen(
        words,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _started.append(process)
    return process


def start(
    *args: str,
    environment: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    before: Sequence[str] = (),
    directory: Path | None = None,
    is_patient: bool = True,
) -> subprocess.Popen[str]:
    """Start a command line in a process that has no terminal and inherits no settings of AWS or proxies.

    Args:
        args: the words after `rolekey`.
        environment: variables to add.
        without: variables to take away.
        before: the words of a program that runs the command, such as `unshare`.
        directory: where it runs, if not here.
        is_patient: False leaves it the default --timeout.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    words = [*before, sys.executable, "-m", "rolekey", *(patient(args) if is_patient else args)]
    return start_program(*words, environment={**inherited, **(environment or {})}, directory=directory)


def finish(process: subprocess.Popen[str], timeout: float = 60) -> Outcome:
    """Wait for the end of a process.

    Args:
        process: from start() or start_program().
        timeout: seconds after which it is killed and the test fails.
    """
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    _started.remove(process)
    return Outcome(process.returncode, stdout, stderr)


def end_what_was_started() -> None:
    """Kill the processes whose end a test did not wait for, most likely because it failed before."""
    while _started:
        with _started.pop() as process:
            process.kill()


@contextmanager
def running_program(words: Sequence[str], **more: Any) -> Iterator[Any]:
    """A program, as a Popen for text, that is killed at the end of the block unless it has ended by then.

    Args:
        words: the command.
        more: further arguments of Popen, such as `stdout`.
    """
    with subprocess.Popen(words, text=True, **more) as process:
        try:
            yield process
        finally:
            process.kill()


def rolekey(*args: str, timeout: float = 60, **more: Any) -> Outcome:
    """Run a command line to its end.

    Args:
        args: the words after `rolekey`.
        timeout: seconds after which the test fails.
        more: as for start().
    """
    return finish(start(*args, **more), timeout)


def at_its_deadline(run: Callable[[str], T], has_come: Callable[[], object]) -> T:
    """What comes of a command whose --timeout passes at the stage that a test is about.

    A machine may be so busy that a short time is over before that stage: the command then gets more time.

    Args:
        run: runs it; its argument is for --timeout.
        has_come: says whether the last run came as far as the stage.
    """
    outcome = run("1.5")
    for seconds in ("8", "40"):
        if has_come():
            break
        outcome = run(seconds)
    return outcome
