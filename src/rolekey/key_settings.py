"""What concerns a private key in the settings: where it is, and what opens it. What it is used for is config.py's."""

import re
from collections.abc import Mapping
from pathlib import Path

from rolekey.errors import ConfigurationError
from rolekey.options import Options
from rolekey.pin_source import PinSource
from rolekey.pkcs11_uri import PKCS11URI, redact_pin_value
from rolekey.secret import Secret
from rolekey.tpm_handle import PREFIX, TPMHandle
from rolekey.tpm_settings import TPMSettings, resolve_tpm_settings
from rolekey.value import Value

KeyReference = Path | PKCS11URI | TPMHandle
MAX_TIMEOUT = 3600.0


class KeySettings(Value, kw_only=True):
    """Where a private key is and what opens it, checked.

    Args:
        private_key: where it is.
        pkcs11_module: path of a module that the user named, or None.
        default_pkcs11_module: path of the module where neither option nor URI names one, or None.
        pkcs11_init_args: a string that the module is initialised with, or None.
        pkcs8_password: or None.
        pin_source: where a token's PIN, or a TPM key's password, is; None where the URIs say it or somebody is asked.
        pin_file_group_readable: a PIN's file may be readable by its group.
        require_non_exportable: only a key is used whose hardware says that it cannot leave it.
        use_last_try: the token's last try may be spent.
        tpm: where the TPM is, and what opens a key in it.
        timeout: seconds, or None for deadline.Deadline.of()'s default.
    """

    private_key: KeyReference
    pkcs11_module: str | None
    default_pkcs11_module: str | None
    pkcs11_init_args: str | None
    pkcs8_password: Secret | None
    pin_source: PinSource | None
    pin_file_group_readable: bool
    require_non_exportable: bool
    use_last_try: bool
    tpm: TPMSettings
    timeout: float | None

    @property
    def purpose(self) -> str:
        """What the key is wanted for, at the end of a question: nothing, or `` for role web``."""
        return ""


def key_settings(private_key: KeyReference, options: Options, environment: Mapping[str, str]) -> KeySettings:
    """Check what opens a key, and fill in what the environment says.

    Args:
        private_key: where it is.
        options: what the user wrote.
        environment: the process's environment.

    Raises:
        ConfigurationError: something is malformed.
    """
    return KeySettings(
        private_key=private_key,
        pkcs11_module=plain_path(options.pkcs11_lib, "--pkcs11-lib") if options.pkcs11_lib else None,
        default_pkcs11_module=environment.get("PKCS11_MODULE_PATH") or None,
        pkcs11_init_args=options.pkcs11_init_args or None,
        pkcs8_password=options.pkcs8_password,
        pin_source=PinSource.parse(plain_path(options.pin_source, "--pin-source")) if options.pin_source else None,
        pin_file_group_readable=bool(options.pin_file_group_readable),
        require_non_exportable=bool(options.require_non_exportable),
        use_last_try=bool(options.use_last_try),
        tpm=resolve_tpm_settings(options, environment),
        timeout=checked_timeout(options),
    )


def checked_timeout(options: Options) -> float | None:
    """The time allowed, in seconds, or None.

    Args:
        options: what the user wrote.

    Raises:
        ConfigurationError: it is out of range.
    """
    if options.timeout is not None and not 0 < options.timeout <= MAX_TIMEOUT:
        raise ConfigurationError("--timeout is out of range", hint="give a number of seconds from 0.1 to 3600")
    return options.timeout


def key_reference(text: str, option: str) -> KeyReference:
    """Read what names a key: a path, a ``pkcs11:`` URI, or ``handle:`` and a TPM's handle.

    Args:
        text: as it was written.
        option: what it was written for, for an error's text.

    Raises:
        ConfigurationError: it is none of them.
    """
    if not text:
        raise ConfigurationError(
            f"{option} is empty",
            hint="name a file, a pkcs11: URI such as 'pkcs11:token=NAME;object=LABEL', or a TPM's handle:0x81...",
        )
    if text.startswith("pkcs11:"):
        return PKCS11URI.parse(text)
    if text.lower().startswith("pkcs11:"):
        raise ConfigurationError(
            f"{option}: the scheme of a PKCS#11 URI is written in small letters", hint="pkcs11:..."
        )
    if text.startswith(PREFIX):
        return TPMHandle.parse(text)
    return Path(plain_path(text, option))


def plain_path(text: str, option: str) -> str:
    """A text that is no URI, as it is.

    Args:
        text: as it was written.
        option: what it was written for.

    Raises:
        ConfigurationError: it holds a PIN, or has lost its backslashes.
    """
    # A path is quoted in messages and logs; a URI in quotes of its own, or of the wrong option, is no path.
    if redact_pin_value(text) != text:
        raise ConfigurationError(
            f"{option} has a pin-value and is not a PKCS#11 URI, or not where one belongs",
            hint="a URI starts with pkcs11: (without quotes in the value itself) and belongs to --certificate or "
            "--private-key",
        )
    if re.match(r"[A-Za-z]:[^\\/]", text):
        raise ConfigurationError(
            f"{option} is a Windows path without its backslashes",
            hint="SDKs take single backslashes away: write / in their place, or put the value in single quotes",
        )
    return text
