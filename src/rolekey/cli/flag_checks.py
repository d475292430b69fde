"""What is refused of a command line although every word of it can be read."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rolekey.configuration_file import is_identity_name
from rolekey.errors import ConfigurationError
from rolekey.options import STORE_OPTIONS, check_has_stores
from rolekey.pkcs11_uri import redact_pin_value

STORE_FLAGS = tuple(f"--{name.replace('_', '-')}" for name in STORE_OPTIONS)


def check_names(names: Sequence[str], most: int, *, known_as_names: int) -> None:
    """Refuse every word that is no option and no identity's name: the official helper ignores them, and loses options.

    Args:
        names: the words.
        most: how many names the command takes.
        known_as_names: so many of the words, from the first, cannot be a part of a password or PIN.

    Raises:
        ConfigurationError: a word that is no name, or one too many.
    """
    if any(name.rstrip().endswith("\\") for name in names):
        raise continued_line()
    if sys.platform == "win32" and any(name.endswith('"') for name in names):
        raise escaped_quotes()
    if len(names) > known_as_names:
        raise ConfigurationError(
            "there is an argument that belongs to no option (not shown: it may be a part of a password or PIN)",
            hint="put values with spaces in double quotes, and the name of an identity before all options",
        )
    strange = [name for name in names if not is_identity_name(name)] or list(names[most:])
    if strange:
        word, shown = strange[0], redact_pin_value(strange[0])
        raise ConfigurationError(
            f"unexpected argument {repr(word) if shown == word else shown}",
            hint="put values with spaces in double quotes; options start with two dashes, a boolean's value follows "
            "an = (--debug=true)",
        )


def has_line_end(words: Iterable[str]) -> bool:
    """Whether a word begins with a line end: the AWS CLI and boto3 join lines that are indented, and leave it there.

    Args:
        words: of a command line.
    """
    return any(word[:1] in ("\n", "\r") for word in words)


def continued_line() -> ConfigurationError:
    """The error for a line of ~/.aws/config that was meant to go on in the next one."""
    return ConfigurationError(
        "a backslash stands at the end of a line: ~/.aws/config has no continuation lines, and what follows is lost",
        hint="write the whole credential_process command on one line",
    )


def escaped_quotes() -> ConfigurationError:
    """The error for a line of Windows' ~/.aws/config whose quotes are words' first and last characters here.

    The AWS SDK for Go puts a backslash before each, for cmd, which leaves both where they are.
    """
    return ConfigurationError(
        "an argument has a double quote in it: what started rolekey has escaped the quotes of credential_process",
        hint="leave out the quotes, and use paths without spaces; or `rolekey configure NAME`, whose line needs none",
    )


def check_flags(given: set[str], values: dict[str, Any], exclusions: Iterable[tuple[str, str]]) -> None:
    """Refuse flags that exclude each other or that this machine has no use for.

    Args:
        given: the flags that were given, with their dashes.
        values: of all flags, by parameter.
        exclusions: pairs of flags that exclude each other.

    Raises:
        ConfigurationError: the first such flag.
    """
    if sys.platform == "win32" and any(isinstance(value, str) and value.startswith('"') for value in values.values()):
        raise escaped_quotes()  # no path has one
    for first, second in exclusions:
        if first in given and second in given:
            raise ConfigurationError(f"{first} and {second} exclude each other", hint="leave out one of them")
    for name in STORE_FLAGS:
        # --use-latest-expiring-certificate=false asks for nothing.
        if name in given and values[name.removeprefix("--").replace("-", "_")] is not False:
            check_has_stores(name)
