"""One signature and one CreateSession, and what the service's refusal means (AWS, authentication-create-session)."""

import json
from collections.abc import Iterator

from rolekey.credentials import format_timestamp
from rolekey.deadline import Deadline
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, failed, known, of_error, ok, skipped
from rolekey.errors import CreateSessionError, RolekeyError
from rolekey.fetch import fetch, person_for
from rolekey.vend.trust_policy import trust_policy_json

# From the service's words to the part of the set-up that they speak of. The first that occurs in the message is taken.
_PARTS = (
    ("untrusted certificate", "the certificate"),
    ("untrusted signing certificate", "the trust anchor's CA, or an intermediate that is missing,"),
    ("invalid signature", "the signature's date, or something that changes requests on the way,"),
    ("revoked", "the certificate, which was revoked,"),
    ("trust anchor", "the trust anchor"),
    ("profile provided", "the Roles Anywhere profile"),
    ("listed in the profile", "the role, which the Roles Anywhere profile does not list,"),
    ("maxsessionduration", "the session duration"),
    ("unable to assume role", "the role's trust policy"),
    ("rolesessionname", "the role session name"),
)
_TRUST_POLICY = "the role's trust policy"


def check_signing(context: Context, *, has_failed: bool) -> Iterator[Verdict]:
    """Sign once and ask once, if the user wants that and nothing stands in the way.

    Args:
        context: what is looked at.
        has_failed: an earlier check says that it would be in vain.
    """
    if not context.sign:
        return
    settings = known(context.facts.settings, "what is to be asked")
    if has_failed:
        yield skipped("no PIN, no touch and no signature for what cannot succeed, see above")
        return
    deadline = Deadline(context.seconds)
    deadline.attended = context.attended
    interaction = person_for(settings, context.ask_until)(deadline)
    try:
        credentials = fetch(settings, interaction, deadline, pins=context.facts.pins).credentials
    except CreateSessionError as error:
        yield _refused(context, error)
        return
    yield ok(f"one signature, and credentials for {settings.role_arn} until {format_timestamp(credentials.expiration)}")


def _refused(context: Context, error: CreateSessionError) -> Verdict:
    text = error.message.lower()
    part = next((part for words, part in _PARTS if words in text), None)
    if part is None:
        return of_error(error)
    remedy = error.hint
    settings, leaf = context.facts.settings, context.facts.certificate
    if part == _TRUST_POLICY and settings is not None and leaf is not None:
        try:
            policy = json.dumps(json.loads(trust_policy_json(leaf, settings.trust_anchor_arn)))
        except RolekeyError as unfit:
            return failed(f"{part} is what the service refuses: {error.message}; {unfit.message}", unfit.hint)
        remedy = f"give the role {settings.role_arn.role_name} this trust policy: {policy}"
    return failed(f"{part} is what the service refuses: {error.message}", remedy)
