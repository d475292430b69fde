"""`rolekey` as a user runs it: a process of its own, without a terminal."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def start_rolekey(
    *args: str, environment: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start a command line in a process that has no terminal and inherits no settings of AWS or proxies.

    Args:
        args: the words after `rolekey`.
        environment: variables to add.
        wrapper: words in front of the command.
    """
    return subprocess.Popen(
        [*wrapper, sys.executable, "-m", "rolekey", *args],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def outcome_of(process: subprocess.Popen[str], *, timeout: float = 60) -> Outcome:
    """Wait for a process that `start_rolekey` has started.

    Args:
        process: to be waited for.
        timeout: seconds after which it is killed and the test fails.
    """
    with process:
        try:
            output = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return Outcome(process.returncode, *output)


def rolekey(
    *args: str, environment: Mapping[str, str] | None = None, wrapper: Sequence[str] = (), timeout: float = 60
) -> Outcome:
    """Run a command line to its end; see `start_rolekey`.

    Args:
        args: the words after `rolekey`.
        environment: variables to add.
        wrapper: words in front of the command.
        timeout: seconds after which the test fails.
    """
    return outcome_of(start_rolekey(*args, environment=environment, wrapper=wrapper), timeout=timeout)
