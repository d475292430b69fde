"""``rolekey key``: look at private keys in tokens, TPMs and files."""

import sys
from typing import Any

import click

from rolekey.cli.key_command import key_command, open_settings
from rolekey.cli.terminal import signals_raise
from rolekey.errors import printable
from rolekey.exportability import verdict, written


@click.group("key", no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
def key() -> None:
    """Look at private keys: whether they can leave their hardware."""


@key_command(key, "inspect", ("KEY",))
def inspect(reference: str, **values: Any) -> None:
    """Say what a key's hardware says of it, and whether the key can leave it.

    KEY is a pkcs11: URI, handle:0x81..., or a file. The key is not used; a token shows it after its PIN all the same.
    """
    from rolekey.keys.inspect import inspect_key  # noqa: PLC0415 - not for a wrong option

    settings, interaction, deadline = open_settings(reference, values)
    with signals_raise():
        found = inspect_key(settings, interaction, deadline)
    attributes = found.attributes.values if found.attributes else ()
    lines = [("key", found.key), ("type", found.kind), ("in", found.place)]
    lines += [(name, written(value)) for name, value in attributes]
    lines += [("verdict", verdict(found.attributes))]
    sys.stdout.write("".join(printable(f"{name}: {text}") + "\n" for name, text in lines))
    sys.stdout.flush()
