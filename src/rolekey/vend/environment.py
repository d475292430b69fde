"""Credentials in a command's environment (AWS SDK reference: environment variables, static credentials)."""

from collections.abc import Iterable, Mapping

from rolekey.config import Settings
from rolekey.credentials import Credentials, format_timestamp
from rolekey.pkcs11_uri import redact_pin_value

REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
# Credentials of another kind or account, and where SDKs would find some: botocore takes AWS_SECURITY_TOKEN before
# AWS_SESSION_TOKEN, and SDKs take a bearer token before keys where a service has such tokens.
CONTRADICTING = frozenset(
    {
        *("AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
        *("AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_FILE", "AWS_ACCOUNT_ID"),
        *("AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        *("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        *("AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        *("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"),
    }
)
_BEARER_TOKENS = "AWS_BEARER_TOKEN_"


def environment_with(credentials: Credentials, settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command that is to use these credentials and no others.

    Args:
        credentials: what it gets.
        settings: what they were asked for with; a PIN's variable that they name is not passed on.
        environment: the process's.

    Returns:
        All variables of the command: the process's, less those that contradict the credentials or hold a PIN; the
        four of the credentials; and the region, where none is set.
    """
    pins = _pin_variables(settings)
    kept = {
        name: value
        for name, value in environment.items()
        if name not in CONTRADICTING
        and name not in pins
        and not name.startswith(_BEARER_TOKENS)
        and redact_pin_value(value) == value
    }
    if not any(kept.get(name) for name in REGION_VARIABLES):
        # Some SDKs read the one, some the other.
        kept |= dict.fromkeys(REGION_VARIABLES, settings.region)
    return kept | {
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_SESSION_TOKEN": credentials.session_token,
        "AWS_CREDENTIAL_EXPIRATION": format_timestamp(credentials.expiration),
    }


def _pin_variables(settings: Settings) -> Iterable[str]:
    sources = (settings.pin_source, settings.tpm.parent_password_source)
    return {source.name for source in sources if source is not None and source.kind == "env"}
