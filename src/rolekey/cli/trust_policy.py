"""``rolekey trust-policy``: what a role must say so that one certificate can get it."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from rolekey.cli.fetching import configured_from
from rolekey.cli.flag_table import HELPER_FLAGS, OWN_FLAGS
from rolekey.cli.flags import helper_command
from rolekey.cli.terminal import shield_output
from rolekey.config import resolve_trust_anchor
from rolekey.deadline import ATTENDED_SECONDS, Deadline
from rolekey.interaction import NoInteraction
from rolekey.key_settings import certificate_of, resolve_key_settings


@helper_command("trust-policy", (*HELPER_FLAGS, *OWN_FLAGS))
def trust_policy(names: Sequence[str], **values: Any) -> None:
    """Print the trust policy of an IAM role for a certificate and a trust anchor, as JSON.

    It needs --trust-anchor-arn and --certificate, or an identity that has them; no PIN is asked for. The role may be
    assumed by whoever has a certificate of this trust anchor with the same common names of subject and issuer.
    """
    (options,) = configured_from(values, names)
    anchor = resolve_trust_anchor(options, os.environ)
    settings = resolve_key_settings(options, os.environ)
    reference = certificate_of(settings)
    shield_output(debug=values["debug"])
    # Slow to import; not for a wrong option.
    from rolekey.certificates import check_end_entity, utc_now  # noqa: PLC0415
    from rolekey.identity import found_certificate  # noqa: PLC0415
    from rolekey.passphrases import Passphrases  # noqa: PLC0415
    from rolekey.vend.trust_policy import trust_policy_json  # noqa: PLC0415

    passphrases, deadline = Passphrases(settings, NoInteraction()), Deadline(settings.timeout or ATTENDED_SECONDS)
    certificate, _ = found_certificate(settings, reference, passphrases, deadline)
    check_end_entity(certificate, utc_now())
    sys.stdout.write(f"{trust_policy_json(certificate, anchor)}\n")
