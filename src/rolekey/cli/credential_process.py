"""``rolekey credential-process``: credentials for the SDKs and the AWS CLI."""

import os
import sys
from typing import Any

from rolekey.cli.flags import HELPER_FLAGS, OWN_FLAGS, helper_command
from rolekey.cli.terminal import Terminal, shield_output, signals_raise, trace_to_stderr
from rolekey.config import Settings, resolve_settings
from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.interaction import Interaction, NoInteraction
from rolekey.options import Options
from rolekey.pins import claim_descriptor


@helper_command("credential-process", (*HELPER_FLAGS, *OWN_FLAGS))
def credential_process(**values: Any) -> None:
    """Print temporary credentials as credential_process JSON.

    Put this command into ~/.aws/config as the credential_process of a profile.
    """
    claim_descriptor(values["pin_source"])
    claim_descriptor(values["tpm_parent_password_source"], "--tpm-parent-password-source")
    shield_output(debug=values["debug"])
    if values["debug"]:
        trace_to_stderr()
    settings = resolve_settings(options_from(values), os.environ)
    deadline = Deadline(settings.timeout)
    silent = settings.pin_source is not None and settings.pin_source.kind == "none"
    with signals_raise():
        credentials = fetch_credentials(settings, NoInteraction() if silent else Terminal(deadline), deadline)
    from rolekey.vend.process import credential_process_json  # noqa: PLC0415 - beside its use

    sys.stdout.write(credential_process_json(credentials) + "\n")
    sys.stdout.flush()


def fetch_credentials(settings: Settings, interaction: Interaction, deadline: Deadline) -> Credentials:
    """One identity, one signature, one set of credentials."""
    from rolekey.create_session import request_credentials  # noqa: PLC0415 - slow; not for a wrong option
    from rolekey.identity import open_identity  # noqa: PLC0415 - as above

    with open_identity(settings, interaction, deadline) as identity:
        return request_credentials(settings, identity, deadline)


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
        pin_file_group_readable=bool(values["pin_file_group_readable"]),
        pkcs11_init_args=values["pkcs11_init_args"],
        use_last_try=bool(values["use_last_try"]),
        tpm_tcti=values["tpm_tcti"],
        tpm_key_password=values["tpm_key_password"],
        no_tpm_key_password=bool(values["no_tpm_key_password"]),
        tpm_parent_password_source=values["tpm_parent_password_source"],
        verify_tls=not values["no_verify_ssl"],
        use_fips_endpoint=values["use_fips_endpoint"],
        use_dualstack_endpoint=values["use_dualstack_endpoint"],
        timeout=values["timeout"],
    )
