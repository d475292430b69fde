"""``rolekey update``: credentials in the shared credentials file, for what reads nothing else."""

import logging
import os
import random
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from rolekey.cli.ending import report
from rolekey.cli.fetching import fetch_credentials, settings_from
from rolekey.cli.flag_table import HELPER_FLAGS, OWN_FLAGS, Flag
from rolekey.cli.flags import helper_command
from rolekey.cli.terminal import Terminal, shield_output, signals_held, signals_raise
from rolekey.config import Settings
from rolekey.credentials import Credentials, format_timestamp
from rolekey.deadline import Deadline
from rolekey.errors import (
    ConfigurationError,
    CreateSessionError,
    CredentialsFileError,
    DeadlineError,
    MalformedResponseError,
    RolekeyError,
    TokenNotFoundError,
    TokenOperationError,
    TransportError,
)
from rolekey.fetch import person_for
from rolekey.fetcher import Fetcher
from rolekey.schedule import seconds_to_refresh, seconds_to_retry
from rolekey.vend.credentials_file import Place, check_place, write_credentials

log = logging.getLogger(__name__)

PROFILE = Flag("--profile", "text", "The profile of the credentials file.", "default")
ONCE = Flag("--once", "boolean", "Write once and end.")
# A laptop that was asleep for longer than it had to wait goes on this much later at most.
_STEP_SECONDS = 10.0


@helper_command("update", (*HELPER_FLAGS, *OWN_FLAGS, PROFILE, ONCE))
def update(names: Sequence[str], **values: Any) -> None:
    """Keep temporary credentials in the shared credentials file.

    The file is AWS_SHARED_CREDENTIALS_FILE, else ~/.aws/credentials. Only the profile's three keys are changed. New
    ones are written before the old ones expire, until the command is ended; with --once it ends by itself.
    """
    (settings,) = settings_from(values, names)
    shield_output(debug=values["debug"])
    place = place_of(values["profile"], os.environ)
    if not values["once"]:
        _check_passwords(settings)
    check_place(place)

    def write(credentials: Credentials) -> None:
        write_credentials(place, credentials, uninterrupted=signals_held)
        log.debug(
            "written: access key id %s, profile %s of %s", credentials.access_key_id, place.aws_profile, place.path
        )

    if values["once"]:
        deadline = Deadline.of(settings.timeout, attended=True)
        write(fetch_credentials(settings, person_for(settings, Terminal)(deadline), deadline))
    else:
        fetcher = Fetcher(settings, Terminal)

        def fetch() -> Credentials:
            # A signal in the middle must leave nothing behind in a TPM.
            with signals_raise():
                return fetcher().credentials

        keep_fresh(fetch, write)


def place_of(aws_profile: str, environment: Mapping[str, str]) -> Place:
    """Where the SDKs look for a profile.

    Args:
        aws_profile: its name.
        environment: the process's.

    Raises:
        ConfigurationError: a path begins with a home directory that is not known.
    """
    path = environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    config_path = environment.get("AWS_CONFIG_FILE") or "~/.aws/config"
    return Place(_expanded(path), _expanded(config_path), aws_profile)


def _expanded(text: str) -> Path:
    # As botocore does it.
    path = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111 - Path.expanduser() raises where there is none
    if path.startswith("~"):
        raise ConfigurationError(
            f"the home directory in {text} is not known",
            hint="set HOME, or give absolute paths in AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE",
        )
    return Path(path).absolute()


def _check_passwords(settings: Settings) -> None:
    source = settings.tpm.parent_password_source
    if source is not None and source.kind in ("env", "fd"):
        raise ConfigurationError(
            f"{source} can be read once, and what it gives is needed for each refresh",
            hint="give --tpm-parent-password-source file:PATH or systemd:NAME, or --once",
        )


def keep_fresh(
    fetch: Callable[[], Credentials],
    write: Callable[[Credentials], None],
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> NoReturn:
    """Fetch and write, and again before the credentials expire, for ever.

    Args:
        fetch: asks for credentials.
        write: writes them.
        clock: the time of day, in seconds.
        monotonic: a clock that nobody sets, in seconds.
        sleep: waits for a number of seconds.
        chance: a random number from 0 to 1.

    Raises:
        RolekeyError: a failure that waiting does not cure.
    """
    written: Credentials | None = None
    failures = 0
    while True:
        try:
            credentials = fetch()
            write(credentials)
        except RolekeyError as error:
            if not may_pass(error, has_worked=written is not None):
                raise
            failures += 1
            pause = seconds_to_retry(failures, chance())
            _say_failure(error, written, clock(), pause)
        else:
            written, failures = credentials, 0
            pause = seconds_to_refresh(credentials.expiration.timestamp() - clock(), chance())
            _say(f"rolekey: credentials will be refreshed at {_moment(clock() + pause)}\n")
        _wait(pause, clock, monotonic, sleep)


def may_pass(error: RolekeyError, *, has_worked: bool) -> bool:
    """Whether a failure may be over the next time, without anybody's doing.

    Args:
        error: the failure.
        has_worked: the same was done with success before; what was wrong then was not the question itself.
    """
    # Slow to import, and loaded long ago when something failed.
    from rolekey.create_session import is_passing  # noqa: PLC0415
    from rolekey.transport import PermanentTransportError  # noqa: PLC0415

    if isinstance(error, PermanentTransportError):
        # A strange certificate may be a hotel's. A proxy that refuses a password may count them.
        return has_worked and isinstance(error.__cause__, ssl.SSLError)
    if isinstance(error, TransportError | DeadlineError | MalformedResponseError):
        return True
    if isinstance(error, CreateSessionError):
        return has_worked or is_passing(error)
    return has_worked and isinstance(error, TokenNotFoundError | TokenOperationError | CredentialsFileError)


def _say_failure(error: RolekeyError, written: Credentials | None, now: float, pause: float) -> None:
    left = "nothing has been written yet"
    if written is not None:
        is_over = written.expiration.timestamp() <= now
        left = f"what was written {'has expired' if is_over else 'is good'} {_until(written, is_over=is_over)}"
    with suppress(OSError, ValueError):
        report(f"{error.message}; {left}; next attempt at {_moment(now + pause)}", error.hint, kind="warning")


def _until(credentials: Credentials, *, is_over: bool) -> str:
    return f"{'at' if is_over else 'until'} {format_timestamp(credentials.expiration)}"


def _say(text: str) -> None:
    # A terminal that was closed ends nothing.
    with suppress(OSError, ValueError):
        sys.stderr.write(text)


def _moment(seconds: float) -> str:
    return format_timestamp(datetime.fromtimestamp(seconds, UTC))


def _wait(
    seconds: float,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Wait until one of the clocks says that the time is over: one stops in a laptop's sleep, the other can be set."""
    end, monotonic_end = clock() + seconds, monotonic() + seconds
    while (left := min(end - clock(), monotonic_end - monotonic())) > 0:
        sleep(min(left, _STEP_SECONDS))
