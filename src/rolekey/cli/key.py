"""``rolekey key``: make private keys in tokens and TPMs, get them certified, look at them."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from rolekey.certificates import utc_now
from rolekey.cli.flag_table import Flag, flags_named
from rolekey.cli.key_command import key_command, open_settings
from rolekey.cli.terminal import signals_raise
from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError, MissingExtraError, printable
from rolekey.exportability import verdict, written
from rolekey.key_settings import KeySettings
from rolekey.pkcs11_uri import PKCS11URI, names_pin

if TYPE_CHECKING:
    from rolekey.keys.rows import Listing

KEY_TYPES = ("rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521")
TYPE = Flag("--type", "text", "rsa2048, rsa3072, rsa4096, p256, p384 or p521.", choices=KEY_TYPES)
FORCE = Flag("--force", "boolean", "Replace what is there. A key that is replaced is lost for good.")
SUBJECT = Flag("--subject", "text", "The subject, as RFC 4514 writes it: CN=web-1,O=Example.")
SAN = Flag("--san", "texts", "A further name: DNS:NAME, IP:ADDRESS, URI:URI, email:ADDRESS. May be repeated.")
OUT = Flag("--out", "text", "The file to write, or - for standard output.")
SIGNING_FLAGS = flags_named("--require-non-exportable --pkcs8-password")
LOGIN = Flag("--login", "boolean", "Log in to the tokens, and show private objects too.")


@click.group("key", no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
def key() -> None:
    """Make private keys, get them certified, see which there are, and whether they can leave their hardware."""


@key_command(key, "generate", ("KEY",), (TYPE, FORCE))
def generate(reference: str, **values: Any) -> None:
    """Make a key that cannot leave its hardware.

    KEY is a pkcs11: URI with the token and the new key's label (object) or id, handle:0x81... in a TPM, or the name of
    a file for the TPM's key. It is the user's PIN that a token wants. Shown is what the hardware says of the new key.
    """
    from rolekey.keys.generate import check_made, generate_key  # noqa: PLC0415 - as below

    force, kind = bool(values.pop("force")), values.pop("type")
    if not kind:
        raise ConfigurationError("--type is missing", hint=f"give one of {', '.join(KEY_TYPES)}")
    settings, interaction, deadline = open_settings(reference, values)
    with signals_raise():
        made = generate_key(settings, interaction, deadline, kind, force=force)
    lines = [("key", made.key), ("type", kind), ("in", made.place)]
    lines += [("replaced", what) for what in made.replaced]
    lines += [(name, written(value)) for name, value in made.attributes.values]
    lines += [(name, "true, which was not asked for") for name in made.other_usages]
    lines += [("verdict", verdict(made.attributes))]
    _print(f"{name}: {text}" for name, text in lines)
    check_made(made)


@key_command(key, "csr", ("KEY",), (SUBJECT, SAN, OUT, FORCE, *SIGNING_FLAGS))
def csr(reference: str, **values: Any) -> None:
    """Write a certificate signing request (PKCS#10, PEM), signed with the key where it is: one signature.

    KEY is a pkcs11: URI, handle:0x81..., or a file. What is asked for is a certificate for digital signatures, which is
    none of a CA.
    """
    from rolekey.keys.csr import RequestedName, make_request  # noqa: PLC0415 - as below
    from rolekey.keys.output import Output  # noqa: PLC0415 - as below

    name = RequestedName.parse(values.pop("subject"), values.pop("san"))
    out = Output.parse(values.pop("out"), "--out", force=bool(values.pop("force")))
    settings, interaction, deadline = open_settings(reference, values)
    with signals_raise():
        request = make_request(settings, interaction, deadline, name)
        if out.path:
            out.write(request)
    if not out.path:
        _print(request.decode("ascii").splitlines())


@key_command(key, "import-certificate", ("KEY", "FILE"), (FORCE, *flags_named("--require-non-exportable")))
def import_certificate(reference: str, file: str, **values: Any) -> None:
    """Store a certificate beside its key, and the issuers that come with it.

    KEY is a pkcs11: URI; FILE is PEM or DER, the key's own certificate first. It gets the key's id and label, so that
    the same URI names both.
    """
    from rolekey.keys.import_certificate import import_certificates, read_leaf_and_issuers  # noqa: PLC0415 - as below

    force = bool(values.pop("force"))
    leaf, issuers = read_leaf_and_issuers(file)
    settings, interaction, deadline = open_settings(reference, values)
    with signals_raise():
        imported = import_certificates(settings, interaction, deadline, leaf, issuers, force=force)
    _print(f"{name}: {text}" for name, text in imported.lines)


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
