"""``rolekey sign-string``: one signature, to try a key without the service."""

import sys
from collections.abc import Sequence
from typing import Any

from rolekey.cli.fetching import key_settings_from, person_and_deadline
from rolekey.cli.flag_table import EXCLUSIONS, Flag, flags_named
from rolekey.cli.flags import helper_command
from rolekey.cli.terminal import shield_output, signals_raise
from rolekey.signers.base import HashName

_HASHES: dict[str, HashName] = {"SHA256": "sha256", "SHA384": "sha384", "SHA512": "sha512"}
SIGN_STRING_FLAGS = (
    *flags_named(
        "--certificate --private-key --debug --cert-selector --system-store-name --use-latest-expiring-certificate "
        "--pkcs11-lib --reuse-pin --tpm-key-password --no-tpm-key-password --pkcs8-password"
    ),
    Flag("--format", "text", "json (in double quotes), text or bin.", "json", ("json", "text", "bin")),
    Flag("--digest", "text", "SHA256, SHA384 or SHA512.", "SHA256", tuple(_HASHES)),
    *flags_named(
        "--pkcs11-init-args --pin-source --pin-file-group-readable --require-non-exportable --use-last-try --tpm-tcti "
        "--tpm-parent-password-source --timeout"
    ),
)
# The official helper has one more here than elsewhere.
SIGN_STRING_EXCLUSIONS = (*EXCLUSIONS, ("--no-tpm-key-password", "--reuse-pin"))


@helper_command("sign-string", SIGN_STRING_FLAGS, exclusions=SIGN_STRING_EXCLUSIONS)
def sign_string(names: Sequence[str], **values: Any) -> None:
    """Sign a fixed text, to try a key.

    Nothing is sent anywhere. Where a certificate is named, the signature is verified with it; the certificate itself
    may be expired or unfit for IAM Roles Anywhere. The output has no line end.
    """
    settings = key_settings_from(values, names)
    shield_output(debug=values["debug"])
    interaction, deadline = person_and_deadline(settings)
    from rolekey.sign_string import sign_string  # noqa: PLC0415 - slow to import; not for a wrong option

    # A signal in the middle must leave nothing behind in a TPM.
    with signals_raise():
        signature = sign_string(settings, interaction, deadline, hash=_HASHES[values["digest"]])
    sys.stdout.buffer.write(_encoded(signature, values["format"]))
    sys.stdout.flush()


def _encoded(signature: bytes, form: str) -> bytes:
    if form == "bin":
        return signature
    text = signature.hex()
    return (f'"{text}"' if form == "json" else text).encode()
