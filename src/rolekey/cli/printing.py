"""What ``rolekey credential-process`` does, once its command line has been read."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from rolekey.cli.ending import EXIT_UNWRITABLE
from rolekey.cli.fetching import fetcher_once, settings_from
from rolekey.cli.terminal import shield_output
from rolekey.config import Settings
from rolekey.vend.shared import Place, shared_output


def print_credentials(names: Sequence[str], values: dict[str, Any]) -> None:
    """Print temporary credentials as credential_process JSON.

    Args:
        names: of the identity.
        values: of the flags, by parameter; None is what was not given.

    Raises:
        RolekeyError: as settings_from() and shared_output() say.
        SystemExit: they cannot be written.
    """
    (settings,) = settings_from(values, names)
    shield_output(debug=values["debug"])
    fetch, deadline = fetcher_once(settings)
    place = None if values["no_cache"] else _place(settings)
    output = shared_output(place, fetch, deadline)
    try:
        sys.stdout.write(output.decode("ascii"))
        sys.stdout.flush()
    except OSError:
        raise SystemExit(
            EXIT_UNWRITABLE
        ) from None  # whoever asked is gone, or the disk is full; nobody reads what is said


def _place(settings: Settings) -> Place:
    from rolekey.cache import cached_question  # noqa: PLC0415 - slow to import; not for --no-cache

    return cached_question(settings, sys.argv[1:], os.environ)
