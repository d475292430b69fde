"""The file with the token of the container endpoint: what is in it is what SDKs send, to the last byte."""

import secrets
import stat
from pathlib import Path

from rolekey.errors import ConfigurationError
from rolekey.private_files import make_directory, read_private_file, replace_private_file
from rolekey.secret import Secret

_SHORTEST = 16
_LONGEST = 4096
_RANDOM_BYTES = 32


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
        mode = path.lstat().st_mode if data is not None and not guarded else 0
    except OSError as error:
        raise ConfigurationError(
            f"the token file {path} cannot be used: {error.strerror}", hint="name a file of your own with mode 0600"
        ) from error
    if data is None:
        raise ConfigurationError(f"there is no token file {path}", hint="write one, or let rolekey make its own")
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(f"others than its owner get at the token file {path}", hint="chmod 600 it")
    return _checked(data, path)


def _checked(data: bytes, path: Path) -> Secret:
    if b"\n" in data or b"\r" in data:
        raise ConfigurationError(
            f"the token file {path} has a line end in it, which SDKs refuse to send",
            hint="write it without one: printf %s TOKEN >FILE",
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
