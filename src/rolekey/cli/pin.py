"""``rolekey pin``: what is recorded of PIN sources that a token refused. No module is loaded and no PIN is read."""

import sys

import click

from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError, printable
from rolekey.pin_record import Entry, TokenName, all_entries, forget
from rolekey.pins import record_directories
from rolekey.pkcs11_uri import PKCS11URI

LOCK_SECONDS = 10.0


@click.group("pin", no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
def pin() -> None:
    """List or forget PIN sources that a token refused."""


@pin.command("list")
def list_refused() -> None:
    """List the sources that are not sent again, one a line: token, source, state, time."""
    entries, damaged = all_entries(record_directories())
    for entry in entries:
        sys.stdout.write(printable(f"{token_uri(entry.token)}  {entry.source}  {entry.state}  {entry.at}") + "\n")
    for path in damaged:
        sys.stdout.write(printable(f"{path}  cannot be read: `rolekey pin forget --all` removes it") + "\n")


@pin.command("forget")
@click.argument("token", required=False, metavar="[TOKEN-URI]")
@click.option("--all", "everything", is_flag=True, help="Of all tokens.")
def forget_refused(token: str | None, *, everything: bool) -> None:
    """Let refused sources be sent once more, for instance after a PIN in a variable was corrected.

    TOKEN-URI selects the token, as in pkcs11:serial=1234.
    """
    if bool(token) is everything:
        raise ConfigurationError(
            "neither a token nor --all is named" if everything is False else "a token and --all are named",
            hint="give a URI such as pkcs11:serial=1234, or --all; `rolekey pin list` shows what is recorded",
        )
    uri = PKCS11URI.parse(token) if token else None

    def chosen(entry: Entry) -> bool:
        return uri is None or _matches(uri, entry.token)

    number = forget(record_directories(), chosen, Deadline(LOCK_SECONDS), damaged=everything)
    sys.stdout.write(f"forgotten: {number}\n")


def token_uri(token: TokenName) -> str:
    """An RFC 7512 URI that selects a token."""
    return str(
        PKCS11URI(
            token=token.label,
            serial=token.serial or None,
            manufacturer=None if token.serial else token.manufacturer,
            model=None if token.serial else token.model,
        )
    )


def _matches(uri: PKCS11URI, token: TokenName) -> bool:
    # Which slot and module the token was seen in is not recorded.
    return uri.matches(
        token=token.label,
        manufacturer=token.manufacturer,
        serial=token.serial,
        model=token.model,
        slot_id=uri.slot_id or 0,
        slot_description=uri.slot_description or "",
        slot_manufacturer=uri.slot_manufacturer or "",
        library_manufacturer=uri.library_manufacturer or "",
        library_description=uri.library_description or "",
        library_version=uri.library_version or (0, 0),
    )
