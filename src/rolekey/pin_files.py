"""Reading a file that holds a PIN: a regular one, that nobody else gets at."""

import os
import stat
import sys
from pathlib import Path

from rolekey.base.advice import PLAIN_TEXT
from rolekey.base.owner import ADMINISTRATOR, GROUP_REMEDY, Access, access_of
from rolekey.errors import PinNotUsableError, PinRequiredError
from rolekey.secret import Secret

MAX_PIN_FILE_SIZE = 4096


def read_regular_file(path: str, forbidden_mode: int | None) -> tuple[bytes, tuple[int, ...]]:
    """What a file holds, and the PinSource.version of it.

    Args:
        path: absolute.
        forbidden_mode: permissions that it must not give, as access_of() says; None where its directory guards it.

    Raises:
        PinRequiredError: it cannot be read.
        PinNotUsableError: it is somebody else's, others get at it, or it changes.
    """
    try:
        # Opening a named pipe that nobody writes to must not block.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            before = os.fstat(descriptor)
            _check_kind(path, before)
            if forbidden_mode is not None:
                _check_access(path, access_of(descriptor, Path(path), before, forbidden_mode, root=True))
            data = file.read(MAX_PIN_FILE_SIZE + 1)
            version = _version(os.fstat(descriptor))
    except OSError as error:
        raise unreadable(path, error) from error
    if version != _version(before):
        raise PinNotUsableError(f"{path} changes while it is read", hint="run the command again when it is written")
    return data, version


def _check_kind(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "Is a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise PinRequiredError(
            f"cannot read the PIN from {path}: {kind}",
            hint="name a regular file; a pipe is read with --pin-source fd:N",
        )


def _check_access(path: str, access: Access) -> None:
    if access.owner is not None:
        raise PinNotUsableError(
            f"{path} is not used: it belongs to {access.owner}, who can change the PIN in it",
            hint=f"keep the PIN in a file that belongs to you or to {ADMINISTRATOR}",
        )
    if access.opening is not None:
        raise PinNotUsableError(
            f"{path} is not used: it has {access.opening}, so others than its owner get at it",
            hint=access.remedy + GROUP_REMEDY,
        )


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def unreadable(where: str, error: OSError) -> PinRequiredError:
    """The error for a source that cannot be read, with the system's reason."""
    return PinRequiredError(
        f"cannot read the PIN from {where}: {error.strerror}",
        hint="check the source that --pin-source or the URI's pin-source names, and its permissions",
    )


def decoded_pin(data: bytes, where: str) -> Secret:
    """A PIN out of what a file or pipe holds: without one line end.

    Raises:
        PinNotUsableError: it is too large or not UTF-8.
    """
    if len(data) > MAX_PIN_FILE_SIZE:
        raise PinNotUsableError(f"{where} is too large to hold a PIN", hint="name the file that holds the PIN alone")
    line = data.removesuffix(b"\n").removesuffix(b"\r") if data.endswith(b"\n") else data
    if sys.platform == "win32" and line.endswith(b" ") and line != data:
        raise PinNotUsableError(
            f"the PIN in {where} ends with a blank, as cmd's echo writes it; it was not sent to the token",
            hint="write no blank before the >, or the PIN without a line end if the blank is a part of it",
        )
    text = _utf8(line)
    if text is None:
        raise PinNotUsableError(f"{where} is not UTF-8", hint=f"write the PIN as {PLAIN_TEXT}")
    return Secret(text)


def _utf8(data: bytes) -> str | None:
    # Returns and does not raise: the decoder's error holds the PIN.
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
