"""The file with the token of the container endpoint: what is in it is what SDKs send, to the last byte."""

import secrets
import sys
from pathlib import Path

from rolekey.base.owner import access_of
from rolekey.errors import ConfigurationError
from rolekey.private_files import make_directory, read_private_file, replace_private_file
from rolekey.secret import Secret

_SHORTEST = 16
_LONGEST = 4096
_RANDOM_BYTES = 32
_WRITES_NO_LINE_END = "Set-Content -NoNewline FILE TOKEN" if sys.platform == "win32" else "printf %s TOKEN >FILE"


def read_token(path: Path, *, guarded: bool = False) -> Secret:
    """The token in a file.

    Args:
        path: a regular file of this user that nobody else may read; no symbolic link.
        guarded: its directory keeps others away, as systemd's for credentials does. The file may be root's there, and
            its mode shows an access list's mask.

    Raises:
        ConfigurationError: it is missing, unreadable, open to others, or no token that SDKs could send.
    """
    try:
        data = read_private_file(path, _LONGEST + 1, guarded=guarded)
        access = None if guarded or data is None else access_of(path, path, path.lstat())
    except OSError as error:
        raise ConfigurationError(
            f"the token file {path} cannot be used: {error.strerror}",
            hint="name a file of your own that nobody else may read",
        ) from error
    if data is None:
        raise ConfigurationError(f"there is no token file {path}", hint="write one, or let rolekey make its own")
    if access is not None and access.fault is not None:
        raise ConfigurationError(f"the token file {path} {access.fault}", hint=access.remedy)
    return _checked(data, path)


def _checked(data: bytes, path: Path) -> Secret:
    if b"\n" in data or b"\r" in data:
        raise ConfigurationError(
            f"the token file {path} has a line end in it, which SDKs refuse to send",
            hint=f"write it without one: {_WRITES_NO_LINE_END}",
        )
    if not _SHORTEST <= len(data) <= _LONGEST:
        raise ConfigurationError(
            f"the token in {path} has {min(len(data), _LONGEST + 1)} bytes",
            hint=f"choose one of {_SHORTEST} to {_LONGEST} random letters and digits",
        )
    if not all(0x21 <= byte <= 0x7E for byte in data):
        raise ConfigurationError(
            f"the token in {path} has bytes that no header can carry", hint="choose printable ASCII without blanks"
        )
    return Secret(data.decode("ascii"))


def make_token_file(path: Path) -> None:
    """Write a new random token, over an old one.

    Args:
        path: the file; its directory is made where it is missing.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        make_directory(path.parent)
        replace_private_file(path, secrets.token_urlsafe(_RANDOM_BYTES).encode())
    except OSError as error:
        raise ConfigurationError(
            f"the token file {path} cannot be written: {error.strerror or error}", hint="name another one"
        ) from error
