"""A process under strace: its system calls in order, and its death before one of them."""

import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from support.process import running_program

_CALL = re.compile(r"([a-z_0-9]+)\((.*)")


@dataclass(frozen=True)
class Call:
    """A system call.

    Args:
        name: its name.
        number: how many of this name there were since the trace began, this one included.
        text: the line of strace, from the arguments on.
    """

    name: str
    number: int
    text: str


def can_trace() -> bool:
    """Whether strace is there, and may trace."""
    program = shutil.which("strace")
    if program is None:
        return False
    words = [program, "-o", "/dev/null", "-e", "inject=getuid:signal=SIGCONT", "true"]
    return subprocess.run(words, capture_output=True, check=False, timeout=30).returncode == 0


def trace(words: Sequence[str], log: Path, *, directory: Path, kill: Call | None = None) -> tuple[list[Call], str]:
    """Trace a process from when it says that it is ready.

    Args:
        words: the command, which writes a line, reads one, does its work and ends.
        log: a file for strace's output.
        directory: where it runs.
        kill: a call from an earlier trace, at whose entry the process is killed: it is not made.

    Returns:
        The calls, the last one being the one that was not made, and what was on stdout after the first line.
    """
    inject = ["-e", f"inject={kill.name}:signal=SIGKILL:when={kill.number}"] if kill else []
    with running_program(words, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        command = ["strace", "-o", str(log), *inject, "-p", str(process.pid)]
        with running_program(command, stderr=subprocess.PIPE) as tracer:
            _wait_until_attached(tracer.stderr)
            output, _ = process.communicate("go\n", timeout=60)
            tracer.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if kill else 0), output
    return _read(log), output


def _wait_until_attached(lines: IO[str] | None) -> None:
    assert lines is not None
    said = lines.readline()
    assert "attached" in said, said


def _read(log: Path) -> list[Call]:
    counts: dict[str, int] = {}
    calls = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if match := _CALL.match(line):
            counts[match[1]] = counts.get(match[1], 0) + 1
            calls.append(Call(match[1], counts[match[1]], match[2]))
    return calls
