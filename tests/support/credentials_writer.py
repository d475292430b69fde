"""Writers of a credentials file: processes of their own, to be limited, traced and killed.

    python -m support.credentials_writer once PATH PROFILE NUMBER
    python -m support.credentials_writer wait PATH PROFILE NUMBER
    python -m support.credentials_writer loop PATH PROFILE TIMES
    python -m support.credentials_writer kill PATH PROFILE KILLS

The first writes once; the second says that it is ready, and then waits for a line; the third writes that many times.
The last starts a process that writes as fast as it can, kills it at some moment, and does so again and again. What
happened is a JSON document on stdout.
"""

import fcntl  # noqa: F401 - imported late by what is traced
import json
import mmap
import os
import random
import select
import signal
import struct
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rolekey.credentials import Credentials
from rolekey.errors import RolekeyError
from rolekey.vend.credentials_file import Place, write_credentials

# Before and after a write, files of these names are looked for: a trace shows where it begins and ends.
BEGIN, END = "credentials-writer-begins", "credentials-writer-ends"
_COUNTER = struct.Struct("Q")


def numbered(number: int) -> Credentials:
    """Credentials whose three parts belong together, of the length of real ones.

    Args:
        number: in each of them.
    """
    token = f"token-{number}-" + "T" * 900
    return Credentials(f"ASIA{number:016d}", f"secret-{number}-" + "s" * 20, token, datetime(2126, 1, 1, tzinfo=UTC))


def place_of(path: Path, aws_profile: str) -> Place:
    """A profile of a file, with a config file that does not exist."""
    return Place(path, path.with_name("no-config"), aws_profile)


def _once(place: Place, number: int) -> dict[str, Any]:
    Path(BEGIN).exists()
    try:
        write_credentials(place, numbered(number))
    except RolekeyError as error:
        return {"class": type(error).__name__, "message": error.message, "hint": error.hint}
    Path(END).exists()
    return {}


def _wait(place: Place, number: int) -> dict[str, Any]:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    select.select([sys.stdin], [], [])  # a tracer that comes now interrupts no call of the write's kinds
    sys.stdin.readline()
    return _once(place, number)


def _loop(place: Place, times: int) -> dict[str, Any]:
    for number in range(times):
        write_credentials(place, numbered(number))
    return {}


def _kill(place: Place, kills: int) -> dict[str, Any]:
    """Kill a writer again and again.

    Returns:
        How many kills there were, how many left a file behind that had been opened and not renamed, and how many
        writes were done.
    """
    new = place.path.with_name(f"{place.path.name}.rolekey-new")
    counter = mmap.mmap(-1, _COUNTER.size)
    between = 0
    longest = 0.01
    for kill in range(kills):
        before = counter[:]
        child = os.fork()
        if child == 0:
            _write_for_ever(place, kill * 1000, counter)
        time.sleep(random.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise AssertionError(f"the writer ended by itself: {status}")
        between += new.exists()
        # However slow the machine is: about two in three come to the end of a write before they are killed.
        longest *= 1.1 if counter[:] == before else 0.95
    return {"kills": kills, "between": between, "writes": _COUNTER.unpack(counter)[0]}


def _write_for_ever(place: Place, number: int, counter: mmap.mmap) -> None:
    try:
        while True:
            number += 1
            write_credentials(place, numbered(number))
            counter[:] = _COUNTER.pack(_COUNTER.unpack(counter)[0] + 1)
    finally:
        os._exit(1)


def main() -> None:
    """Do what the command line says."""
    mode, path, aws_profile, number = sys.argv[1:]
    function = {"once": _once, "wait": _wait, "loop": _loop, "kill": _kill}[mode]
    json.dump(function(place_of(Path(path), aws_profile), int(number)), sys.stdout)


if __name__ == "__main__":
    main()
