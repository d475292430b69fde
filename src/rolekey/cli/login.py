"""``rolekey login``: PIN and touch now, so that nobody is asked when the credentials are needed."""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rolekey.cache import cached_question
from rolekey.cli.fetching import fetcher_once, settings_from
from rolekey.cli.flag_table import HELPER_FLAGS, OWN_FLAGS
from rolekey.cli.flags import helper_command
from rolekey.cli.terminal import shield_output
from rolekey.config import Settings
from rolekey.credentials import Credentials, format_timestamp
from rolekey.errors import CertificateError, ConfigurationError, KeyNotFoundError, RolekeyError
from rolekey.vend.shared import shared_credentials


@helper_command("login", (*HELPER_FLAGS, *OWN_FLAGS))
def login(names: Sequence[str], **values: Any) -> None:
    """Ask for PIN and touch now, and keep the credentials for credential-process and exec.

    Says until when they hold. Those that are kept and still fresh are not asked for again; `rolekey cache clear`
    forgets them.
    """
    (settings,) = settings_from(values, names)
    shield_output(debug=values["debug"])
    fetch, deadline = fetcher_once(settings)
    place = cached_question(settings, (), os.environ)
    if place is None:
        raise _nothing_kept(settings)
    asked = []

    def fetch_and_note() -> Credentials:
        asked.append(True)
        return fetch()

    credentials = shared_credentials(place, fetch_and_note, deadline, last_good=False)
    cache, question = place
    until = cache.known_until(question)
    if until is None:
        raise _nothing_kept(settings)
    state = "new" if asked else "known and still fresh"
    sys.stdout.write(
        f"{settings.role_arn}: {state}, good until {format_timestamp(credentials.expiration)}; "
        f"nobody is asked before {format_timestamp(datetime.fromtimestamp(until, UTC))}\n"
    )


def _nothing_kept(settings: Settings) -> RolekeyError:
    """Why: a file that cannot be read is said in its own words."""
    from rolekey.certificates import read_file  # noqa: PLC0415 - slow to import, and for a failure only

    files = (
        (settings.certificate, "certificate", CertificateError),
        (settings.private_key, "private key file", KeyNotFoundError),
    )
    for path, what, kind in files:
        if isinstance(path, Path) and not (path.is_fifo() or path.is_char_device()):
            try:
                read_file(path, what, kind)
            except RolekeyError as error:
                return error
    return ConfigurationError(
        "credentials cannot be kept here, so that there is nothing to log in to",
        hint="certificate and key must be no pipes, and the cache's directory yours alone: --debug says what it is",
    )
