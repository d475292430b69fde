"""From a command line to credentials: what the commands that ask the service have in common."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from rolekey.cli.terminal import Terminal, signals_raise, trace_to_stderr
from rolekey.config import Settings, resolve_settings
from rolekey.configured_options import configured_options
from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.errors import ServiceError
from rolekey.interaction import Interaction, NoInteraction
from rolekey.options import Options
from rolekey.pins import claim_descriptor
from rolekey.secret import Secret


def fetch_credentials(settings: Settings, interaction: Interaction, deadline: Deadline) -> Credentials:
    """One identity, one signature, one set of credentials.

    Args:
        settings: what is asked, of whom, with which key.
        interaction: asks for a PIN or passphrase that no source gives.
        deadline: for all of it.

    Raises:
        RolekeyError: as open_identity() and request_credentials() say.
    """
    # Slow to import; not for a wrong option or a hit. While the rest is imported, the connection is made.
    from rolekey.transport import Route, open_ahead  # noqa: PLC0415

    opening = open_ahead(str(settings.endpoint), Route.of(settings), deadline)
    from rolekey.create_session import request_credentials  # noqa: PLC0415
    from rolekey.identity import open_identity  # noqa: PLC0415

    # A signal in the middle must leave nothing behind in a TPM.
    with signals_raise(), open_identity(settings, interaction, deadline) as identity:
        return request_credentials(settings, identity, deadline, opening=opening)


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
    written = options_from(values)
    configured = [configured_options(written, os.environ, name) for name in (names or (None,))]
    for options in configured:
        claim_descriptor(options.pin_source)
        claim_descriptor(options.tpm_parent_password_source, "--tpm-parent-password-source")
    if values["debug"]:
        trace_to_stderr()
    return [resolve_settings(options, os.environ) for options in configured]


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


def person_for(
    settings: Settings, interaction: Callable[[Deadline], Interaction] = Terminal
) -> Callable[[Deadline], Interaction]:
    """Who is asked until a deadline: nobody where ``--pin-source none`` says so.

    Args:
        settings: may say so.
        interaction: gives who is asked otherwise.
    """
    if settings.pin_source is not None and settings.pin_source.kind == "none":
        return lambda _deadline: NoInteraction()
    return interaction


class KeptAnswers:
    """What a person has entered is used again as long as it is accepted.

    Args:
        interaction: gives who is asked until a deadline.
    """

    def __init__(self, interaction: Callable[[Deadline], Interaction]) -> None:
        self._interaction = interaction
        self._deadline = Deadline(0)
        self._answers: dict[str, Secret] = {}

    def until(self, deadline: Deadline) -> "KeptAnswers":
        """For one CreateSession, as a context.

        Args:
            deadline: how long an answer may take.
        """
        self._deadline = deadline
        return self

    def __enter__(self) -> None:
        """Nothing is forgotten yet."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _at: object) -> None:
        # A service that refuses comes after a signature, and so after a PIN that was accepted.
        if error is not None and not isinstance(error, ServiceError):
            self._answers.clear()

    def ask(self, question: str) -> Secret | None:
        """The answer that was given before, or a new one, as Interaction.ask() says."""
        if question not in self._answers:
            answer = self._interaction(self._deadline).ask(question)
            if answer is None:
                return None
            self._answers[question] = answer
        return self._answers[question]

    def remind(self, text: str) -> None:
        """As Interaction.remind()."""
        self._interaction(self._deadline).remind(text)
