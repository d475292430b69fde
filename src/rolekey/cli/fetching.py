"""From a command line to credentials: what the commands that ask the service have in common."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

from rolekey.cli.terminal import Terminal, can_ask, signals_raise, trace_to_stderr
from rolekey.config import Settings, resolve_settings
from rolekey.configured_options import configured_options
from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.fetch import fetch, person_for
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings, resolve_key_settings
from rolekey.options import Options
from rolekey.pins import claim_descriptor


def fetcher_once(settings: Settings) -> tuple[Callable[[], Credentials], Deadline]:
    """What asks the service for a command that ends then, and how long that may take from now.

    Args:
        settings: what is asked, of whom, with which key.
    """
    interaction, deadline = person_and_deadline(settings)
    return lambda: fetch_credentials(settings, interaction, deadline), deadline


def person_and_deadline(settings: KeySettings) -> tuple[Interaction, Deadline]:
    """Who is asked for what no source gives, and how long everything may take from now.

    Args:
        settings: of the key.
    """
    deadline = Deadline.of(settings.timeout, attended=can_ask())
    return person_for(settings, Terminal)(deadline), deadline


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
    return [resolve_settings(options, os.environ) for options in configured_from(values, names)]


def key_settings_from(values: dict[str, Any], names: Sequence[str]) -> KeySettings:
    """As settings_from(), what concerns the key alone, of one identity or none.

    Args:
        values: of the command line's flags.
        names: of the identity.

    Raises:
        ConfigurationError: as resolve_key_settings().
        PinRequiredError: a descriptor is not open.
    """
    (options,) = configured_from(values, names)
    return resolve_key_settings(options, os.environ)


def configured_from(values: dict[str, Any], names: Sequence[str]) -> list[Options]:
    """As settings_from(), before anything is checked but the configuration file.

    Args:
        values: of the command line's flags.
        names: of identities.

    Raises:
        ConfigurationError: as configured_options().
        PinRequiredError: a descriptor is not open.
    """
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
