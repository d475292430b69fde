"""What concerns the key in the settings: where it is, what opens it, and which certificate it is used with."""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, Union

from rolekey.base.paths import path_fault
from rolekey.errors import ConfigurationError
from rolekey.options import Options, check_has_stores, revealed
from rolekey.pin_source import PinSource
from rolekey.pkcs11_uri import PKCS11URI, redact_pin_value
from rolekey.secret import Secret
from rolekey.tpm_handle import PREFIX, TPMHandle
from rolekey.tpm_settings import TPMSettings, resolve_tpm_settings
from rolekey.value import Value

if TYPE_CHECKING:
    from rolekey.store_reference import StoreReference

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_TIMEOUT = 3600.0

# The last is rare: whatever is none of the others is one, and nobody else imports it.
CertificateReference: TypeAlias = Union[Path, PKCS11URI, "StoreReference"]
KeyReference: TypeAlias = Union[Path, PKCS11URI, TPMHandle, "StoreReference"]


class KeySettings(Value, kw_only=True):
    """Where a private key is, what opens it, and the certificate that it is used with, checked.

    Args:
        certificate: where the certificate is, or None for a key by itself.
        private_key: where the private key is.
        derived_private_key: only the certificate was named, and the key is whatever belongs to it in its token.
        pkcs11_module: path of a module that the user named, or None.
        default_pkcs11_module: path of the module where neither option nor URI names one, or None.
        pkcs8_password: of a key file or PKCS#12 file, or None.
        pin_source: where a token's PIN, or a TPM key's password, is; None where the URIs say it or somebody is asked.
        pin_file_group_readable: a PIN's file may be readable by its group.
        pkcs11_init_args: a string that the module is initialised with, or None.
        require_non_exportable: only a key is used whose hardware says that it cannot leave it.
        use_last_try: the token's last try may be spent.
        tpm: where the TPM is, and what opens a key in it.
        timeout: seconds, or None for deadline.Deadline.of()'s default.
        config_file: the configuration file that some of it is from, or None.
    """

    certificate: CertificateReference | None
    private_key: KeyReference
    derived_private_key: bool
    pkcs11_module: str | None
    default_pkcs11_module: str | None
    pkcs8_password: Secret | None
    pin_source: PinSource | None
    pin_file_group_readable: bool
    pkcs11_init_args: str | None
    require_non_exportable: bool
    use_last_try: bool
    tpm: TPMSettings
    timeout: float | None
    config_file: Path | None = None

    @property
    def store(self) -> "StoreReference | None":
        """Where certificate and key are, if that is a certificate store."""
        key = self.private_key
        return None if isinstance(key, Path | PKCS11URI | TPMHandle) else key

    @property
    def purpose(self) -> str:
        """What the key is wanted for, at the end of a question: nothing, or `` for role web``."""
        return ""


def resolve_key_settings(options: Options, environment: Mapping[str, str]) -> KeySettings:
    """Check what concerns the key; what it is used for need not be said.

    Args:
        options: as configured_options() returns them.
        environment: the process's environment.

    Raises:
        ConfigurationError: something is missing, malformed, or contradicts something else.
    """
    return by_origin(key_settings, options, environment)


def key_settings(options: Options, environment: Mapping[str, str]) -> KeySettings:
    """As resolve_key_settings(); an error calls every option by its flag."""
    if options.timeout is not None and not 0 < options.timeout <= MAX_TIMEOUT:
        raise ConfigurationError("--timeout is out of range", hint="give a number of seconds from 0.1 to 3600")
    certificate, private_key = _references(options)
    log.debug("settings: private key %s, certificate %s", private_key, certificate or "not named")
    return KeySettings(
        certificate=certificate,
        private_key=private_key,
        derived_private_key=not revealed(options.private_key),
        pkcs11_module=plain_path(options.pkcs11_lib, "--pkcs11-lib") if options.pkcs11_lib else None,
        default_pkcs11_module=environment.get("PKCS11_MODULE_PATH") or None,
        pkcs8_password=options.pkcs8_password,
        pin_source=PinSource.parse(plain_path(options.pin_source, "--pin-source")) if options.pin_source else None,
        pin_file_group_readable=bool(options.pin_file_group_readable),
        pkcs11_init_args=options.pkcs11_init_args or None,
        require_non_exportable=bool(options.require_non_exportable),
        use_last_try=bool(options.use_last_try),
        tpm=resolve_tpm_settings(options, environment),
        timeout=options.timeout,
        config_file=options.config_file,
    )


