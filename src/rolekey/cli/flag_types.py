"""What the values of the official helper's flags are to click: numbers as Go reads them, and passwords."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from rolekey.cli.flag_values import parse_integer
from rolekey.secret import Secret


class _Number(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    def __init__(self, name: str, read: Callable[[str], float]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, int | float) else self._read(value)
        except ValueError:
            # The value is not quoted: it may be what was meant for another option.
            self.fail(f"not a number ({self.name})", param, ctx)


class Choice(click.ParamType):  # type: ignore[type-arg]  # as above
    """One of a few words, in the case in which they are listed.

    Args:
        choices: the words.
    """

    name = "text"

    def __init__(self, choices: Sequence[str]) -> None:
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word, if it is one of them; it is not quoted, as a number is not."""
        if value not in self._choices:
            self.fail(f"none of {', '.join(self._choices)}", param, ctx)
        return str(value)


class _SecretText(click.ParamType):  # type: ignore[type-arg]  # as above
    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Secret:  # noqa: ARG002 - click's signature
        return value if isinstance(value, Secret) else Secret(value)


TYPES: dict[str, Any] = {
    "text": click.STRING,
    "texts": click.STRING,
    "secret": _SecretText(),
    "integer": _Number("integer", parse_integer),
    "seconds": _Number("seconds", float),
}
