"""``rolekey credential-process``: credentials for the SDKs and the AWS CLI."""

from collections.abc import Sequence
from typing import Any

from rolekey.cli.flag_table import CREDENTIAL_PROCESS_FLAGS
from rolekey.cli.flags import helper_command
from rolekey.cli.printing import print_credentials


@helper_command("credential-process", CREDENTIAL_PROCESS_FLAGS)
def credential_process(names: Sequence[str], **values: Any) -> None:
    """Print temporary credentials as credential_process JSON.

    Put this command into ~/.aws/config as the credential_process of a profile. Credentials that are still good are
    printed again; `rolekey cache` lists and forgets them.
    """
    print_credentials(names, values)
