"""CreateSession: one signed request, and the credentials it returns (AWS, authentication-create-session)."""

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from rolekey import sigv4_x509
from rolekey._version import __version__
from rolekey.certificates import utc_now
from rolekey.config import Settings
from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.errors import (
    CreateSessionError,
    DeadlineError,
    MalformedResponseError,
    ServiceError,
    TransportError,
    UnsupportedKeyError,
    printable,
)
from rolekey.identity import SigningIdentity
from rolekey.transport import Answer, Opening, PermanentTransportError, Post, Route, send

log = logging.getLogger(__name__)

ATTEMPTS = 3
# The service takes a date within five minutes; a request that is sent again must not come near that.
MAX_REQUEST_AGE = timedelta(minutes=1)
REPORTED_SKEW = timedelta(minutes=2)
_RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
_RETRIED_CODES = ("Throttl", "TooManyRequests", "RequestTimeout", "SlowDown", "LimitExceeded")
# From the service's words to what a user can do. The first that occurs in the message is taken.
_HINTS = (
    (
        "untrusted certificate",
        "the certificate needs keyUsage digitalSignature, CA:FALSE, version 3 and SHA-256 or better",
    ),
    (
        "untrusted signing certificate",
        "the certificate's CA is not the trust anchor's: check it, and add --intermediates",
    ),
    ("invalid signature", "check this machine's clock, and that no proxy changes the request"),
    ("revoked", "the certificate is on a revocation list of the trust anchor: use a new one"),
    ("trust anchor", "check --trust-anchor-arn, its region, and that it is enabled"),
    ("profile provided", "check --profile-arn, its region, and that it is enabled"),
    ("listed in the profile", "add the role to the profile, or name another with --role-arn"),
    ("maxsessionduration", "ask for less with --session-duration, or raise the role's maximum session duration"),
    (
        "unable to assume role",
        (
            "the role's trust policy must allow rolesanywhere.amazonaws.com sts:AssumeRole, sts:TagSession and "
            "sts:SetSourceIdentity, and its conditions must fit the certificate"
        ),
    ),
    ("rolesessionname", "leave out --role-session-name, or let the profile accept one (acceptRoleSessionName)"),
)
_FIELDS = ("accessKeyId", "secretAccessKey", "sessionToken")
_DEFAULT_HINT = "the message is the service's own; run with --debug for what was sent"


def request_credentials(
    settings: Settings,
    identity: SigningIdentity,
    deadline: Deadline,
    *,
    opening: Opening | None = None,
    clock: Callable[[], datetime] = utc_now,
    sleep: Callable[[float], None] = time.sleep,
) -> Credentials:
    """Exchange one signature for temporary credentials.

    The request is signed once. It is sent up to three times while its date is under a minute old: a retry costs no
    second private-key operation, and so no second touch.

    Args:
        settings: ARNs, region, endpoint, duration.
        identity: signs.
        deadline: for the signature, the network and the retries together.
        opening: from transport.open_ahead(), for the first attempt.
        clock: the current time, aware.
        sleep: waits for a number of seconds.

    Raises:
        CreateSessionError: the service refused.
        MalformedResponseError: the answer is not one to this question.
        TransportError: no answer.
        DeadlineError: the time was over first.
        SignerError, CertificateError: the signature could not be made.
    """
    signed_at = clock()
    request = _sign(settings, identity, signed_at)
    failure: ServiceError | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = send(request, Route.of(settings), deadline, opening)
        except PermanentTransportError:
            raise
        except DeadlineError as error:
            if failure is None:
                raise
            raise failure from error  # it says more than a deadline that cut a retry off
        except TransportError as error:
            log.debug("attempt %d: %s", attempt, error.message)
            failure = error
        else:
            log.debug("attempt %d: status %d, request id %s", attempt, answer.status, _request_id(answer))
            if answer.status in range(200, 300):
                return _credentials(settings, answer, clock())
            failure = refusal = _refusal(answer, clock())
            if not is_passing(refusal):
                raise failure
        pause = random.uniform(0, 2**attempt)  # noqa: S311 - spreads retries, protects nothing
        # Asked after the attempt, which may have taken long.
        is_young = clock() + timedelta(seconds=pause) < signed_at + MAX_REQUEST_AGE
        if attempt == ATTEMPTS or not is_young or deadline.remaining() <= pause:
            raise failure
        sleep(pause)
    raise AssertionError  # the last attempt returns or raises


