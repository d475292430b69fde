"""`rolekey` as a user runs it: a process of its own, without a terminal."""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


def start(
    *args: str,
    environment: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    before: Sequence[str] = (),
    directory: Path | None = None,
) -> subprocess.Popen[str]:
    """Start a command line in a process that has no terminal and inherits no settings of AWS or proxies.

    Args:
        args: the words after `rolekey`.
        environment: variables to add.
        without: variables to take away.
        before: the words of a program that runs the command, such as `unshare`.
        directory: where it runs, if not here.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.Popen(
        [*before, sys.executable, "-m", "rolekey", *args],
        cwd=directory,
        env={**inherited, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 60) -> Outcome:
    """Wait for the end of a process.

    Args:
        process: from start().
        timeout: seconds after which it is killed and the test fails.
    """
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return Outcome(process.returncode, stdout, stderr)


def rolekey(*args: str, timeout: float = 60, **more: Any) -> Outcome:
    """Run a command line to its end.

    Args:
        args: the words after `rolekey`.
        timeout: seconds after which the test fails.
        more: as for start().
    """
    return finish(start(*args, **more), timeout)
