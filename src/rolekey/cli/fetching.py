"""From a command line to credentials: what the commands that ask the service have in common."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from rolekey.cli.terminal import signals_raise, trace_to_stderr
from rolekey.config import Settings, resolve_settings
from rolekey.configured_options import configured_options
from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError
from rolekey.fetch import fetch
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings, resolve_key_settings
from rolekey.options import Options
from rolekey.pins import claim_descriptor


def fetch_credentials(settings: Settings, interaction: Interaction, deadline: Deadline) -> Credentials:
    """One identity, one signature, one set of credentials.

    Args:
        settings: what is asked, of whom, with which key.
        interaction: asks for a PIN or passphrase that no source gives.
        deadline: for all of it.

    Raises:
        RolekeyError: as open_identity() and request_credentials() say.
    """
    # A signal in the middle must leave nothing behind in a TPM.
    with signals_raise():
        return fetch(settings, interaction, deadline).credentials


def settings_from(values: dict[str, Any], names: Sequence[str]) -> list[Settings]:
    """The Settings of each named identity, or of the command line alone where none is named.

    Call it before anything is opened: descriptors that a PIN is read from are claimed first.

    Args:
        values: of the command line's flags.
        names: of identities.

    Raises:
        ConfigurationError: as resolve_settings().
        PinRequiredError: a descriptor is not open.
    """
    return [resolve_settings(options, os.environ) for options in _configured(values, names)]


def key_settings_from(values: dict[str, Any], names: Sequence[str], *, needs: str | None = None) -> KeySettings:
    """As settings_from(), what concerns the key alone, of one identity or none.

    Args:
        values: of the command line's flags.
        names: of the identity.
        needs: the flag to be named where neither certificate nor key is, if not both.
    """
    (options,) = _configured(values, names)
    if needs is not None and not options.certificate and not options.private_key:
        raise ConfigurationError(
            f"{needs} is missing", hint="name a file, or a pkcs11: URI such as 'pkcs11:token=NAME'"
        )
    return resolve_key_settings(options, os.environ)


def _configured(values: dict[str, Any], names: Sequence[str]) -> list[Options]:
    written = options_from(values)
    configured = [configured_options(written, os.environ, name) for name in (names or (None,))]
    for options in configured:
        claim_descriptor(options.pin_source)
        claim_descriptor(options.tpm_parent_password_source, "--tpm-parent-password-source")
    if values["debug"]:
        trace_to_stderr()
    return configured


def options_from(values: dict[str, Any]) -> Options:
    """The Options that a command line's values are, of a command that need not have every flag."""
    no_verify = values.get("no_verify_ssl")
    named = {field.name: values[field.name] for field in dataclasses.fields(Options) if field.name in values}
    return Options(**named, verify_tls=None if no_verify is None else not no_verify)