def _sign(settings: Settings, identity: SigningIdentity, moment: datetime) -> Post:
    if settings.require_non_exportable and not identity.non_exportable:
        raise UnsupportedKeyError(
            "the identity is not used (--require-non-exportable): it was opened by somebody who did not require that",
            hint="open it with these settings, or have rolekey open it",
        )
    query = (
        ("profileArn", str(settings.profile_arn)),
        ("roleArn", str(settings.role_arn)),
        ("trustAnchorArn", str(settings.trust_anchor_arn)),
    )
    fields: dict[str, int | str] = {"durationSeconds": settings.session_duration}
    if settings.role_session_name:
        fields["roleSessionName"] = settings.role_session_name
    body = json.dumps(fields, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "Host": settings.endpoint.host,
        "X-Amz-Date": sigv4_x509.amz_date(moment),
        **sigv4_x509.certificate_headers(identity.certificate, identity.chain),
    }
    request = sigv4_x509.SigningRequest(query, tuple(headers.items()), body)
    canonical = sigv4_x509.canonical_request(request)
    text = sigv4_x509.string_to_sign(identity.algorithm, moment, settings.region, canonical)
    log.debug("string to sign: %s", text.replace("\n", " | "))
    log.debug("signed headers: %s", sigv4_x509.signed_header_names(request))
    headers["Authorization"] = sigv4_x509.authorization_header(
        identity.algorithm,
        identity.certificate.serial_number,
        sigv4_x509.credential_scope(moment, settings.region),
        sigv4_x509.signed_header_names(request),
        identity.sign(text),
    )
    headers |= {"User-Agent": f"rolekey/{__version__}", "Accept": "application/json", "Accept-Encoding": "identity"}
    url = f"{settings.endpoint}{sigv4_x509.PATH}?{sigv4_x509.encode_query(query)}"
    return Post(url, headers, body)


def _request_id(answer: Answer) -> str | None:
    found = answer.headers.get("x-amzn-requestid")
    return printable(found)[:100] if found else None


def _document(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _refusal(answer: Answer, now: datetime) -> CreateSessionError:
    document = _document(answer)
    fields: Mapping[str, Any] = document if isinstance(document, dict) else {}
    code = str(answer.headers.get("x-amzn-errortype") or fields.get("__type") or fields.get("code") or "")
    code = printable(code.partition(":")[0].rpartition("#")[2])[:100] or "UnknownError"
    text = str(fields.get("message") or fields.get("Message") or "the answer holds no message")[:1000]
    request_id = _request_id(answer)
    message = f"{code}: {text} (HTTP status {answer.status}, request id {request_id or 'none'})"
    skew = _skew(answer, now) if "signature" in text.lower() else None
    if skew:
        message += f"; this machine's clock is {skew}"
    hint = next((hint for words, hint in _HINTS if words in text.lower()), _DEFAULT_HINT)
    if not fields:
        hint = "something else than IAM Roles Anywhere may answer there: check --endpoint, the region and the proxy"
    if skew:
        hint = "set this machine's clock (timedatectl, chrony); a signature is accepted for five minutes"
    return CreateSessionError(message, hint=hint, code=code, status=answer.status, request_id=request_id)


def _skew(answer: Answer, now: datetime) -> str | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - slow, and for a refusal only

    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return None
    skew = now - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))
    if abs(skew) < REPORTED_SKEW:
        return None
    seconds = round(abs(skew).total_seconds())
    return f"{seconds} s {'ahead of' if skew > timedelta() else 'behind'} the service's"


def is_passing(refusal: CreateSessionError) -> bool:
    """Whether the service was only too busy.

    Args:
        refusal: what it said.
    """
    return refusal.status in _RETRIED_STATUSES or refusal.code.startswith(_RETRIED_CODES)


def _credentials(settings: Settings, answer: Answer, now: datetime) -> Credentials:
    """Take the credentials out of an answer, and only out of the answer to this question."""
    found = _fields(answer)
    if found is None:
        raise _malformed("is not a CreateSession answer with credentials")
    texts, expiration = found
    if not all(isinstance(text, str) and text for text in texts) or expiration.tzinfo is None:
        raise _malformed("is a CreateSession answer with an empty or malformed field")
    role_arn, access_key_id, secret_access_key, session_token = texts
    if role_arn != str(settings.role_arn):
        raise _malformed(f"holds credentials of another role, {role_arn[:200]}")
    if expiration <= now:
        raise _malformed(
            f"holds credentials that expired at {expiration}; this machine's clock says {now:%H:%M:%S} UTC"
        )
    log.debug("credentials: access key id %s, until %s", access_key_id, expiration)
    return Credentials(access_key_id, secret_access_key, session_token, expiration)


def _fields(answer: Answer) -> tuple[list[Any], datetime] | None:
    # Returns and does not raise: what went wrong may hold a piece of the credentials, as a context too.
    document = _document(answer)
    try:
        first = document["credentialSet"][0]
        fields = first["credentials"]
        expiration = datetime.fromisoformat(fields["expiration"])
        if expiration.tzinfo:
            expiration = expiration.astimezone(UTC)
        return [first["roleArn"], *(fields[name] for name in _FIELDS)], expiration
    except (LookupError, TypeError, ValueError, OverflowError):
        return None


def _malformed(problem: str) -> MalformedResponseError:
    return MalformedResponseError(
        f"the answer {problem}",
        hint="check --endpoint, the proxy and this machine's clock; nothing of the answer was used",
    )
