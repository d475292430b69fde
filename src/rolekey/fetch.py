"""From settings to credentials: one identity, one signature, one CreateSession."""

from rolekey.config import Settings
from rolekey.credentials import Fetched
from rolekey.deadline import Deadline
from rolekey.interaction import AskUntil, Interaction, NoInteraction
from rolekey.key_settings import KeySettings
from rolekey.pins import PinSupply


def fetch(
    settings: Settings, interaction: Interaction, deadline: Deadline, *, pins: PinSupply | None = None
) -> Fetched:
    """Find certificate and key, sign once, and ask for credentials once.

    Args:
        settings: what is asked, of whom, with which key.
        interaction: asks for a PIN or passphrase that no source gives.
        deadline: for all of it.
        pins: as open_identity() takes it.

    Raises:
        RolekeyError: as open_identity() and request_credentials() say.
    """
    # Slow to import; not for a wrong option or a hit. While the rest is imported, the connection is made.
    from rolekey.transport import Route, open_ahead  # noqa: PLC0415

    opening = open_ahead(str(settings.endpoint), Route.of(settings), deadline)
    from rolekey.create_session import request_credentials  # noqa: PLC0415
    from rolekey.identity import open_identity  # noqa: PLC0415

    try:
        with open_identity(settings, interaction, deadline, pins=pins) as identity:
            credentials = request_credentials(settings, identity, deadline, opening=opening)
            return Fetched(credentials, identity.certificate.not_valid_after_utc)
    finally:
        if opening is not None:
            opening.close()  # not taken where there is no signature to be sent


def person_for(settings: KeySettings, ask_until: AskUntil) -> AskUntil:
    """Who is asked until a deadline: nobody where ``--pin-source none`` says so.

    Args:
        settings: may say so.
        ask_until: makes who is asked otherwise.
    """
    if settings.pin_source is not None and settings.pin_source.kind == "none":
        return lambda _deadline: NoInteraction()
    return ask_until
