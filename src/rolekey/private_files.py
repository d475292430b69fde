"""Files that belong to this user alone: directories of mode 0700, files of mode 0600, locks, replacement by rename.

Every function raises OSError where the file system refuses, and also where a path is a symbolic link, belongs to
somebody else or can be written by others.
"""

import errno
import os
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from rolekey.base.owner import (
    CHANGE,
    access_of,
    close_to_others,
    create_private_directory,
    create_private_file,
    open_private_file,
)
from rolekey.cached_answer import is_private_directory
from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError
from rolekey.forks import renew_after_fork

_POLL_SECONDS = 0.01
_RENAME_ATTEMPTS = 100


def take_lock(path: Path, deadline: Deadline, others: str) -> int:
    """Take an exclusive lock, which ends when the descriptor is closed or the process ends.

    Args:
        path: the lock's file; it stays.
        deadline: how long others are waited for.
        others: what is being waited for, for the error's text.

    Returns:
        The file descriptor that holds the lock.

    Raises:
        DeadlineError: others held it all the time.
    """
    while True:
        descriptor = open_private_file(path)
        try:
            check_ours(path, os.fstat(descriptor), descriptor)
            _wait_for_lock(descriptor, deadline, others)
            if is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # somebody removed the file meanwhile: a lock on it keeps nobody out


def read_private_file(path: Path, maximum: int, *, guarded: bool = False) -> bytes | None:
    """The first bytes of a file.

    Args:
        path: the file.
        maximum: how many bytes at most.
        guarded: its directory keeps others away; whose it is, and its mode, do not matter then.

    Returns:
        The bytes, or None where there is no such file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{path} is no regular file")
        if not guarded:
            check_ours(path, status, descriptor)
        return file.read(maximum)


def replace_private_file(path: Path, content: bytes, new_suffix: str = ".new") -> None:
    """Put a new file in place of an old one, whole.

    Args:
        path: the file; its directory is ours.
        content: all of it.
        new_suffix: of the file that takes the old one's place; two callers at once must not have the same.
    """
    new = path.with_suffix(new_suffix)
    new.unlink(missing_ok=True)
    descriptor = create_private_file(new)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        rename_over(new, path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise


def make_directory(path: Path) -> None:
    """Make a directory of mode 0700, with the ones above it; narrow the mode of one of ours that is there."""
    for parent in (*reversed(path.parents), path):
        with suppress(FileExistsError):
            if not parent.exists():
                create_private_directory(parent)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        link = stat.S_ISLNK(status.st_mode)
        raise OSError(errno.ELOOP if link else errno.ENOTDIR, f"{path} is {'a link' if link else 'no directory'}")
    check_ours(path, status, path)
    close_to_others(path, status)


def make_private_directory(path: Path) -> None:
    """Make a directory of mode 0700 where there is none; one that is there must be ours and closed to others."""
    with suppress(FileExistsError):
        create_private_directory(path)
    if not is_private_directory(str(path)):
        raise OSError(errno.EPERM, f"{path} is not a directory that belongs to this user alone")


def check_ours(path: Path, status: os.stat_result, target: int | Path) -> None:
    """Refuse what belongs to somebody else or can be written by others.

    Args:
        path: for the error's text.
        status: of the file itself.
        target: its descriptor, or a directory's path.
    """
    access = access_of(target, path, status, CHANGE)
    if access.owner is not None:
        raise OSError(errno.EPERM, f"{path} belongs to {access.owner}")
    if access.opening is not None:
        raise OSError(errno.EPERM, f"{path} can be written by others")


def rename_over(new: Path, path: Path) -> None:
    """Put a file in another one's place. Windows refuses that while somebody reads the old one: it is tried again.

    Args:
        new: the file.
        path: what it is to be called.
    """
    for _ in range(_RENAME_ATTEMPTS if sys.platform == "win32" else 0):
        with suppress(PermissionError):
            new.replace(path)
            return
        time.sleep(_POLL_SECONDS)
    new.replace(path)


class HeldLock:
    """A lock's open file. A process that is forked meanwhile would hold the lock with its copy, as long as it lives.

    Args:
        descriptor: from take_lock().
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        renew_after_fork(self)

    def renew(self) -> None:
        """Leave the lock to the parent, as Renewable.renew() says."""
        self._close()

    def release(self) -> None:
        """Give it up, for whoever has a copy of the file; not where the parent has it."""
        if self._descriptor >= 0 and sys.platform != "win32":
            import fcntl  # noqa: PLC0415 - POSIX only

            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def mark_lock(descriptor: int, *, person_expected: bool) -> None:
    """Say in a lock's file whether its holder waits for a person; the others then wait as long as for one.

    Args:
        descriptor: from take_lock().
        person_expected: whether it does.
    """
    with suppress(OSError):  # a full disk: they wait as long as they would
        os.ftruncate(descriptor, 1 if person_expected else 0)


def _wait_for_lock(descriptor: int, deadline: Deadline, others: str) -> None:
    while not _try_lock(descriptor):
        if os.fstat(descriptor).st_size:
            deadline.expect_person()
        if deadline.remaining() <= 0:
            raise DeadlineError(
                f"timed out after {deadline.seconds:g} s waiting for {others}",
                hint="see what takes so long, or allow more with --timeout SECONDS",
            )
        time.sleep(_POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - Windows only

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - POSIX only

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Windows' C runtime says EACCES, Wine's nothing.
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK, errno.EWOULDBLOCK, 0):
            return False
        raise
    return True


def is_still(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one that a path names now.

    Args:
        path: the path.
        descriptor: of the open file.
    """
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False
