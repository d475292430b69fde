"""``rolekey credential-process``: credentials for the SDKs and the AWS CLI."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from rolekey.cli.fetching import fetcher_once, settings_from
from rolekey.cli.flags import HELPER_FLAGS, NO_CACHE, OWN_FLAGS, helper_command
from rolekey.cli.terminal import shield_output
from rolekey.config import Settings
from rolekey.vend.shared import Place, shared_output


@helper_command("credential-process", (*HELPER_FLAGS, *OWN_FLAGS, NO_CACHE))
def credential_process(names: Sequence[str], **values: Any) -> None:
    """Print temporary credentials as credential_process JSON.

    Put this command into ~/.aws/config as the credential_process of a profile. Credentials that are still good are
    printed again; `rolekey cache` lists and forgets them.
    """
    (settings,) = settings_from(values, names)
    shield_output(debug=values["debug"])
    fetch, deadline = fetcher_once(settings)
    place = None if values["no_cache"] else _place(settings)
    sys.stdout.write(shared_output(place, fetch, deadline).decode("ascii"))
    sys.stdout.flush()


def _place(settings: Settings) -> Place:
    from rolekey.cache import cached_question  # noqa: PLC0415 - slow to import; not for --no-cache

    return cached_question(settings, sys.argv[1:], os.environ)
