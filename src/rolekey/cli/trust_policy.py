"""``rolekey trust-policy``: what a role must say so that one certificate can get it."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from rolekey.arn import parse_trust_anchor_arn
from rolekey.cli.fetching import configured_from
from rolekey.cli.flags import HELPER_FLAGS, OWN_FLAGS, helper_command
from rolekey.cli.terminal import shield_output
from rolekey.config import Settings, resolve_settings
from rolekey.deadline import ATTENDED_SECONDS, Deadline
from rolekey.options import Options


@helper_command("trust-policy", (*HELPER_FLAGS, *OWN_FLAGS))
def trust_policy(names: Sequence[str], **values: Any) -> None:
    """Print the trust policy of an IAM role for a certificate and a trust anchor, as JSON.

    It needs --trust-anchor-arn and --certificate, or an identity that has them; no PIN is asked for. The role may be
    assumed by whoever has a certificate of this trust anchor with the same common names of subject and issuer.
    """
    settings = _settings(values, names)
    shield_output(debug=values["debug"])
    from rolekey.certificates import utc_now  # noqa: PLC0415 - slow to import; not for a wrong option
    from rolekey.identity import named_certificate  # noqa: PLC0415 - as above
    from rolekey.vend.trust_policy import trust_policy_json  # noqa: PLC0415 - as above

    certificate, _ = named_certificate(settings, Deadline(settings.timeout or ATTENDED_SECONDS), utc_now())
    sys.stdout.write(f"{trust_policy_json(certificate, settings.trust_anchor_arn)}\n")


def _settings(values: dict[str, Any], names: Sequence[str]) -> Settings:
    (options,) = configured_from(values, names)
    if options.trust_anchor_arn:
        anchor = parse_trust_anchor_arn(options.trust_anchor_arn)
        # Whoever makes a role has neither it nor a profile yet; nothing is asked of these.
        stand_ins = Options(
            profile_arn=f"arn:{anchor.partition}:rolesanywhere:{anchor.region}:{anchor.account_id}:profile/none",
            role_arn=f"arn:{anchor.partition}:iam::{anchor.account_id}:role/none",
        )
        options = options.over(stand_ins)
    return resolve_settings(options, os.environ)
