"""What concerns a TPM in the settings: where it is, and where the passwords of a key and its parent come from."""

from collections.abc import Mapping

from rolekey.options import Options
from rolekey.pin_source import PinSource
from rolekey.secret import Secret
from rolekey.value import Value


class TPMSettings(Value, kw_only=True):
    """Where the TPM is and what opens a key in it.

    Args:
        tcti: of ``--tpm-tcti``, else TPM2TOOLS_TCTI, which decides; or None.
        device: of TPM_DEVICE: path of a character device or UNIX socket; or None.
        key_password: of ``--tpm-key-password``, or None.
        no_key_password: the user says that the key has none.
        parent_password_source: where the password of the key's parent or hierarchy is, or None where it has none.
    """

    tcti: str | None = None
    device: str | None = None
    key_password: Secret | None = None
    no_key_password: bool = False
    parent_password_source: PinSource | None = None


def resolve_tpm_settings(options: Options, environment: Mapping[str, str]) -> TPMSettings:
    """Fill in what the environment says.

    Args:
        options: what the user wrote.
        environment: the process's environment.

    Raises:
        ConfigurationError: the source of a password is none.
    """
    password, source = options.tpm_key_password, options.tpm_parent_password_source
    return TPMSettings(
        tcti=options.tpm_tcti or environment.get("TPM2TOOLS_TCTI") or None,
        device=environment.get("TPM_DEVICE") or None,
        key_password=password if password is not None and password.reveal() else None,
        no_key_password=bool(options.no_tpm_key_password),
        parent_password_source=PinSource.parse(source, "--tpm-parent-password-source") if source else None,
    )
