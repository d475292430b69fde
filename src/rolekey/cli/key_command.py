"""What the commands of ``rolekey key`` have in common: the flags for where a key is and what opens it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import click

from rolekey.cli.fetching import configured_from
from rolekey.cli.flag_table import Flag, flags_named
from rolekey.cli.flags import HelperCommand, checked_values, option
from rolekey.cli.terminal import Terminal, can_ask, shield_output
from rolekey.deadline import ATTENDED_SECONDS, Deadline
from rolekey.errors import ConfigurationError
from rolekey.fetch import person_for
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings, resolve_key_settings
from rolekey.keys import ARGUMENT

KEY_FLAGS = flags_named(
    "--debug --pkcs11-lib --tpm-key-password --no-tpm-key-password --pkcs11-init-args --pin-source "
    "--pin-file-group-readable --use-last-try --tpm-tcti --tpm-parent-password-source --timeout"
)


def key_command(
    group: click.Group, name: str, arguments: Sequence[str], flags: Sequence[Flag] = (), *, needs_all: bool = True
) -> Callable[[Callable[..., None]], None]:
    """Make a function a command of a group, with KEY_FLAGS.

    Args:
        group: the command's.
        name: the command's.
        arguments: what its words are called.
        flags: further options.
        needs_all: all of them have to be given.

    Returns:
        A decorator; the function gets the words, and every flag's value as an argument of its name.
    """
    table = (*KEY_FLAGS, *flags)

    def decorate(function: Callable[..., None]) -> None:
        def callback(words: tuple[str, ...], **values: Any) -> None:
            ctx = click.get_current_context()
            checked = checked_values(ctx, table, values)
            if len(words) > len(arguments) or (needs_all and len(words) < len(arguments)):
                # Not shown: it may be a part of a password or PIN.
                raise ConfigurationError(
                    f"`{ctx.command_path}` takes {' and '.join(arguments)}, and {len(words)} arguments are given",
                    hint=f"put values with spaces in double quotes; `{ctx.command_path} --help` lists the options",
                )
            function(*words, **checked)

        metavar = " ".join(arguments if needs_all else [f"[{word}]" for word in arguments])
        argument = click.Argument(["words"], nargs=-1, metavar=metavar)
        params = [*(option(flag) for flag in table), argument]
        group.add_command(HelperCommand(name, params=params, callback=callback, help=function.__doc__))

    return decorate


def open_settings(reference: str, values: dict[str, Any]) -> tuple[KeySettings, Interaction, Deadline]:
    """From a command line to what every function of rolekey.keys takes. Modules cannot write on stdout afterwards.

    Args:
        reference: names the key.
        values: of the flags.

    Raises:
        ConfigurationError: something is malformed.
        PinRequiredError: a descriptor that a PIN is read from is not open.
    """
    if not reference:
        raise ConfigurationError(
            f"{ARGUMENT} is empty",
            hint="name a file, a pkcs11: URI such as 'pkcs11:token=NAME;object=LABEL', or a TPM's handle:0x81...",
        )
    (options,) = configured_from(values | {"private_key": reference}, ())
    # A certificate that the environment names is not of this key.
    origins = (*options.origins, ("private_key", ARGUMENT))
    settings = resolve_key_settings(replace(options, certificate=None, origins=origins), os.environ)
    shield_output(debug=values["debug"])
    # Nobody stops waiting for this command after a few seconds, as an SDK for credentials.
    deadline = Deadline(settings.timeout or ATTENDED_SECONDS)
    deadline.attended = can_ask()
    return settings, person_for(settings, Terminal)(deadline), deadline
