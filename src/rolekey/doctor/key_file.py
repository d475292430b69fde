"""A private key in a file."""

from collections.abc import Iterator
from pathlib import Path

from rolekey.base.advice import PRIVATE_FILE
from rolekey.base.owner import access_of
from rolekey.certificates import read_file, spki
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, failed, ok, warning
from rolekey.errors import KeyNotFoundError, PinRequiredError
from rolekey.exportability import verdict
from rolekey.file_identity import FileIdentity
from rolekey.identity import mismatch
from rolekey.interaction import NoInteraction
from rolekey.keys.inspect import kind_of
from rolekey.tss2_key import is_tss2


def content_of_key_file(context: Context) -> tuple[Path, bytes] | None:
    """A key's file and what is in it; None where the key is in none.

    Raises:
        KeyNotFoundError: it cannot be read.
    """
    key = context.facts.key
    if key is None or not isinstance(key.private_key, Path):
        return None
    return key.private_key, read_file(key.private_key, "private key file", KeyNotFoundError)


def check_key_file(context: Context) -> Iterator[Verdict]:
    """The file: who can read it, whether it can be opened, whether it belongs to the certificate."""
    found = content_of_key_file(context)
    if found is None or context.facts.key is None:
        return
    path, content = found
    if not is_tss2(content):
        yield from _mode(path)
        context.admit(f"the private key {path}", None)
        backend = FileIdentity(context.facts.key, path, NoInteraction(), context.deadline(), content=content)
        try:
            signer = backend.open_signer()
        except PinRequiredError:
            yield _without_passphrase(context, path)
            return
        leaf = context.facts.certificate
        if leaf is not None and spki(signer.public_key) != spki(leaf.public_key()):
            raise mismatch(leaf)
        belongs = "" if leaf is None else ", belongs to the certificate"
        yield ok(f"{path}: {kind_of(signer.public_key)}{belongs}; {verdict(None)}")


def _mode(path: Path) -> Iterator[Verdict]:
    access = access_of(path, path, path.stat(), root=True)
    if access.opening is not None:
        yield warning(
            f"{path} has {access.opening}, so that others than its owner get at the private key", access.remedy
        )


def _without_passphrase(context: Context, path: Path) -> Verdict:
    text = f"the private key in {path} is encrypted, and no passphrase is configured"
    if context.attended:
        return warning(f"{text}: somebody is asked for it each time", "a program without a terminal cannot use it")
    return failed(
        f"{text}, and there is no terminal to ask on",
        "give --pkcs8-password, or keep the key where it needs none: in a token, or in " + PRIVATE_FILE,
    )
