"""Every way in which the emulator says no: error type, HTTP status and words (AWS restJson1 errors).

The service documents few of its messages. Each entry says whether its words were seen from the service or are ours.
"""

import enum
from dataclasses import dataclass

ACCESS_DENIED = "AccessDeniedException"
VALIDATION = "ValidationException"
NOT_FOUND = "ResourceNotFoundException"
UNKNOWN_OPERATION = "UnknownOperationException"
INTERNAL = "InternalServerException"


class Origin(enum.Enum):
    """Where a message's words come from."""

    SERVICE = "seen from the service"
    OURS = "our own words: the service's are not known"


@dataclass(frozen=True)
class Wording:
    """One message.

    Args:
        error_type: the value of X-Amzn-ErrorType.
        status: the HTTP status.
        text: the message, with ``{named}`` places.
        origin: whose words they are. The error type of a message of ours is ours too.
    """

    error_type: str
    status: int
    text: str
    origin: Origin


def _service(error_type: str, status: int, text: str) -> Wording:
    return Wording(error_type, status, text, Origin.SERVICE)


def _ours(error_type: str, status: int, text: str) -> Wording:
    return Wording(error_type, status, text, Origin.OURS)


_CONSTRAINT = "1 validation error detected: Value {value} at '{field}' failed to satisfy constraint: "


class Reason(enum.Enum):
    """Why a request is refused."""

    # The trust chain and the certificate
    UNTRUSTED = _service(ACCESS_DENIED, 403, "Untrusted signing certificate")
    INSUFFICIENT = _service(ACCESS_DENIED, 403, "Untrusted certificate. Insufficient certificate")
    REVOKED = _service(ACCESS_DENIED, 403, "Certificate revoked")
    EXPIRED = _ours(ACCESS_DENIED, 403, "Certificate expired")
    NOT_YET_VALID = _ours(ACCESS_DENIED, 403, "Certificate not yet valid")
    CHAIN_TOO_LONG = _ours(VALIDATION, 400, "The certificate chain has more than 5 certificates")
    MALFORMED_CERTIFICATE = _ours(VALIDATION, 400, "{header} does not hold base64 of a DER certificate")

    # The signature
    INVALID_SIGNATURE = _service(ACCESS_DENIED, 403, "Invalid signature")
    MALFORMED_AUTHORIZATION = _ours(ACCESS_DENIED, 403, "Malformed Authorization header")
    SERIAL_MISMATCH = _ours(
        ACCESS_DENIED, 403, "The serial number in Credential is not that of the certificate in X-Amz-X509"
    )
    SCOPE_MISMATCH = _ours(ACCESS_DENIED, 403, "The credential scope must be {scope}")
    UNSIGNED_HEADER = _ours(ACCESS_DENIED, 403, "The header {header} must be signed")
    MISSING_HEADER = _ours(ACCESS_DENIED, 403, "The header {header} is missing")
    DUPLICATE_HEADER = _ours(VALIDATION, 400, "The header {header} was sent more than once")
    MALFORMED_HEADER = _ours(VALIDATION, 400, "The header {header} is malformed")

    # What is asked for
    # Reported without its error type.
    NO_TRUST_ANCHOR = _service(NOT_FOUND, 404, "Specified Trust Anchor wasn't found.")
    TRUST_ANCHOR_DISABLED = _ours(ACCESS_DENIED, 403, "Specified Trust Anchor is not enabled.")
    NO_PROFILE = _service(ACCESS_DENIED, 403, "Invalid or empty profile provided.")
    PROFILE_DISABLED = _ours(ACCESS_DENIED, 403, "Specified Profile is not enabled.")
    ROLE_NOT_LISTED = _service(ACCESS_DENIED, 403, "Requested Role isn't one of those listed in the Profile.")
    SESSION_NAME_NOT_ALLOWED = _service(ACCESS_DENIED, 403, "Not authorized to set roleSessionName")
    ROLE_REFUSED = _service(ACCESS_DENIED, 403, "Unable to assume role for {role_arn}.")
    # Reported without what stands between the two sentences, and without its error type.
    DURATION_ABOVE_ROLE = _service(
        ACCESS_DENIED,
        403,
        "Unable to assume role for {role_arn}. The requested DurationSeconds exceeds the MaxSessionDuration set for"
        " this role.",
    )
    PATTERN = _service(VALIDATION, 400, _CONSTRAINT + "Member must satisfy regular expression pattern: {constraint}")
    TOO_LARGE = _service(VALIDATION, 400, _CONSTRAINT + "Member must have value less than or equal to {constraint}")
    TOO_SMALL = _ours(VALIDATION, 400, _CONSTRAINT + "Member must have value greater than or equal to {constraint}")
    LENGTH = _ours(VALIDATION, 400, _CONSTRAINT + "Member must have length between {constraint}")
    MISSING = _ours(VALIDATION, 400, _CONSTRAINT + "Member must not be null")
    WRONG_TYPE = _ours(VALIDATION, 400, _CONSTRAINT + "Member must be {constraint}")
    CONTRADICTION = _ours(VALIDATION, 400, "The request gives {field} twice, with different values")

    # The STS that `--sts-endpoint` names
    STS_FAILED = _ours(INTERNAL, 500, "The STS at {authority} {problem}")

    # The form
    MALFORMED_QUERY = _ours(VALIDATION, 400, "The query string is malformed")
    MALFORMED_BODY = _ours(VALIDATION, 400, "The body is not a JSON object")
    BODY_TOO_LARGE = _ours(VALIDATION, 413, "The body is too large")
    UNKNOWN_OPERATION = _ours(UNKNOWN_OPERATION, 404, "Only POST to a path that ends in /sessions is known here")


class Refusal(Exception):  # noqa: N818 - an answer to the client, not a failure of the emulator
    """A request is refused.

    Args:
        reason: the entry of the table.
        detail: what exactly was found, for the requests file. The service would not tell, so no client is told.
        fields: values for the places in the message.
    """

    def __init__(self, reason: Reason, detail: str = "", /, **fields: str) -> None:
        self.reason = reason
        self.detail = detail
        wording = reason.value
        self.error_type = wording.error_type
        self.status = wording.status
        self.message = wording.text.format_map(fields)
        super().__init__(self.message)
