"""A command with the official helper's flags, and the parser that takes every spelling that its parser takes.

Its parser is Go's pflag: a boolean takes a value only after ``=`` (``--debug=true``) and never from the next word;
numbers are written as in Go; the last of several wins. click's own options do the rest.

A command line may hold a PIN or passphrase, anywhere if a quote is missing: what was not understood is not quoted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

import click

from rolekey.cli.flag_checks import check_flags, check_names, continued_line, has_line_end
from rolekey.cli.flag_table import EXCLUSIONS, SECRET_FLAGS, Flag
from rolekey.cli.flag_types import TYPES, Choice
from rolekey.cli.flag_values import parse_boolean
from rolekey.errors import ConfigurationError
from rolekey.pkcs11_uri import redact_pin_value

_EXPLICIT = "rolekey.explicit-booleans"
_LEADING = "rolekey.leading-words"


def option(flag: Flag) -> click.Option:
    """The option of click's for a flag."""
    if flag.kind == "boolean":
        return click.Option([flag.name], is_flag=True, help=flag.help)
    default = {} if flag.default is None else {"default": flag.default, "show_default": True}
    kind = Choice(flag.choices) if flag.choices else TYPES[flag.kind]
    return click.Option([flag.name], type=kind, help=flag.help, multiple=flag.kind == "texts", **default)


class HelperCommand(click.Command):
    """A command with the official helper's flags and spelling.

    Attributes:
        operands: what follows the options, for the help.
    """

    operands = ""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bring pflag's spellings into click's; remember which booleans were given at all."""
        if has_line_end(args):
            raise continued_line()
        booleans = {o for p in self.params if isinstance(p, click.Option) and p.is_flag for o in p.opts}
        valued = {o for p in self.params if isinstance(p, click.Option) and not p.is_flag for o in p.opts}
        rest, given = split_booleans(args, booleans, valued)
        ctx.meta[_EXPLICIT] = given
        ctx.meta[_LEADING] = len(list(takewhile(lambda word: not word.startswith("-"), args)))
        try:
            return super().parse_args(ctx, [*(name for name, value in given.items() if value), *rest])
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            if isinstance(error, click.NoSuchOption) and _has_secret_flag(args):
                raise ConfigurationError(
                    "there is an option that does not exist (not shown: it may be a part of a password)",
                    hint=f"put values with spaces in double quotes; `{ctx.command_path} --help` lists the options",
                ) from None
            raise


def split_booleans(args: Sequence[str], booleans: set[str], valued: set[str]) -> tuple[list[str], dict[str, bool]]:
    """Take the boolean flags out of a command line.

    Args:
        args: the words of the command line.
        booleans: names of the boolean flags.
        valued: names of the flags whose value may be the next word.

    Returns:
        The other words, and the last value of each boolean that was given.

    Raises:
        ConfigurationError: a boolean with a value that is none, or a password that would become another flag's value.
    """
    rest: list[str] = []
    given: dict[str, bool] = {}
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif name in booleans:
            given[name] = parse_boolean(name, value) if equals else True
        else:
            rest.append(word)
            if word in valued:
                rest += _value_of(word, words)
    return rest, given


def _value_of(flag: str, words: Iterator[str]) -> list[str]:
    value = next(words, None)
    if value is not None and _has_secret_flag([value]):
        # pflag takes it, and whatever is said of this flag's value then shows the password.
        raise ConfigurationError(
            f"{flag} has no value: {value.partition('=')[0]} follows it",
            hint="give it a value; where a variable has it, put the variable in double quotes",
        )
    return [] if value is None else [value]


def _has_secret_flag(words: Iterable[str]) -> bool:
    return any(word.partition("=")[0] in SECRET_FLAGS for word in words)


def helper_command(
    name: str,
    flags: Iterable[Flag],
    *,
    most_names: int = 1,
    kind: type[HelperCommand] = HelperCommand,
    exclusions: Iterable[tuple[str, str]] = EXCLUSIONS,
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command with these flags and the names of identities.

    Args:
        name: the command's.
        flags: its options.
        most_names: how many identities it takes.
        kind: of command.
        exclusions: pairs of flags that exclude each other.

    Returns:
        A decorator; the function gets `names`, and every flag's value as an argument of its name; None is what was not
        given.
    """
    table = tuple(flags)

    def decorate(function: Callable[..., None]) -> click.Command:
        def callback(names: tuple[str, ...], **values: Any) -> None:
            ctx = click.get_current_context()
            given = given_flags(ctx)
            has_pin = any(isinstance(value, str) and redact_pin_value(value) != value for value in values.values())
            has_secret = has_pin or _has_secret_flag([*given, *names])
            check_names(names, most_names, known_as_names=ctx.meta[_LEADING] if has_secret else len(names))
            function(names=names, **checked_values(ctx, table, values, exclusions))

        metavar = ("[NAME]" if most_names == 1 else "[NAME]...") + kind.operands
        params = [*(option(flag) for flag in table), click.Argument(["names"], nargs=-1, metavar=metavar)]
        return kind(name, params=params, callback=callback, help=function.__doc__)

    return decorate


def checked_values(
    ctx: click.Context,
    flags: Iterable[Flag],
    values: dict[str, Any],
    exclusions: Iterable[tuple[str, str]] = EXCLUSIONS,
) -> dict[str, Any]:
    """The flags' values; None is what was not given.

    Args:
        ctx: of a HelperCommand.
        flags: its options.
        values: what click made of them.
        exclusions: as helper_command() takes them.

    Raises:
        ConfigurationError: as check_flags().
    """
    booleans = ctx.meta[_EXPLICIT]
    checked = values | {flag.parameter: booleans.get(flag.name) for flag in flags if flag.kind == "boolean"}
    check_flags(given_flags(ctx), checked, exclusions)
    return checked


def given_flags(ctx: click.Context) -> set[str]:
    """The names of the flags that were on the command line, whatever their values."""
    given = {
        option
        for param in ctx.command.params
        if isinstance(param, click.Option)
        and param.name
        and ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
        for option in param.opts
    }
    return given | set(ctx.meta[_EXPLICIT])
