"""What the text of a flag's value says, as Go reads it."""

import re

from rolekey.errors import ConfigurationError


def parse_boolean(name: str, text: str) -> bool:
    """A boolean as Go's strconv.ParseBool reads it.

    Raises:
        ConfigurationError: it is none.
    """
    if text in ("1", "t", "T", "true", "True", "TRUE"):
        return True
    if text in ("0", "f", "F", "false", "False", "FALSE"):
        return False
    raise ConfigurationError(f"{name} is neither true nor false", hint=f"write {name} or {name}=false")


def parse_integer(text: str) -> int:
    """An integer as Go's strconv.ParseInt reads it with base 0.

    Raises:
        ValueError: it is none.
    """
    octal = re.fullmatch(r"([+-]?)0([0-7_]+)", text)
    return int(f"{octal[1]}0o{octal[2]}" if octal else text, 0)
