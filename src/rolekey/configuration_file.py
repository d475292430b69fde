"""The configuration file: where it is, whether it can be trusted, and which identities are in it (TOML 1.0).

It holds no secrets. It names PKCS#11 modules, which are code: what others could have written is not read.
"""

import codecs
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rolekey.base.owner import access_of
from rolekey.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# A boolean's value that follows its option without an = would be taken for a name.
_NO_NAMES = ("true", "false", "t", "f", "1", "0")
_MAX_FILE = 1 << 20


def is_identity_name(text: str) -> bool:
    """Whether a section can be called so: 1 to 64 letters, digits, ``_`` and ``-`` after the first."""
    return _NAME.fullmatch(text) is not None and text.lower() not in _NO_NAMES


def configuration_path(environment: Mapping[str, str]) -> Path:
    r"""Where the configuration file is, whether or not it is there (XDG Base Directory Specification).

    Args:
        environment: the process's.

    Returns:
        ``$ROLEKEY_CONFIG``, else ``rolekey/config.toml`` below ``$XDG_CONFIG_HOME`` or ``~/.config`` (on Windows
        ``%APPDATA%``); absolute.

    Raises:
        ConfigurationError: the environment names none of them.
    """
    if named := environment.get("ROLEKEY_CONFIG"):
        return Path(expanded(named)).absolute()
    base = environment.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME", "")
    if not Path(base).is_absolute():
        base = expanded("~/.config")
    if not Path(base).is_absolute():
        raise ConfigurationError(
            "an identity is named, and there is no home directory with a configuration file",
            hint="name the file in ROLEKEY_CONFIG, or set HOME",
        )
    return Path(base, "rolekey", "config.toml")


def read_configuration(path: Path) -> dict[str, Any]:
    """The sections of a configuration file; none where there is no file.

    Args:
        path: of the file.

    Raises:
        ConfigurationError: it cannot be read, is not TOML, or others can write it: it names programs' code to load.
    """
    import tomllib  # noqa: PLC0415 - slow, and not for a command line that names no identity

    try:
        return tomllib.loads(read_configuration_text(path))
    except tomllib.TOMLDecodeError as error:
        # Its text names line and column, and quotes no more than a character.
        raise ConfigurationError(
            f"{path} is not TOML: {error}",
            hint="write texts in double quotes, and those with a backslash in them in single ones",
        ) from error


def read_configuration_text(path: Path) -> str:
    """The text of a configuration file, with its line ends; empty where there is no file.

    Args:
        path: of the file.

    Raises:
        ConfigurationError: it cannot be read or is not UTF-8, or others can write it.
    """
    try:
        with open(path, "rb", opener=_opener) as file:
            status = os.fstat(file.fileno())
            _check_owner(path, file.fileno(), status)
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise ConfigurationError(f"{path} is larger than 1 MiB", hint="name the right file in ROLEKEY_CONFIG")
        if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ConfigurationError(
                f"{path} begins with a byte order mark, which TOML does not know",
                hint="save it as UTF-8 without one (in PowerShell 5: Set-Content -Encoding ascii)",
            )
        return data.decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8", hint="save it in UTF-8, as TOML wants it") from error
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}", hint="name a file that you can read in ROLEKEY_CONFIG"
        ) from error


def identity_names(document: Mapping[str, Any]) -> list[str]:
    """The names of the identities in a configuration, sorted."""
    return sorted(name for name, value in document.items() if isinstance(value, Mapping) and is_identity_name(name))


def expanded(text: str) -> str:
    """A path whose ``~`` is the home directory, where that is known."""
    return os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser() raises where there is no home directory


def unknown_identity(path: Path, name: str, document: Mapping[str, Any]) -> ConfigurationError:
    """The error of a name that no section has.

    Args:
        path: of the file.
        name: what was asked for.
        document: the file's sections.
    """
    names = ", ".join(identity_names(document))
    if names:
        return ConfigurationError(
            f"no identity is named {name!r} in {path}", hint=f"it has {names}; `rolekey configure {name}` adds one"
        )
    return ConfigurationError(
        f"no identity is named {name!r}: there is none in {path}",
        hint=f"`rolekey configure {name}` adds one; or give ARNs, --certificate and --private-key as options",
    )


def _opener(path: str, flags: int) -> int:
    # A pipe without a writer must not be waited for.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_owner(path: Path, descriptor: int, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path} is no regular file", hint="name a file in ROLEKEY_CONFIG")
    # A group may share it.
    access = access_of(descriptor, path, status, stat.S_IWOTH, root=True)
    if access.owner is not None:
        raise ConfigurationError(
            f"{path} belongs to another user, who could name a PKCS#11 module of theirs in it",
            hint="copy it, and name the copy in ROLEKEY_CONFIG",
        )
    if access.opening is not None:
        raise ConfigurationError(
            f"{path} can be written by every user, who could name a PKCS#11 module of theirs in it",
            hint=f"look through it, then: {access.remedy}",
        )
