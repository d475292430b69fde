"""Every exception that rolekey raises: one class for each decision that a caller can take.

RolekeyError
├── ConfigurationError            an option, ARN, URI or duration that cannot be used
│   └── MissingExtraError         an optional dependency is not installed
├── SignerError
│   ├── ModuleError               a PKCS#11 module that cannot be loaded or initialised
│   ├── TokenNotFoundError        no such token, or removed while in use
│   ├── KeyNotFoundError
│   ├── AmbiguousMatchError       several candidates; ``candidates`` lists them, none was taken
│   ├── UnsupportedKeyError
│   ├── TokenOperationError       the device failed; the text has its own name for it
│   ├── TokenStateError           full, read-only, or something is already there
│   └── PinError                  ``tries`` says what is left
│       ├── PinRequiredError
│       ├── PinIncorrectError
│       ├── PinLockedError
│       └── PinNotUsableError     expired, to be changed, not initialised
├── CertificateError              unreadable, expired, not yet valid, not this key's
├── ServiceError
│   ├── TransportError            no answer: DNS, TLS, proxy, connection
│   ├── CreateSessionError        AWS refused; ``code``, ``status``, ``request_id``
│   └── MalformedResponseError    an answer that is not the one to our question
├── DeadlineError                 the time allowed is over
├── ListenError                   a server's address cannot be used
├── CredentialsFileError          the shared credentials file cannot be read or written
└── CommandError                  a command that was to get credentials cannot be run
    └── CommandNotFoundError
"""

from collections.abc import Mapping
from typing import Any, Literal

Tries = Literal["unknown", "low", "last", "none"]


def printable(text: str) -> str:
    r"""Text from outside (token labels, a service's message) with nothing that a terminal would obey.

    Args:
        text: any text.

    Returns:
        The text with every character that is not printable (control characters, line ends, bidirectional overrides)
        written as a Python escape such as ``\x1b``.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class RolekeyError(Exception):
    """A failure, as one line that names the cause and one that names the remedy.

    Args:
        message: the cause, one line without a final full stop.
        hint: the remedy, one line.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        self.message = printable(message)
        self.hint = printable(hint)
        super().__init__(self.message)


class ConfigurationError(RolekeyError):
    """An option, ARN, URI or duration that cannot be used."""


class MissingExtraError(ConfigurationError):
    """An optional dependency is not installed."""


class SignerError(RolekeyError):
    """The private key could not be found or used."""


class ModuleError(SignerError):
    """A PKCS#11 module that cannot be loaded or initialised."""


class TokenNotFoundError(SignerError):
    """No token matches, or it was removed while in use."""


class KeyNotFoundError(SignerError):
    """No private key matches."""


class AmbiguousMatchError(SignerError):
    """Several objects match and none was taken.

    Args:
        message: the cause.
        hint: the remedy.
        candidates: RFC 7512 URIs, each of which selects exactly one of them.
    """

    def __init__(self, message: str, *, hint: str, candidates: tuple[str, ...]) -> None:
        super().__init__(message, hint=hint)
        self.candidates = candidates


class UnsupportedKeyError(SignerError):
    """A key of a type or with a restriction that Roles Anywhere cannot use."""


class TokenOperationError(SignerError):
    """The device failed; the message has its own name for the failure (CKR_*, TPM_RC_*)."""


class TokenStateError(SignerError):
    """The token is full, read-only, or holds the object already."""


class PinError(SignerError):
    """A PIN or passphrase is missing or was not accepted.

    Args:
        message: the cause.
        hint: the remedy.
        tries: what the token says about the tries that are left.
    """

    def __init__(self, message: str, *, hint: str, tries: Tries = "unknown") -> None:
        super().__init__(message, hint=hint)
        self.tries: Tries = tries


class PinRequiredError(PinError):
    """No PIN or passphrase is configured and nobody can be asked."""


class PinIncorrectError(PinError):
    """The PIN or passphrase was refused."""


class PinLockedError(PinError):
    """The token takes no PIN any more."""


class PinNotUsableError(PinError):
    """The PIN has expired, must be changed, was never set, or cannot be a PIN of this token."""


class CertificateError(RolekeyError):
    """A certificate that is unreadable, expired, not yet valid, unfit, or does not belong to the key."""


class ServiceError(RolekeyError):
    """IAM Roles Anywhere gave no credentials."""


class TransportError(ServiceError):
    """No answer: DNS, connection, proxy or TLS."""


class CreateSessionError(ServiceError):
    """AWS refused the request.

    Args:
        message: the service's own words, with its code and status.
        hint: the remedy.
        code: the service's error code, such as ``AccessDeniedException``.
        status: the HTTP status.
        request_id: the service's request id, or None where it sent none.
    """

    def __init__(self, message: str, *, hint: str, code: str, status: int, request_id: str | None) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.status = status
        self.request_id = request_id


class MalformedResponseError(ServiceError):
    """An answer that is no CreateSession answer, or not the one to our question."""


class DeadlineError(RolekeyError):
    """The time allowed is over; the message says what was being waited for."""


class ListenError(RolekeyError):
    """A server cannot listen on its address."""


class CredentialsFileError(RolekeyError):
    """The shared credentials file cannot be read or written."""


class CommandError(RolekeyError):
    """A command that was to get credentials cannot be run."""


class CommandNotFoundError(CommandError):
    """There is no such command."""


def error_to_document(error: RolekeyError) -> dict[str, Any]:
    """An error as JSON takes it, for another process.

    Args:
        error: any.

    Returns:
        Its class, message, hint and further attributes.
    """
    fields = {name: value for name, value in vars(error).items() if name not in ("message", "hint")}
    return {"class": type(error).__name__, "message": error.message, "hint": error.hint, "fields": fields}


def error_from_document(document: Any) -> RolekeyError:
    """The error that error_to_document() has written.

    Args:
        document: parsed JSON, which may come from a process that is not to be trusted.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(document, Mapping):
        raise ValueError("no object")  # noqa: TRY004 - whatever is wrong is one thing to the caller
    kind = globals().get(str(document.get("class")))
    fields = document.get("fields")
    if not (isinstance(kind, type) and issubclass(kind, RolekeyError) and isinstance(fields, Mapping)):
        raise ValueError("no error")  # noqa: TRY004 - as above
    given = {str(name): tuple(map(str, value)) if isinstance(value, list) else value for name, value in fields.items()}
    try:
        return kind(str(document["message"]), hint=str(document["hint"]), **given)
    except (KeyError, TypeError) as error:
        raise ValueError("not all of an error") from error
