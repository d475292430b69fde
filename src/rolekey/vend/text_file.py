"""A text file of the user's that other programs read and write, too.

A reader sees the old file or the new one, whole, whatever happens meanwhile: the new one is written beside it, synced
and renamed over it. Writers of ours wait for each other with a lock. Other programs take none: when the file has
changed since it was read, it is read again. What a killed writer left behind is removed by the next one.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from rolekey.base.owner import create_private_directory, create_private_file, keep_access
from rolekey.deadline import Deadline
from rolekey.errors import CredentialsFileError, DeadlineError
from rolekey.private_files import rename_over, take_lock
from rolekey.value import Value

MAX_SIZE = 1 << 24
LOCK_SECONDS = 10.0
UNCHANGED = "nothing was changed"
_ATTEMPTS = 10
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# On Windows an open file's ctime is when it was changed, a path's when it was created.
_SAME = ("st_dev", "st_ino", "st_size", "st_mtime_ns", *(() if sys.platform == "win32" else ("st_ctime_ns",)))
_NOT_OURS = "make the file and its directory this user's, or name another one in {}"
_HINTS = {
    errno.EACCES: _NOT_OURS,
    errno.EPERM: _NOT_OURS,
    errno.EROFS: "its file system is read-only: name another file in {}",
    errno.ENOSPC: f"make room on its file system; {UNCHANGED}",
    errno.EDQUOT: f"make room within this user's quota; {UNCHANGED}",
    errno.EFBIG: f"allow this process larger files (ulimit -f); {UNCHANGED}",
    errno.EBUSY: "a file that is mounted by itself cannot be replaced: mount its directory",
    errno.ELOOP: "its symbolic links lead round in a circle: correct them",
    errno.ENOTDIR: "a part of its path is no directory: correct {}",
}


class _Found(Value):
    """A file that was read, and how it was then."""

    text: str
    status: os.stat_result


class TextFile:
    """One such file.

    Args:
        path: absolute. Where it is a symbolic link, what it leads to is read and replaced.
        variable: the environment variable that can name another one.
        is_private: nobody else may read it once it is written; else a file that is there keeps its mode.
    """

    def __init__(self, path: Path, variable: str, *, is_private: bool) -> None:
        self.path = path
        self._variable = variable
        self._is_private = is_private

    def read(self) -> str:
        """What is in it; empty where there is no file.

        Raises:
            CredentialsFileError: it cannot be read, or is no file that the AWS CLI would read.
        """
        found = self._read(self._target())
        return found.text if found else ""

    def check(self, change: Callable[[str], str]) -> None:
        """Find out whether it could be changed. Its directory is made, with mode 0700, where it is missing.

        Args:
            change: as for rewrite().

        Raises:
            CredentialsFileError: it cannot be read or locked.
            RolekeyError: as `change` does.
        """
        target = self._target()
        self._check_attribute(target)
        with self._locked(target):
            found = self._read(target)
            change(found.text if found else "")

    def rewrite(
        self,
        change: Callable[[str], str],
        *,
        uninterrupted: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Change it. A new one gets mode 0600.

        Args:
            change: from the old text to the new one; it may be called more than once.
            uninterrupted: holds signals back while a new file is there that has not taken the old one's place.

        Raises:
            CredentialsFileError: it cannot be read, locked or replaced; it is as it was.
            RolekeyError: as `change` does.
        """
        target = self._target()
        self._check_attribute(target)
        with self._locked(target):
            for _ in range(_ATTEMPTS):
                found = self._read(target)
                content = change(found.text if found else "").encode()
                with uninterrupted(), self._explained(target, "replaced"):
                    if self._replace(target, content, found.status if found else None):
                        return
        raise CredentialsFileError(
            f"{self.path} changes all the time", hint="see which other program writes it; rolekey changed nothing"
        )

    def _target(self) -> Path:
        with self._explained(self.path, "found"):
            target = Path(os.path.realpath(self.path))
            # On a circle realpath() ends somewhere.
            with suppress(FileNotFoundError):
                target.stat()
            return target

    def _check_attribute(self, target: Path) -> None:
        """Refuse a file that Windows would not let go: nothing of it is then half done."""
        if sys.platform == "win32" and target.exists() and not os.access(target, os.W_OK):
            raise CredentialsFileError(
                f"{target} is marked read-only",
                hint=f'attrib -r "{target}", or name another one in {self._variable}; {UNCHANGED}',
            )

    @contextmanager
    def _explained(self, path: Path, verb: str) -> Iterator[None]:
        """Say in our words what the system says of a file."""
        try:
            yield
        except OSError as error:
            hint = _HINTS.get(error.errno or 0, f"see what is wrong with its file system; {UNCHANGED}")
            raise CredentialsFileError(
                f"{path} cannot be {verb}: {error.strerror or type(error).__name__}",
                hint=hint.format(self._variable),
            ) from error

    @contextmanager
    def _locked(self, target: Path) -> Iterator[None]:
        lock = target.with_name(f"{target.name}.rolekey-lock")
        with self._explained(lock, "locked"):
            for directory in reversed(target.parents):
                with suppress(FileExistsError):
                    if not directory.exists():
                        create_private_directory(directory)
            try:
                descriptor = take_lock(lock, Deadline(LOCK_SECONDS), f"another process that writes {self.path.name}")
            except DeadlineError as error:
                raise CredentialsFileError(
                    f"another process has held {lock} for {LOCK_SECONDS:g} s",
                    hint="see which one, and whether it hangs",
                ) from error
        try:
            yield
        finally:
            os.close(descriptor)

    def _read(self, path: Path) -> _Found | None:
        """A file, or None where there is none."""
        with self._explained(path, "read"):
            try:
                descriptor = os.open(path, os.O_RDONLY | _FLAGS)
            except FileNotFoundError:
                return None
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
                    raise CredentialsFileError(f"{path} is {what}", hint=f"name another file in {self._variable}")
                with open(descriptor, "rb", closefd=False) as file:
                    content = file.read(MAX_SIZE + 1)
            finally:
                os.close(descriptor)
        if len(content) > MAX_SIZE:
            raise CredentialsFileError(f"{path} is larger than 16 MiB", hint=f"see what it is; {UNCHANGED}")
        return _Found(_decoded(path, content), status)

    def _replace(self, path: Path, content: bytes, before: os.stat_result | None) -> bool:
        """Put a new file in place of an old one, unless that has changed; under the lock.

        Args:
            path: no symbolic link.
            content: all of the new file.
            before: of the old file when it was read, or None where there was none.

        Returns:
            Whether it was done.
        """
        new = path.with_name(f"{path.name}.rolekey-new")
        new.unlink(missing_ok=True)
        try:
            descriptor = create_private_file(new)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(content)
                file.flush()
                self._keep_owner(path, descriptor, before)
                keep_access(descriptor, new, path, before, private=self._is_private)
                os.fsync(descriptor)
            if not _is_still(path, before):
                new.unlink()
                return False
            rename_over(new, path)
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise
        # The new file is in its place; a system that goes down now may bring back the old one, as whole.
        with suppress(OSError):
            _sync_directory(path.parent)
        return True

    def _keep_owner(self, path: Path, descriptor: int, before: os.stat_result | None) -> None:
        if sys.platform == "win32":
            return  # only an administrator makes files for others
        ours = os.fstat(descriptor)
        if before is None or (before.st_uid, before.st_gid) == (ours.st_uid, ours.st_gid):
            return
        try:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        except PermissionError as error:
            # A group may change where it is allowed nothing.
            if before.st_uid == ours.st_uid and self._is_private:
                return
            whose = f"user {before.st_uid}" if before.st_uid != ours.st_uid else f"group {before.st_gid}"
            raise CredentialsFileError(
                f"{path} belongs to {whose}, who could not read it any more",
                hint=f"run rolekey as that user, or name another file in {self._variable}",
            ) from error


def _decoded(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CredentialsFileError(
            f"{path} is not UTF-8 in line {line}", hint=f"save it as UTF-8 or remove that line; {UNCHANGED}"
        ) from None  # the error holds the whole file
    if text.startswith("\ufeff") or "\0" in text:
        what = "a byte order mark" if text.startswith("\ufeff") else "a NUL character"
        raise CredentialsFileError(
            f"{path} has {what}, with which the AWS CLI does not read it",
            hint=f"save it as UTF-8 without a byte order mark; {UNCHANGED}",
        )
    return text


def _is_still(path: Path, before: os.stat_result | None) -> bool:
    try:
        now = path.lstat()
    except FileNotFoundError:
        return before is None
    return before is not None and all(getattr(now, name) == getattr(before, name) for name in _SAME)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
