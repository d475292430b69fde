"""A TPM key as a program opens it, for the tests of everything that can go wrong."""

from pathlib import Path
from typing import Any

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.identity import SigningIdentity, open_identity
from rolekey.interaction import Interaction, NoInteraction
from rolekey.options import Options
from support.contract_child import ARNS
from support.swtpm import SWTPM
from support.tpm_keys import MadeKey


def options_of(tpm: SWTPM, made: MadeKey, **options: Any) -> Options:
    """The Options of a key.

    Args:
        tpm: where it is.
        made: the key.
        options: others than its own.
    """
    own = {"private_key": made.private_key, "certificate": str(made.certificate), "tpm_tcti": tpm.tcti}
    return Options(**{**ARNS, **own, **made.options, **options})


def identity_of(
    tpm: SWTPM, made: MadeKey, *, interaction: Interaction | None = None, seconds: float = 60, **options: Any
) -> SigningIdentity:
    """The identity of a key.

    Args:
        tpm: where it is.
        made: the key.
        interaction: nobody, unless given.
        seconds: of the deadline.
        options: as `options_of` takes them.
    """
    settings = resolve_settings(options_of(tpm, made, **options), {})
    return open_identity(settings, interaction or NoInteraction(), Deadline(seconds))


def password_file(directory: Path, password: str) -> str:
    """A --pin-source that gives a password.

    Args:
        directory: where its file is written.
        password: the password.
    """
    path = directory / f"password-{password}"
    path.touch(mode=0o600)
    path.write_text(password, encoding="utf-8")
    return f"file:{path}"
