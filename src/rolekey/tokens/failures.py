"""PKCS#11's return codes as rolekey's errors."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pkcs11
from pkcs11 import exceptions as codes

from rolekey.base.advice import FILE_FORM
from rolekey.errors import (
    PinIncorrectError,
    PinLockedError,
    PinNotUsableError,
    PinRequiredError,
    SignerError,
    TokenNotFoundError,
    TokenOperationError,
    TokenStateError,
    UnsupportedKeyError,
)
from rolekey.tokens.return_codes import CLASS_NAMES, code_in, name_of

log = logging.getLogger(__name__)

_PIN_FAILURES: dict[type[pkcs11.PKCS11Error], tuple[type[SignerError], str, str]] = {
    codes.PinIncorrect: (
        PinIncorrectError,
        "the PIN was not accepted",
        "check the PIN before the next try: a token locks after a few wrong ones; it is not sent again now",
    ),
    codes.PinInvalid: (PinIncorrectError, "the PIN has characters that the token does not take", "check the PIN"),
    codes.PinLenRange: (PinIncorrectError, "the PIN is too short or too long for the token", "check the PIN"),
    codes.PinLocked: (
        PinLockedError,
        "the PIN is locked",
        "unblock it with the token's PUK or SO PIN and the token's own tool",
    ),
    codes.PinExpired: (PinNotUsableError, "the PIN has expired", "set a new one with the token's own tool"),
    codes.UserPinNotInitialized: (
        PinNotUsableError,
        "the user PIN was never set",
        "initialise it as the token's security officer, with the token's own tool",
    ),
}
_OTHER_FAILURES: dict[type[pkcs11.PKCS11Error], tuple[type[SignerError], str]] = {
    codes.DeviceRemoved: (TokenNotFoundError, "put the token back in and run the command again"),
    codes.TokenNotPresent: (TokenNotFoundError, "put the token back in and run the command again"),
    codes.FunctionCancelled: (TokenOperationError, "run the command again and confirm it on the token or its PIN pad"),
    codes.FunctionRejected: (TokenOperationError, "run the command again and confirm it on the token or its PIN pad"),
    codes.TokenNotRecognised: (TokenNotFoundError, "the module does not know this kind of token; name another module"),
    codes.UserNotLoggedIn: (PinRequiredError, f"configure a PIN: pin-source={FILE_FORM} in the key's URI"),
    codes.MechanismInvalid: (UnsupportedKeyError, "the token cannot sign in the way IAM Roles Anywhere needs"),
    codes.KeyTypeInconsistent: (UnsupportedKeyError, "the key is of another type than its certificate"),
    codes.SessionCount: (TokenStateError, "close other programs that use the token"),
    codes.DeviceMemory: (TokenStateError, "the token is full or busy; close other programs that use it"),
}
_UNMAPPED = re.compile(r"0x([0-9a-fA-F]+)")


# After these a new session, or the module started anew, may work; the operation itself was not done.
_PASSING = frozenset(
    {
        codes.DeviceError,
        codes.DeviceRemoved,
        codes.GeneralError,
        codes.ObjectHandleInvalid,
        codes.KeyHandleInvalid,
        codes.OperationActive,
        codes.SessionClosed,
        codes.SessionHandleInvalid,
        codes.TokenNotPresent,
        codes.UserNotLoggedIn,
    },
)


def is_passing(error: SignerError) -> bool:
    """Whether a token may work again after a recovery: the session or the token went away, not the key or the PIN."""
    return type(error.__cause__) in _PASSING


def code_name(error: pkcs11.PKCS11Error) -> str:
    """The return code behind an exception of python-pkcs11.

    Returns:
        Its name in the standard, such as ``CKR_DEVICE_ERROR``; a vendor's code in hex; else the exception's own words.
    """
    if type(error) is not pkcs11.PKCS11Error:
        kind = type(error).__name__
        return CLASS_NAMES.get(kind) or "CKR_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).upper()
    number = _UNMAPPED.search(str(error))
    code = int(number[1], 16) if number else code_in(str(error))
    return name_of(code) if code is not None else str(error)


_CLASSES = {
    code_name(kind()): kind
    for kind in vars(codes).values()
    if isinstance(kind, type) and issubclass(kind, pkcs11.PKCS11Error) and kind is not pkcs11.PKCS11Error
}


def check(result: int) -> None:
    """Raise python-pkcs11's exception for the return code of a function that was called without it.

    Args:
        result: the code; CKR_OK passes.
    """
    if result:
        raise _CLASSES.get(name_of(result), pkcs11.PKCS11Error)(f"0x{result:08X}")


def translate(error: pkcs11.PKCS11Error, doing: str, *, with_pin: bool = False) -> SignerError:
    """The error of ours for one of python-pkcs11's.

    Args:
        error: what the module said.
        doing: what was being done, as in "DOING: the token answered CKR_...".
        with_pin: a PIN was sent, of which the module may speak.
    """
    name = code_name(error)
    if with_pin and (failure := _PIN_FAILURES.get(type(error))):
        kind, cause, hint = failure
        return kind(f"{doing}: {cause} ({name})", hint=hint)
    if name == "CKR_KEY_FUNCTION_NOT_PERMITTED":  # python-pkcs11 has no class for it
        return UnsupportedKeyError(f"{doing}: the token answered {name}", hint="the key may not sign; use another key")
    kind, hint = _OTHER_FAILURES.get(
        type(error),
        (TokenOperationError, "look the code up in the token's documentation; removing and reinserting it may help"),
    )
    return kind(f"{doing}: the token answered {name}", hint=hint)


@contextmanager
def translated(doing: str, *, with_pin: bool = False) -> Iterator[None]:
    """Turn what python-pkcs11 raises inside the block into our errors.

    Args:
        doing: what the block does, as in "DOING: the token answered CKR_...".
        with_pin: a PIN is sent in it.
    """
    try:
        yield
    except pkcs11.PKCS11Error as error:
        log.debug("%s: %s", doing, code_name(error))
        raise translate(error, doing, with_pin=with_pin) from error
