"""Waiting for what other processes and threads do, and seeing in /proc how far a process has come.

What is in /proc comes and goes while it is looked at: an entry that has gone is none.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for what is to happen, and fail where it does not.

    Args:
        condition: is true when it has happened.
        seconds: how long it may take.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def has_open(pid: int, suffix: str) -> bool:
    """Whether a process has a file open whose name ends like this.

    Args:
        pid: of the process.
        suffix: the end of the name.
    """
    return any(name.endswith(suffix) for name in open_files(pid))


def open_files(pid: int) -> Iterator[str]:
    """The names of a process's open files, one for each descriptor.

    Args:
        pid: of the process.
    """
    with suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                yield str(link.readlink())


def children_of(pid: int) -> list[int]:
    """The numbers of a process's children.

    Args:
        pid: of the process.
    """
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [int(word) for word in file.read_text().split()]
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not.

    Args:
        pid: of the process.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
