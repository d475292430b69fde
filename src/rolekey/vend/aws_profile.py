"""A profile of the SDKs' config file whose credentials rolekey gives (AWS, cli-configure-sourcing-external)."""

from pathlib import Path

from rolekey.errors import ConfigurationError, CredentialsFileError
from rolekey.vend.credentials_file import Place, check_name
from rolekey.vend.credentials_text import DEFAULTS_SECTION, edited, has_key, is_config_section, value_of
from rolekey.vend.text_file import UNCHANGED

PROCESS_KEY = "credential_process"
# With one of them a profile has credentials of another kind, which SDKs take first.
_WINNERS = (
    *("aws_access_key_id", "role_arn", "web_identity_token_file"),
    *("sso_session", "sso_start_url", "sso_account_id"),
)


def process_of(place: Place) -> str | None:
    """The credential_process of a profile, or None where it has none.

    Args:
        place: which profile of which files.

    Raises:
        ConfigurationError: no profile can have that name.
        CredentialsFileError: the config file cannot be read.
    """
    check_name(place.aws_profile)
    return value_of(place.config.read(), PROCESS_KEY, lambda header: _is_section(header, place))


def winners_over_process(place: Place) -> list[tuple[Path, str]]:
    """What gives a profile credentials of another kind, which SDKs take before any credential_process.

    Args:
        place: which profile of which files.

    Returns:
        Each file and key.

    Raises:
        ConfigurationError: no profile can have that name.
        CredentialsFileError: one of the files cannot be read.
    """
    check_name(place.aws_profile)
    config, credentials = place.config.read(), place.credentials.read()
    found = [
        (place.config_path, key) for key in _WINNERS if has_key(config, key, lambda header: _is_section(header, place))
    ]
    if has_key(credentials, _WINNERS[0], lambda name: name.strip() in (place.aws_profile, DEFAULTS_SECTION)):
        found.append((place.path, _WINNERS[0]))
    return found


def check_process(place: Place, command: str, replaces: str | None) -> None:
    """Find out whether a profile could have this credential_process, and whether SDKs would use it.

    Args:
        place: which profile of which files.
        command: what its credential_process is to be.
        replaces: what it may be now, or None.

    Raises:
        ConfigurationError: no profile can have that name, it has another credential_process, or credentials of another
            kind, which win.
        CredentialsFileError: one of the files cannot be read, or the config file not be written.
    """
    for path, key in winners_over_process(place):
        raise ConfigurationError(
            f"the profile {place.aws_profile} has {key} in {path}, which SDKs take before any credential_process",
            hint=f"remove what it gives credentials with there, or name another --profile; {UNCHANGED}",
        )
    place.config.check(lambda text: _with_process(text, place, command, replaces))


def write_process(place: Place, command: str, replaces: str | None) -> None:
    """Make a command the credential_process of a profile, which is added where it is missing.

    Args:
        place: as for check_process().
        command: as for check_process().
        replaces: as for check_process().

    Raises:
        ConfigurationError, CredentialsFileError: as check_process().
    """
    place.config.rewrite(lambda text: _with_process(text, place, command, replaces))


def _with_process(text: str, place: Place, command: str, replaces: str | None) -> str:
    def is_section(header: str) -> bool:
        return header != DEFAULTS_SECTION and _is_section(header, place)

    now = value_of(text, PROCESS_KEY, lambda header: _is_section(header, place))
    if now == command:
        return text
    if now is not None and now != replaces:
        raise ConfigurationError(
            f"the profile {place.aws_profile} has another credential_process in {place.config_path}",
            hint=f"name another --profile; --from-aws-config {place.aws_profile} takes over the official helper's; "
            f"{UNCHANGED}",
        )
    name = place.aws_profile
    quoted = f'"{name}"' if " " in name else name
    header = name if name == "default" else f"profile {quoted}"
    try:
        return edited(text, header, {PROCESS_KEY: command}, is_section)
    except ValueError as error:
        raise CredentialsFileError(
            f"{place.config_path}: {error}", hint=f"remove that line or its indentation; {UNCHANGED}"
        ) from error


def _is_section(header: str, place: Place) -> bool:
    return is_config_section(header.strip(), place.aws_profile)
