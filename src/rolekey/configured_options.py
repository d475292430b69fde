"""What is not on the command line: a named section of the configuration file (TOML 1.0), and the variables ROLEKEY_*.

The keys of a section are the options' names without their dashes, and so are those of the variables, in capitals.
Passwords are no keys, and neither is what weakens one run only: ``no-verify-ssl`` and ``use-last-try``.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rolekey.base.paths import path_fault, path_of_url
from rolekey.configuration_file import configuration_path, expanded, read_configuration, unknown_identity
from rolekey.errors import ConfigurationError
from rolekey.options import Options
from rolekey.pkcs11_uri import redact_pin_value

Kind = Literal["text", "integer", "number", "boolean"]
KEYS: Mapping[str, Kind] = {
    "trust-anchor-arn": "text",
    "profile-arn": "text",
    "role-arn": "text",
    "certificate": "text",
    "private-key": "text",
    "intermediates": "text",
    "cert-selector": "text",
    "system-store-name": "text",
    "use-latest-expiring-certificate": "boolean",
    "session-duration": "integer",
    "role-session-name": "text",
    "region": "text",
    "endpoint": "text",
    "pkcs11-lib": "text",
    "pin-source": "text",
    "pin-file-group-readable": "boolean",
    "pkcs11-init-args": "text",
    "require-non-exportable": "boolean",
    "tpm-tcti": "text",
    "no-tpm-key-password": "boolean",
    "tpm-parent-password-source": "text",
    "use-fips-endpoint": "boolean",
    "use-dualstack-endpoint": "boolean",
    "timeout": "number",
}
NOT_KEPT = ("pkcs8-password", "tpm-key-password", "no-verify-ssl", "use-last-try")
_WANTED: Mapping[Kind, str] = {
    "text": "a text in quotes",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
_PATHS = ("certificate", "private-key", "intermediates", "pkcs11-lib")
_PATH_SOURCES = ("pin-source", "tpm-parent-password-source")


def configured_options(options: Options, environment: Mapping[str, str], name: str | None) -> Options:
    """Options, and below them what the named section and the environment say.

    Args:
        options: what the user wrote.
        environment: the process's environment.
        name: of a section, or None.

    Raises:
        ConfigurationError: the file or the section cannot be used, or a variable has a value of the wrong kind.
    """
    if name is not None:
        options = options.over(section_options(configuration_path(environment), name))
    return options.over(_options_of_environment(environment))


def section_options(path: Path, name: str) -> Options:
    """What a section of a configuration file says. Other sections are not looked at.

    Paths in it begin at the file's directory; ``~`` is the home directory.

    Args:
        path: of the file.
        name: of the section.

    Raises:
        ConfigurationError: the file cannot be read or trusted, has no such section, or one with a wrong key or value.
    """
    document = read_configuration(path)
    section = document.get(name)
    if not isinstance(section, Mapping):
        raise unknown_identity(path, name, document)
    return options_of_section(section, path, name)


def options_of_section(section: Mapping[str, Any], path: Path, name: str) -> Options:
    """As section_options(), of a section that was read.

    Args:
        section: its keys and values.
        path: of the file.
        name: of the section.
    """
    values = {}
    for key, value in section.items():
        where = f"{key} in [{name}] of {path}"
        _check_key(key, where)
        values[key] = _in_directory(key, _checked(KEYS[key], value, where), path.parent)
        if isinstance(value, str) and redact_pin_value(value) != value:
            raise ConfigurationError(
                f"{where} holds a PIN",
                hint="put the PIN into a file that only you can read, and write pin-source=file:/path in its place",
            )
    origins = tuple((key.replace("-", "_"), f"{key} in [{name}] of {path}") for key in values)
    return Options(**{key.replace("-", "_"): value for key, value in values.items()}, origins=origins, config_file=path)


def with_absolute_paths(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section whose paths, which began at the working directory, mean the same in the configuration file.

    Args:
        section: its keys and values.
    """
    return {key: _in_directory(key, value, Path.cwd()) for key, value in section.items()}


def _check_key(key: str, where: str) -> None:
    if key in KEYS:
        return
    if key in NOT_KEPT:
        raise ConfigurationError(f"{where} has no place in a file", hint=f"give --{key} on the command line")
    import difflib  # noqa: PLC0415 - for a mistake only

    similar = difflib.get_close_matches(key.replace("_", "-"), KEYS, n=1)
    raise ConfigurationError(
        f"{where} is no key",
        hint=f"did you mean {similar[0]}?" if similar else f"the keys are {', '.join(KEYS)}",
    )


def _checked(kind: Kind, value: Any, where: str) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "text": isinstance(value, str) and "\0" not in value,
        "integer": is_number and isinstance(value, int),
        "number": is_number,
        "boolean": isinstance(value, bool),
    }
    if not fits[kind]:
        raise ConfigurationError(f"{where} is not {_WANTED[kind]}", hint="correct its value")
    return value


def _in_directory(key: str, value: Any, directory: Path) -> Any:
    if key == "cert-selector" and value.startswith("file://"):
        return f"file://{_joined(key, path_of_url(value.removeprefix('file://')), directory)}"
    if key in _PATH_SOURCES and value.startswith("file:"):
        return f"file:{_joined(key, path_of_url(value.removeprefix('file:')), directory)}"
    is_path = key in _PATHS and not re.match("(?i)(pkcs11|handle):", value)
    # A module without a directory is looked for by the loader.
    if not is_path or not value or (key == "pkcs11-lib" and Path(value).name == value):
        return value
    return _joined(key, value, directory)


def _joined(key: str, text: str, directory: Path) -> str:
    if sys.platform == "win32" and (fault := path_fault(text)):
        raise ConfigurationError(f"{key} is {fault[0]}", hint=fault[1])
    return str(Path(directory, expanded(text)))


def _options_of_environment(environment: Mapping[str, str]) -> Options:
    values, origins = {}, []
    for key, kind in KEYS.items():
        parameter = key.replace("-", "_")
        variable = f"ROLEKEY_{parameter.upper()}"
        if text := environment.get(variable):
            values[parameter] = _read(kind, text, variable)
            origins.append((parameter, variable))
    return Options(**values, origins=tuple(origins))


def _read(kind: Kind, text: str, variable: str) -> Any:
    try:
        if kind == "boolean":
            return {"true": True, "false": False}[text.lower()]
        return {"text": str, "integer": int, "number": float}[kind](text)
    except (ValueError, KeyError):
        # Not as a context: it quotes the value.
        pass
    raise ConfigurationError(f"{variable} is not {_WANTED[kind]}", hint="correct or unset it")
