"""What a check finds, and the one way in which every check is run."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

from rolekey.errors import RolekeyError, printable
from rolekey.pkcs11_uri import redact_pin_value
from rolekey.value import Value

T = TypeVar("T")
C = TypeVar("C")
Status = Literal["ok", "warning", "failed", "skipped"]


class Verdict(Value):
    """One thing that a check has to say.

    Args:
        status: failed is what keeps credentials from coming; a warning is what may, or what others can do.
        message: one line.
        remedy: one line; empty where nothing has to be done.
    """

    status: Status
    message: str
    remedy: str = ""


class Finding(Value):
    """A verdict, and whose it is; nothing in it that a terminal would obey, and no PIN.

    Args:
        check: the name of the check.
        status, message, remedy: as Verdict has them.
    """

    check: str
    status: Status
    message: str
    remedy: str


class NotKnownError(Exception):
    """Something that a check needs was not found before; the text says what."""


def ok(message: str) -> Verdict:
    """As it should be."""
    return Verdict("ok", message)


def warning(message: str, remedy: str) -> Verdict:
    """It may keep credentials from coming one day, or is not as safe as it could be."""
    return Verdict("warning", message, remedy)


def failed(message: str, remedy: str) -> Verdict:
    """It keeps credentials from coming."""
    return Verdict("failed", message, remedy)


def skipped(message: str) -> Verdict:
    """It was not looked at; the message says why."""
    return Verdict("skipped", message)


def of_error(error: RolekeyError) -> Verdict:
    """What an error of ours says."""
    return failed(error.message, error.hint)


def known(value: T | None, what: str) -> T:
    """A value that an earlier check has found.

    Args:
        value: it, or None.
        what: it is, for the reader: "the certificate".

    Raises:
        NotKnownError: it was not found.
    """
    if value is None:
        raise not_known(what)
    return value


def not_known(what: str) -> NotKnownError:
    """The error for something that was not found.

    Args:
        what: it is, for the reader.
    """
    return NotKnownError(f"{what} is not known, see above")


def run_check(name: str, check: Callable[[C], Iterable[Verdict]], context: C) -> Iterator[Finding]:
    """Run one check; whatever happens in it is a finding.

    Args:
        name: the check's.
        check: gives its verdicts; an error of ours is one, too.
        context: what it looks at.
    """
    for verdict in _verdicts(check, context):
        message, remedy = (printable(redact_pin_value(text)) for text in (verdict.message, verdict.remedy))
        yield Finding(name, verdict.status, message, remedy)


def _verdicts(check: Callable[[C], Iterable[Verdict]], context: C) -> list[Verdict]:
    found: list[Verdict] = []
    try:
        found += check(context)
    except NotKnownError as missing:
        found.append(skipped(str(missing)))
    except RolekeyError as error:
        found.append(of_error(error))
    except Exception as error:  # noqa: BLE001 - one probe that fails hides no other
        # Its text is left out: it may hold anything.
        found.append(
            failed(f"the check itself failed: {type(error).__name__}", "this is a bug in rolekey: please report it")
        )
    return found
