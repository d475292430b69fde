"""Who owns a file, and who else gets at it: by owner and mode bits, and on Windows by owner and access list.

What is judged is an open file or, of a directory, a path. What is made here is this user's alone from the first moment:
whoever had opened it before it was closed to them would go on reading.
"""

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

#: What others must not be allowed: anything, or to change it.
ANY_USE, CHANGE = 0o077, 0o022
if sys.platform == "win32":
    ADMINISTRATOR, GROUP_REMEDY = "the administrators", ""
else:
    ADMINISTRATOR, GROUP_REMEDY = "root", "; --pin-file-group-readable lets the group read it (0640)"


class Access:
    """Who gets at a file besides this user (and the system's administrators, who get at everything).

    Args:
        owner: whose it is where it is not ours, such as ``user 1000``; else None.
        opening: what lets others at it, to be read after "has", such as ``mode 0644``; None where nothing does.
        remedy: the command that closes it to them.
    """

    def __init__(self, owner: str | None, opening: str | None, remedy: str) -> None:
        self.owner = owner
        self.opening = opening
        self.remedy = remedy

    @property
    def fault(self) -> str | None:
        """What is wrong, to be read after the file's name; None where nothing is."""
        if self.owner is not None:
            return f"belongs to {self.owner}"
        return None if self.opening is None else f"has {self.opening}, so that others get at it"


def access_of(
    target: int | str | Path, path: Path, status: os.stat_result, forbidden: int = ANY_USE, *, root: bool = False
) -> Access:
    """Judge a file.

    Args:
        target: its descriptor, or a path where there is none.
        path: for the remedy's text.
        status: of the very target.
        forbidden: ANY_USE or CHANGE, or bits of a POSIX mode between them.
        root: it may belong to the system's administrator.

    Raises:
        OSError: its access list cannot be read.
    """
    if sys.platform == "win32":
        from rolekey.access_list import others_in, own_sid, owner_of  # noqa: PLC0415 - Windows only

        other = others_in(target, change_only=not forbidden & 0o044)
        if other is None:
            return Access(owner_of(target, root=root), None, "")
        sid, who = other
        remedy = f'icacls "{path}" /inheritance:r /grant:r *{own_sid()}:F /remove:g *{sid}'
        return Access(owner_of(target, root=root), f"an access list that lets {who} in", remedy)
    ours = (0, os.geteuid()) if root else (os.geteuid(),)
    mode = stat.S_IMODE(status.st_mode)
    owner = None if status.st_uid in ours else f"user {status.st_uid}"
    if not mode & forbidden:
        return Access(owner, None, "")
    import shlex  # noqa: PLC0415 - for what is mostly not said

    return Access(owner, f"mode {mode:04o}", f"chmod {'600' if forbidden & 0o044 else 'go-w'} {shlex.quote(str(path))}")


def create_private_file(path: str | Path) -> int:
    """Create a file that nobody else gets at, open it for writing, and give its descriptor.

    Raises:
        FileExistsError: something is there already.
        OSError: as os.open().
    """
    if sys.platform == "win32":
        from rolekey.access_list import create_file  # noqa: PLC0415 - Windows only

        return create_file(str(path))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def open_private_file(path: str | Path) -> int:
    """Open a file for reading and writing, which is created as by create_private_file() where there is none.

    Raises:
        OSError: as os.open().
    """
    if sys.platform == "win32":
        with suppress(FileExistsError):
            os.close(create_private_file(path))
        return os.open(path, os.O_RDWR)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def create_private_directory(path: str | Path) -> None:
    """As create_private_file(), a directory."""
    if sys.platform == "win32":
        from rolekey.access_list import create_directory  # noqa: PLC0415 - Windows only

        create_directory(str(path))
    else:
        os.mkdir(path, 0o700)  # noqa: PTH102 - as its twin takes a string


def close_to_others(path: Path, status: os.stat_result) -> None:
    """Narrow who gets at a directory of ours to this user.

    Args:
        path: the directory.
        status: of it.
    """
    if sys.platform == "win32":
        from rolekey.access_list import restrict  # noqa: PLC0415 - Windows only

        if access_of(path, path, status).opening is not None:
            restrict(str(path))
    elif stat.S_IMODE(status.st_mode) & ANY_USE:
        path.chmod(0o700)


def keep_access(descriptor: int, new: Path, old: Path, before: os.stat_result | None, *, private: bool) -> None:
    """Give a new file, which takes an old one's place, the mode or access list of the old one.

    Args:
        descriptor: of the new file, which was made by create_private_file().
        new: its path.
        old: the path whose place it takes.
        before: of the old file, or None where there was none.
        private: others than the owner lose what they were allowed.
    """
    if sys.platform == "win32":
        from rolekey.access_list import copy_access  # noqa: PLC0415 - Windows only

        if before is not None and not private:
            copy_access(str(old), str(new))
    else:
        # Whatever the umask is.
        os.fchmod(descriptor, 0o600 if before is None else before.st_mode & (0o600 if private else 0o777))
