"""``rolekey exec``: a command with credentials in its environment. The process becomes the command, where it can."""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click

from rolekey.cache import cached_question
from rolekey.cli.fetching import fetcher_once, settings_from
from rolekey.cli.flag_table import CREDENTIAL_PROCESS_FLAGS
from rolekey.cli.flags import HelperCommand, helper_command
from rolekey.cli.process import executable_hint, inherited_descriptors, replace_process
from rolekey.cli.terminal import shield_output, unshield_output
from rolekey.errors import CommandError, CommandNotFoundError, ConfigurationError
from rolekey.vend.environment import environment_with
from rolekey.vend.shared import shared_credentials

_COMMAND = "rolekey.command"


class CommandAfterDashes(HelperCommand):
    """A command line whose words after ``--`` are another one, of which nothing is looked at."""

    operands = " -- COMMAND [ARGUMENT]..."

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Part the two."""
        valued = {o for p in self.params if isinstance(p, click.Option) and not p.is_flag for o in p.opts}
        own, command = split_command(args, valued)
        if not command and not {"-h", "--help"}.intersection(own):
            raise _no_command()
        rest = super().parse_args(ctx, own)  # ends here where help is asked for
        if not command:
            raise _no_command()
        ctx.meta[_COMMAND] = command
        return rest


def split_command(args: Sequence[str], valued: set[str]) -> tuple[list[str], list[str]]:
    """Part a command line at the ``--`` that is no flag's value.

    Args:
        args: its words.
        valued: names of the flags whose value may be the next word.

    Returns:
        The words before it, and those after it; none of the latter where it is missing.
    """
    is_value = False
    for index, word in enumerate(args):
        if word == "--" and not is_value:
            return list(args[:index]), list(args[index + 1 :])
        is_value = not is_value and word in valued
    return list(args), []


@helper_command("exec", CREDENTIAL_PROCESS_FLAGS, kind=CommandAfterDashes)
def exec_command(names: Sequence[str], **values: Any) -> None:
    """Run a command with temporary credentials in its environment.

    It takes the place of this process, and its exit code is the command's. The credentials are those that
    credential-process would print; they are not renewed while the command runs.
    """
    command: list[str] = click.get_current_context().meta[_COMMAND]
    (settings,) = settings_from(values, names)
    inherited = inherited_descriptors()
    # Before a PIN or touch is asked for in vain.
    program = find_program(command[0], os.environ)
    shield_output(debug=values["debug"])
    fetch, deadline = fetcher_once(settings)
    place = None if values["no_cache"] else cached_question(settings, (), os.environ)
    credentials = shared_credentials(place, fetch, deadline)
    unshield_output()
    for descriptor in inherited_descriptors() - inherited:
        # A module's connection to its token is not for the command.
        os.set_inheritable(descriptor, False)
    become(program, command, environment_with(credentials, settings, os.environ))


def find_program(name: str, environment: Mapping[str, str]) -> str:
    """The file that a shell would run.

    Args:
        name: the command's first word.
        environment: where PATH is.

    Raises:
        CommandNotFoundError: there is none.
        CommandError: there is one that cannot be run.
    """
    path = environment.get("PATH", os.defpath)
    if found := shutil.which(name, path=path):
        return found
    if unfit := shutil.which(name, os.F_OK, path):
        raise CommandError(f"the command {name} is not executable", hint=executable_hint(unfit))
    if os.path.isdir(name) and os.sep in name:  # noqa: PTH112 - Path.is_dir() raises where a directory is closed
        raise CommandError(f"the command {name} is a directory", hint="name a program in it")
    raise CommandNotFoundError(
        f"the command {name or repr(name)} is not found",
        hint="check its name; it is looked for in PATH, as by a shell, but it is no alias or function of one",
    )


def _no_command() -> ConfigurationError:
    return ConfigurationError(
        "no command is given",
        hint="write it after two dashes: rolekey exec NAME -- COMMAND; options may stand in place of NAME",
    )


def become(program: str, command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Run a program in place of this one; where the system cannot, as a child, and end with its exit code.

    Args:
        program: its file.
        command: its arguments, from the one with its own name.
        environment: its variables.

    Raises:
        CommandError: the system does not run it.
    """
    try:
        replace_process(program, command, environment)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise CommandNotFoundError(
                f"the command {program} cannot be run: what it is to be run by is not there",
                hint="check the program that its first line names after #!",
            ) from error
        is_script = error.errno == errno.ENOEXEC
        raise CommandError(
            f"the command {program} cannot be run: {error.strerror}",
            hint="a script's first line names what runs it, such as #!/bin/sh" if is_script else "name another program",
        ) from error
