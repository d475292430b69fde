"""Where the PIN comes from, and whether it would be sent. It is looked at, never shown and never sent."""

from collections.abc import Iterator

from rolekey.base.advice import FILE_FORM, NOBODY_TO_ASK_HERE, in_quotes
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, failed, known, ok
from rolekey.pin_record import TokenName, all_entries
from rolekey.pin_source import FORMS, PinSource
from rolekey.pins import Pin, PinReader, record_directories
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.tokens.token_info import pin_limits


def check_pin_source(context: Context) -> Iterator[Verdict]:
    """The source of the PIN of a token, or of a TPM key's password."""
    key, holder = context.facts.key, context.facts.holder
    if key is not None and isinstance(key.private_key, PKCS11URI):
        known(context.facts.contents, "the token")
    if key is None or holder is None:
        return
    reader = known(context.facts.pins, "the PIN's source")
    source = reader.configured
    if key.tpm.key_password is not None:
        yield ok("the password is given with --tpm-key-password, which other processes can see")
        return
    if source is None or source.kind == "prompt":
        yield _asked(context)
        return
    if source.kind == "none":
        yield failed("a PIN is needed, and --pin-source is none", f"give one of {FORMS} to --pin-source")
        return
    pin = _read(context, reader, source)
    if pin is not None and (refusal := _refused(context, holder, pin.source)):
        yield refusal
        return
    contents = context.facts.contents
    if pin is not None and contents is not None:
        limits = context.deadline().run(f"token {contents.token}", lambda: pin_limits(contents.token))
        if not limits.allow(len(pin.secret.reveal().encode())):
            yield failed(
                f"the PIN from {pin.source} is not of a length that token {contents.token} takes", "correct the source"
            )
            return
    yield ok(f"the PIN comes from {pin.source if pin else source}; it was not sent")


def _asked(context: Context) -> Verdict:
    contents = context.facts.contents
    if contents is not None and contents.token.protected_authentication_path:
        return ok("the PIN is entered on the token's own pad")
    if context.attended:
        return ok("no source is configured: somebody is asked for the PIN")
    return failed(
        f"a PIN is needed, no source is configured, and there is {NOBODY_TO_ASK_HERE}",
        f"put it into a file that only you can read and add ?pin-source={FILE_FORM} to the URI, or give "
        f"--pin-source one of {FORMS}",
    )


def _read(context: Context, reader: PinReader, source: PinSource) -> Pin | None:
    """The PIN; None of a source that can be read once only: it is left to whoever signs."""
    if source.kind == "fd":
        return None
    return context.deadline().run("the PIN's source", reader.read)


def _refused(context: Context, holder: TokenName, source: PinSource) -> Verdict | None:
    entries, damaged = all_entries(record_directories(context.environment))
    for entry in entries:
        if entry.token == holder and entry.source.is_same(source):
            said = "was refused" if entry.state == "refused" else "may have been refused (the answer is not known)"
            return failed(
                f"the PIN from {entry.source} {said} at {entry.at} and has not changed: it is not sent again",
                f"correct it, or `rolekey pin forget {in_quotes(f'pkcs11:serial={entry.token.serial}')}`",
            )
    if any(path.stem == holder.file_name for path in damaged):
        return failed(
            f"the record of refused PINs is damaged, so that no PIN is sent: {damaged[0].parent}",
            "remove it with `rolekey pin forget --all`",
        )
    return None
