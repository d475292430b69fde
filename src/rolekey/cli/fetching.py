"""From a command line to credentials: what the commands that ask the service have in common."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rolekey.cli.terminal import Terminal, can_ask, signals_raise, trace_to_stderr
from rolekey.config import Settings, resolve_settings
from rolekey.configured_options import configured_options
from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.fetch import fetch, person_for
from rolekey.interaction import Interaction
from rolekey.options import Options
from rolekey.pins import claim_descriptor


def fetcher_once(settings: Settings) -> tuple[Callable[[], Credentials], Deadline]:
    """What asks the service for a command that ends then, and how long that may take from now.

    Args:
        settings: what is asked, of whom, with which key.
    """
    deadline = Deadline.of(settings.timeout, attended=can_ask())
    interaction = person_for(settings, Terminal)(deadline)
    return lambda: fetch_credentials(settings, interaction, deadline), deadline


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
    claim_sources(configured, debug=values["debug"])
    return configured


def claim_sources(configured: Iterable[Options], *, debug: bool) -> None:
    """Claim the descriptors that PINs are read from, before anything is opened, and begin to tell what is done.

    Args:
        configured: with everything that section and environment say.
        debug: the user wants to be told.

    Raises:
        PinRequiredError: a descriptor is not open.
    """
    for options in configured:
        claim_descriptor(options.pin_source)
        claim_descriptor(options.tpm_parent_password_source, "--tpm-parent-password-source")
    if debug:
        trace_to_stderr()


def options_from(values: dict[str, Any]) -> Options:
    """The Options that a command line's values are."""
    return Options(
        trust_anchor_arn=values["trust_anchor_arn"],
        profile_arn=values["profile_arn"],
        role_arn=values["role_arn"],
        certificate=values["certificate"],
        private_key=values["private_key"],
        intermediates=values["intermediates"],
        session_duration=values["session_duration"],
        role_session_name=values["role_session_name"],
        region=values["region"],
        endpoint=values["endpoint"],
        pkcs11_lib=values["pkcs11_lib"],
        pkcs8_password=values["pkcs8_password"],
        pin_source=values["pin_source"],
        pin_file_group_readable=values["pin_file_group_readable"],
        pkcs11_init_args=values["pkcs11_init_args"],
        require_non_exportable=values["require_non_exportable"],
        use_last_try=values["use_last_try"],
        tpm_tcti=values["tpm_tcti"],
        tpm_key_password=values["tpm_key_password"],
        no_tpm_key_password=values["no_tpm_key_password"],
        tpm_parent_password_source=values["tpm_parent_password_source"],
        verify_tls=None if values["no_verify_ssl"] is None else not values["no_verify_ssl"],
        use_fips_endpoint=values["use_fips_endpoint"],
        use_dualstack_endpoint=values["use_dualstack_endpoint"],
        timeout=values["timeout"],
    )
