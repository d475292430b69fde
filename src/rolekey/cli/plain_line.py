"""``rolekey credential-process`` as it is mostly written, without click, whose import is an eighth of what it takes.

Nothing is refused here: help, every error and what is rarely written is left to click, and to what rolekey.cli.flags
makes of it. What both read they read alike.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rolekey.cli.ending import ending
from rolekey.cli.flag_checks import check_flags, has_line_end
from rolekey.cli.flag_table import CREDENTIAL_PROCESS_FLAGS, EXCLUSIONS
from rolekey.cli.flag_values import parse_boolean, parse_integer
from rolekey.configuration_file import is_identity_name
from rolekey.errors import ConfigurationError
from rolekey.secret import Secret

_KINDS: dict[str, Callable[[str], object]] = {"text": str, "secret": Secret, "integer": parse_integer, "seconds": float}


def run_plain(words: Sequence[str]) -> int | None:
    """Run the command.

    Args:
        words: of the command line, after the command.

    Returns:
        The exit code; None if nothing was done, and click has to read the words.
    """
    read = read_plain(words)
    if read is None:
        return None

    def command() -> None:
        from rolekey.cli.printing import print_credentials  # noqa: PLC0415 - what may go wrong goes wrong in ending()

        print_credentials(*read)

    return ending(command)


def read_plain(words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """Read a command line: at most one name, then flags with their values.

    Args:
        words: of the command line, after the command.

    Returns:
        The names, and the values by parameter, as helper_command() gives them to a command; None if it is not plain.
    """
    try:
        return None if has_line_end(words) else _read(words)
    except (ConfigurationError, ValueError):
        return None


def _read(words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    known = {flag.name: flag for flag in CREDENTIAL_PROCESS_FLAGS}
    values = {flag.parameter: flag.default for flag in known.values()}
    names: list[str] = []
    given: set[str] = set()
    rest = iter(words)
    for word in rest:
        name, equals, text = word.partition("=")
        flag = known.get(name)
        if flag is None:
            if given or names or not is_identity_name(word):
                return None
            names.append(word)
            continue
        if flag.kind == "boolean":
            values[flag.parameter] = parse_boolean(name, text) if equals else True
        else:
            value = text if equals else next(rest, None)
            if value is None or (value.startswith("-") and not equals):
                return None  # pflag takes it, and so does click, unless it is a password's flag
            values[flag.parameter] = _KINDS[flag.kind](value)
        given.add(name)
    check_flags(given, values, EXCLUSIONS)
    return tuple(names), values
