"""Temporary credentials, as IAM Roles Anywhere hands them out."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from rolekey.value import Value


def format_timestamp(moment: datetime) -> str:
    """A moment as every SDK reads it.

    Args:
        moment: an aware datetime.

    Returns:
        ``YYYY-MM-DDTHH:MM:SSZ``, UTC, a fraction of a second cut off.
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# No Value: without a dictionary of its attributes, serialisers that know nothing of it have no way to the secrets.
@dataclass(frozen=True, slots=True)
class Credentials:
    """One set of temporary credentials; its repr shows the access key id and the expiration only.

    Args:
        access_key_id: public identifier, ``ASIA...``.
        secret_access_key: secret.
        session_token: secret.
        expiration: aware datetime, UTC.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: datetime


class Fetched(Value):
    """What one CreateSession gave.

    Args:
        credentials: the credentials.
        certificate_expires: when the certificate expires that was used, aware; None where that is not known.
    """

    credentials: Credentials
    certificate_expires: datetime | None = None
