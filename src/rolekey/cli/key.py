"""``rolekey key``: look at private keys in tokens, TPMs and files."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from rolekey.certificates import utc_now
from rolekey.cli.flags import Flag
from rolekey.cli.key_command import key_command, open_settings
from rolekey.cli.terminal import signals_raise
from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError, MissingExtraError, printable
from rolekey.exportability import verdict, written
from rolekey.key_settings import KeySettings
from rolekey.pkcs11_uri import PKCS11URI, names_pin

if TYPE_CHECKING:
    from rolekey.keys.rows import Listing

LOGIN = Flag("--login", "boolean", "Log in to the tokens, and show private objects too.")


@click.group("key", no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
def key() -> None:
    """Look at private keys: which there are, and whether they can leave their hardware."""


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
    _print(f"{name}: {text}" for name, text in lines)


@key_command(key, "list", ("TOKEN-URI",), (LOGIN,), needs_all=False)
def list_command(reference: str = "pkcs11:", **values: Any) -> None:
    """Show the keys and certificates of every token of every module that is found, and the keys that the TPM keeps.

    TOKEN-URI selects tokens, and leaves the TPM out. No PIN is asked for or sent without --login, --pin-source, or a
    pin-source in TOKEN-URI; one that is configured is for one token.
    """
    from rolekey.keys.listing import TokenLister  # noqa: PLC0415 - not for a wrong option

    source = values["pin_source"] or "none"
    wants_login = bool(values.pop("login")) or source != "none" or names_pin(reference)
    settings, interaction, deadline = open_settings(reference, values)
    uri = settings.private_key
    if not isinstance(uri, PKCS11URI):
        raise ConfigurationError("TOKEN-URI is no PKCS#11 URI", hint="write pkcs11:token=NAME, or leave it out")
    with signals_raise():
        lister = TokenLister(settings, uri, interaction, deadline, utc_now(), login=wants_login)
        listings = list(lister.listings())
        if reference == "pkcs11:":
            listings += _of_tpm(settings, deadline)
    if not listings:
        _print(["there is no token, and no TPM"])
    _print(line for listing in listings for line in _lines(listing))


def _of_tpm(settings: KeySettings, deadline: Deadline) -> "list[Listing]":
    from rolekey.signers.tpm_key import tpm_library  # noqa: PLC0415 - as above

    try:
        with tpm_library():
            from rolekey.keys.tpm_listing import tpm_listings  # noqa: PLC0415 - as above
    except MissingExtraError:
        if settings.tpm.tcti or settings.tpm.device:
            raise
        return []
    return tpm_listings(settings, deadline)


def _lines(listing: "Listing") -> Iterator[str]:
    yield listing.title
    for row in listing.rows:
        yield f"  {row.uri}"
        yield f"    {row.what}: {row.use}"
    if listing.note:
        yield f"  ({listing.note})"


def _print(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(printable(line) + "\n" for line in lines))
    sys.stdout.flush()
