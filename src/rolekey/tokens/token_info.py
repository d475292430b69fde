"""What CK_TOKEN_INFO (PKCS#11 v2.40, 3.2) says of PIN lengths, which python-pkcs11 does not tell, and what an answer to
C_Login says of the PIN.
"""

import ctypes
import logging

import pkcs11
from pkcs11 import exceptions as codes

from rolekey.errors import PinIncorrectError, PinLockedError, SignerError
from rolekey.pin_guard import Verdict
from rolekey.tokens.structures import TokenInfo
from rolekey.tokens.token import Token
from rolekey.value import Value

log = logging.getLogger(__name__)

_CKR_OK = 0
# Its place in CK_FUNCTION_LIST, counted from 1.
_C_GET_TOKEN_INFO = 7
_UNAVAILABLE = (0, ctypes.c_ulong(-1).value)  # CK_EFFECTIVELY_INFINITE, CK_UNAVAILABLE_INFORMATION


class PinLimits(Value):
    """How long a PIN may be.

    Args:
        minimum: in bytes of UTF-8.
        maximum: in bytes of UTF-8, or None where the token does not say.
    """

    minimum: int
    maximum: int | None

    def allow(self, length: int) -> bool:
        """Whether a PIN of so many bytes may be sent."""
        return self.minimum <= length and (self.maximum is None or length <= self.maximum)


def pin_limits(token: Token) -> PinLimits:
    """What the token says of the length of its PINs; nothing where it does not answer or contradicts itself."""
    info = TokenInfo()
    place, at = ctypes.c_ulong(token.slot_id), ctypes.c_void_p(ctypes.addressof(info))
    result = token.library.call(_C_GET_TOKEN_INFO, place, at)
    minimum, maximum = int(info.min_pin_length), int(info.max_pin_length)
    if result != _CKR_OK or minimum == _UNAVAILABLE[1]:
        log.debug("token %s: no limits of the PIN's length: C_GetTokenInfo answered 0x%08X", token, result)
        return PinLimits(0, None)
    if maximum in _UNAVAILABLE:
        return PinLimits(minimum, None)
    return PinLimits(minimum, maximum) if minimum <= maximum else PinLimits(0, None)


# Codes after which the token has not compared the PIN, by the standard's words or because it was not reached.
_UNASKED = frozenset(
    {
        codes.AnotherUserAlreadyLoggedIn,
        codes.DeviceError,
        codes.DeviceMemory,
        codes.DeviceRemoved,
        codes.HostMemory,
        codes.OperationActive,
        codes.OperationNotInitialized,
        codes.PinExpired,
        codes.SessionClosed,
        codes.SessionCount,
        codes.SessionHandleInvalid,
        codes.SessionReadOnlyExists,
        codes.SlotIDInvalid,
        codes.TokenNotPresent,
        codes.TokenNotRecognised,
        codes.UserAlreadyLoggedIn,
        codes.UserPinNotInitialized,
        codes.UserTooManyTypes,
    }
)


def verdict(error: SignerError, *, tries_lost: bool) -> Verdict:
    """What a failed login says of the PIN.

    Args:
        error: of Token.open() or ContextSignature.begin().
        tries_lost: whether the token says that fewer tries are left than before.

    Returns:
        ``refused``; ``unasked``, where the PIN was right or not looked at; ``unclear``, where the code does not tell.
    """
    if tries_lost or isinstance(error, PinIncorrectError | PinLockedError):
        return "refused"
    cause = error.__cause__
    return "unasked" if isinstance(cause, pkcs11.PKCS11Error) and type(cause) in _UNASKED else "unclear"