def by_origin(
    resolve: Callable[[Options, Mapping[str, str]], T], options: Options, environment: Mapping[str, str]
) -> T:
    """Resolve; an error's message calls an option what it is called where it was written.

    Args:
        resolve: from options and environment to settings.
        options: as configured_options() returns them.
        environment: the process's environment.
    """
    origins = dict(options.origins)

    def called(match: re.Match[str]) -> str:
        return origins.get(match[1].replace("-", "_"), match[0])

    try:
        return resolve(options, environment)
    except ConfigurationError as error:
        renamed = type(error)(re.sub("--([a-z0-9-]+)", called, error.message), hint=error.hint)
        raise renamed from error.__cause__


def _references(options: Options) -> tuple[CertificateReference | None, KeyReference]:
    named_certificate, named_key = revealed(options.certificate), revealed(options.private_key)
    if store_option := options.store_option:
        check_has_stores(store_option)
        # As with the official helper, this one alone has no effect on a certificate that is named.
        if named_key or (named_certificate and store_option != "--use-latest-expiring-certificate"):
            other = "--private-key" if named_key else "--certificate"
            raise ConfigurationError(f"{store_option} and {other} exclude each other", hint="leave out one of them")
        if not named_certificate:
            from rolekey.store_reference import StoreReference  # noqa: PLC0415 - rare

            in_store = StoreReference.of(options)
            return in_store, in_store
    if not named_certificate and not named_key:
        raise _nothing_named()
    certificate = _certificate_reference(_reference(named_certificate, "--certificate")) if named_certificate else None
    # The option that was given is named, also where it serves for both.
    key = _reference(named_key, "--private-key") if named_key else certificate
    assert key is not None  # noqa: S101 - one of both was given
    return certificate, key


def _nothing_named() -> ConfigurationError:
    hint = "name the certificate and the key: files, or pkcs11: URIs such as 'pkcs11:token=NAME;object=LABEL'"
    if sys.platform == "win32":
        # Not taken by itself: a key that was forgotten in a configuration would become whichever the store has.
        hint += """; --cert-selector "" takes the one in the certificate store"""
    return ConfigurationError("neither --certificate nor --private-key is given", hint=hint)


def certificate_of(settings: KeySettings) -> CertificateReference:
    """Where the certificate is: where the key is, if nothing else is named.

    Args:
        settings: of the key.

    Raises:
        ConfigurationError: that is a TPM's handle.
    """
    return _certificate_reference(settings.private_key if settings.certificate is None else settings.certificate)


def _certificate_reference(reference: KeyReference) -> CertificateReference:
    if isinstance(reference, TPMHandle):
        raise ConfigurationError(
            "a TPM keeps no certificate under a key's handle",
            hint="name the certificate's file with --certificate, and the handle with --private-key",
        )
    return reference


def _reference(text: str, option: str) -> KeyReference:
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
    """A value that messages and logs may quote.

    Args:
        text: the value.
        option: its name.

    Raises:
        ConfigurationError: it holds a PIN, or is a path without its backslashes.
    """
    # A path is quoted in messages and logs; a URI in quotes of its own, or of the wrong option, is no path.
    if redact_pin_value(text) != text:
        raise ConfigurationError(
            f"{option} has a pin-value and is not a PKCS#11 URI, or not where one belongs",
            hint="a URI starts with pkcs11: (without quotes in the value itself) and belongs to --certificate or "
            "--private-key",
        )
    if fault := path_fault(text.removeprefix("file:") if option.endswith("-source") else text):
        raise ConfigurationError(f"{option} is {fault[0]}", hint=fault[1])
    return text
