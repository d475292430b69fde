"""What the user wrote on a command line, in a configuration or in a program, before anything of it is checked."""

import dataclasses
import sys
from pathlib import Path
from typing import Self

from rolekey.errors import ConfigurationError
from rolekey.pkcs11_uri import names_module, names_pin, redact_pin_value
from rolekey.secret import Secret
from rolekey.value import Value

DEFAULT_SESSION_DURATION = 3600

# What opens the key: said in one place, it is not completed from another.
_OPENERS = ("pin_source", "pkcs8_password", "tpm_key_password", "no_tpm_key_password")
_REFERENCES = ("certificate", "private_key")
# What selects certificate and key in a certificate store, in place of those two.
STORE_OPTIONS = ("cert_selector", "system_store_name", "use_latest_expiring_certificate")


class Options(Value, kw_only=True):
    """What the user wrote, as it was written; None or an empty text is what was not.

    Args:
        trust_anchor_arn, profile_arn, role_arn: the three ARNs.
        certificate, private_key: a path or a ``pkcs11:`` URI, of the key also ``handle:`` and a TPM's handle; when
            one is missing the other serves for both. A text that holds a PIN becomes a Secret, and so does an endpoint
            with user information.
        intermediates: path of a PEM bundle.
        cert_selector: selects certificate and key in a certificate store of Windows, as the official helper's
            ``--cert-selector`` does; an empty text selects whatever there is.
        system_store_name: of that store; MY where it is not given.
        use_latest_expiring_certificate: of several in it, the one that expires last is meant.
        session_duration: seconds; 3600 where it is not given.
        role_session_name: name of the role session.
        region: AWS region; else the trust anchor's.
        endpoint: base URL of the service.
        pkcs11_lib: path of a PKCS#11 module.
        pkcs8_password: passphrase of an encrypted key file.
        pin_source: where a token's PIN, or a TPM key's password, is, as PinSource.parse() reads it.
        pin_file_group_readable: a PIN's file may be readable by its group.
        pkcs11_init_args: a string that the module is initialised with (NSS).
        require_non_exportable: only a key is used whose hardware says that it cannot leave it.
        use_last_try: the token's last try may be spent.
        tpm_tcti: where the TPM is: a TCTI, or the path of a device or socket.
        tpm_key_password: of a key in a TPM.
        no_tpm_key_password: the key in a TPM has none.
        tpm_parent_password_source: where the password of the key's parent or hierarchy is, as ``pin_source``.
        verify_tls: False leaves the service's certificate unchecked.
        use_fips_endpoint, use_dualstack_endpoint: None leaves it to the environment.
        timeout: seconds for everything; None is 50 where a person may be needed, else 4.5.
        origins: the names here of options that were not written on the command line, and what an error calls each.
        config_file: the configuration file that some of it is from.
    """

    trust_anchor_arn: str | None = None
    profile_arn: str | None = None
    role_arn: str | None = None
    certificate: str | Secret | None = None
    private_key: str | Secret | None = None
    intermediates: str | None = None
    cert_selector: str | None = None
    system_store_name: str | None = None
    use_latest_expiring_certificate: bool | None = None
    session_duration: int | None = None
    role_session_name: str | None = None
    region: str | None = None
    endpoint: str | Secret | None = None
    pkcs11_lib: str | None = None
    pkcs8_password: Secret | None = None
    pin_source: str | None = None
    pin_file_group_readable: bool | None = None
    pkcs11_init_args: str | None = None
    require_non_exportable: bool | None = None
    use_last_try: bool | None = None
    tpm_tcti: str | None = None
    tpm_key_password: Secret | None = None
    no_tpm_key_password: bool | None = None
    tpm_parent_password_source: str | None = None
    verify_tls: bool | None = None
    use_fips_endpoint: bool | None = None
    use_dualstack_endpoint: bool | None = None
    timeout: float | None = None
    origins: tuple[tuple[str, str], ...] = ()
    config_file: Path | None = None

    def __post_init__(self) -> None:
        """Keep a text that holds a PIN, or user information before a host, from reprs and pickles."""
        for name in (*_REFERENCES, "endpoint"):
            value = getattr(self, name)
            if isinstance(value, str) and (redact_pin_value(value) != value or (name == "endpoint" and "@" in value)):
                object.__setattr__(self, name, Secret(value))

    def over(self, below: Self) -> Self:
        """These options, and what they leave open from others that count less.

        What opens the key (a source of the PIN, also one in a URI, or a password) comes from one of both: no PIN that
        is meant for one key is tried on another. A module that a URI names is not overruled from below, either.

        Args:
            below: the others.
        """
        closed = self._closed()
        open_names = [name for name in _VALUES if name not in closed and not self._says(name)]
        taken = {name: getattr(below, name) for name in open_names if below._says(name)}
        origins = (*self.origins, *((name, origin) for name, origin in below.origins if name in taken))
        config_file = self.config_file or below.config_file
        return dataclasses.replace(self, **taken, origins=origins, config_file=config_file)

    @property
    def store_option(self) -> str | None:
        """The first option with which certificate and key are in a certificate store; None where they are not."""
        given = (name for name in STORE_OPTIONS if self._says(name) and getattr(self, name) is not False)
        return next((f"--{name.replace('_', '-')}" for name in given), None)

    def _says(self, name: str) -> bool:
        """Whether an option was written; a selector that is empty selects everything."""
        value = getattr(self, name)
        return value is not None if name == "cert_selector" else _given(value)

    def _closed(self) -> set[str]:
        """What these options say in other words: an option of that name from below would overrule them."""
        openers = [getattr(self, name) for name in _OPENERS]
        texts = [text for name in _REFERENCES if (text := revealed(getattr(self, name)))]
        closed: set[str] = set()
        if any(_given(value) and value is not False for value in openers) or any(map(names_pin, texts)):
            closed.update(_OPENERS)
        if any(names_module(text) for text in texts):
            closed.add("pkcs11_lib")
        if texts:
            closed.update(STORE_OPTIONS)
        elif self._says("cert_selector") or self._says("system_store_name"):
            closed.update(_REFERENCES)
        return closed


_VALUES = tuple(f.name for f in dataclasses.fields(Options) if f.name not in ("origins", "config_file"))


def revealed(value: str | Secret | None) -> str | None:
    """The text of an option that may be a Secret."""
    return value.reveal() if isinstance(value, Secret) else value


def _given(value: object) -> bool:
    """Whether something was written: an empty text counts as nothing, as it does for the official helper."""
    return value not in (None, "", Secret(""))


def check_has_stores(option: str) -> None:
    """Refuse an option for a certificate store where there is none that rolekey reads.

    Args:
        option: its name.

    Raises:
        ConfigurationError: this is not Windows.
    """
    if sys.platform != "win32":
        raise ConfigurationError(
            f"{option} selects from a certificate store, and rolekey reads those of Windows only",
            hint="name a file or a pkcs11: URI with --certificate and --private-key",
        )
