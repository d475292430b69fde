"""The shared credentials file (AWS SDKs and Tools Reference Guide): new credentials in one of its profiles."""

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rolekey.credentials import Credentials
from rolekey.errors import ConfigurationError, CredentialsFileError
from rolekey.value import Value
from rolekey.vend.credentials_text import DEFAULTS_SECTION, KEYS, edited, has_key, is_config_section
from rolekey.vend.text_file import UNCHANGED, TextFile


class Place(Value):
    """A profile of a credentials file.

    Args:
        path: the credentials file, absolute.
        config_path: the config file of the same SDKs.
        aws_profile: the name of the profile.
    """

    path: Path
    config_path: Path
    aws_profile: str

    @property
    def credentials(self) -> TextFile:
        """The credentials file."""
        return TextFile(self.path, "AWS_SHARED_CREDENTIALS_FILE", is_private=True)

    @property
    def config(self) -> TextFile:
        """The config file."""
        return TextFile(self.config_path, "AWS_CONFIG_FILE", is_private=False)


def check_place(place: Place) -> None:
    """Find out whether credentials could be written, before anybody is asked for a PIN.

    Args:
        place: where they are to be written. Its directory is made, with mode 0700, where it is missing.

    Raises:
        ConfigurationError: no profile can have that name, or this one has a credential_process.
        CredentialsFileError: the file cannot be read, understood or replaced.
    """
    check_name(place.aws_profile)
    place.credentials.check(lambda text: _with_credentials(place, text, dict.fromkeys(KEYS, "")))


def write_credentials(
    place: Place,
    credentials: Credentials,
    *,
    uninterrupted: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Put credentials into the profile, which is added where it is missing.

    The file gets mode 0600, or keeps one that allows less. Where it is a symbolic link, what it leads to is replaced.

    Args:
        place: where.
        credentials: what.
        uninterrupted: as TextFile.rewrite() takes it.

    Raises:
        ConfigurationError: the profile has a credential_process.
        CredentialsFileError: as check_place(); the file is as it was.
    """
    check_name(place.aws_profile)
    fields = (credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    if not all(re.fullmatch("[!-~]+", field) for field in fields):
        raise CredentialsFileError(
            "the credentials hold a character that has no place in a credentials file",
            hint=f"this is not what IAM Roles Anywhere hands out: check --endpoint; {UNCHANGED}",
        )
    values = dict(zip(KEYS, fields, strict=True))
    place.credentials.rewrite(lambda text: _with_credentials(place, text, values), uninterrupted=uninterrupted)


def check_name(aws_profile: str) -> None:
    """Refuse a name that no profile has.

    Args:
        aws_profile: what ``--profile`` says.

    Raises:
        ConfigurationError: it is one.
    """
    if aws_profile == DEFAULTS_SECTION:
        raise ConfigurationError(
            "what stands in the section DEFAULT counts for every profile", hint="name another --profile, or default"
        )
    if not aws_profile.isprintable() or aws_profile.strip() != aws_profile or not aws_profile or "]" in aws_profile:
        raise ConfigurationError(
            "--profile names no profile that a credentials file can have",
            hint="give a name without ] and control characters that neither begins nor ends with a blank",
        )


def _with_credentials(place: Place, text: str, values: dict[str, str]) -> str:
    """What is to be in the file."""
    # To botocore, too, a config file that is no regular one (/dev/null) or out of reach is none.
    config = place.config.read() if os.path.isfile(place.config_path) else ""  # noqa: PTH113 - never raises
    if has_key(text, "credential_process", lambda name: name.strip() in (place.aws_profile, DEFAULTS_SECTION)):
        raise _has_credential_process(place, place.path)
    if has_key(config, "credential_process", lambda name: is_config_section(name.strip(), place.aws_profile)):
        raise _has_credential_process(place, place.config_path)
    try:
        return edited(text, place.aws_profile, values)
    except ValueError as error:
        raise CredentialsFileError(
            f"{place.path}: {error}", hint=f"remove that line or its indentation; {UNCHANGED}"
        ) from error


def _has_credential_process(place: Place, path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"the profile {place.aws_profile} has a credential_process in {path}: an SDK would use one of the two",
        hint="name another --profile, or remove the credential_process",
    )
