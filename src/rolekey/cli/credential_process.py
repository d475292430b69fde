"""``rolekey credential-process``: credentials for the SDKs and the AWS CLI."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from rolekey.cache import Answer, cached_question
from rolekey.cli.fetching import fetch_credentials, settings_from
from rolekey.cli.flags import HELPER_FLAGS, NO_CACHE, OWN_FLAGS, helper_command
from rolekey.cli.terminal import Terminal, can_ask, shield_output
from rolekey.config import Settings
from rolekey.deadline import Deadline
from rolekey.fetch import person_for
from rolekey.interaction import Interaction


@helper_command("credential-process", (*HELPER_FLAGS, *OWN_FLAGS, NO_CACHE))
def credential_process(names: Sequence[str], **values: Any) -> None:
    """Print temporary credentials as credential_process JSON.

    Put this command into ~/.aws/config as the credential_process of a profile. Credentials that are still good are
    printed again; `rolekey cache` lists and forgets them.
    """
    (settings,) = settings_from(values, names)
    shield_output(debug=values["debug"])
    attended = can_ask()
    deadline = Deadline.of(settings.timeout, attended=attended)
    interaction = person_for(settings, Terminal)(deadline)
    found = None if values["no_cache"] else cached_question(settings, sys.argv[1:], os.environ)
    if found is None:
        output = _fetch(settings, interaction, deadline).output
    else:
        cache, question = found
        output = cache.answer(question, lambda: _fetch(settings, interaction, deadline), deadline)
    sys.stdout.write(output.decode("ascii"))
    sys.stdout.flush()


def _fetch(settings: Settings, interaction: Interaction, deadline: Deadline) -> Answer:
    """One identity, one signature, one set of credentials."""
    credentials = fetch_credentials(settings, interaction, deadline)
    from rolekey.vend.process import credential_process_json  # noqa: PLC0415 - not for a wrong option or a hit

    output = f"{credential_process_json(credentials)}\n".encode("ascii")
    return Answer(output, int(credentials.expiration.timestamp()), credentials.access_key_id)
