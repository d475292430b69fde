"""The return codes of TPM 2.0 (Library, part 2, 6.6) as data: their names, what they mean here, and the remedy.

A code says in further bits which handle, parameter or session it speaks of, and which layer gave it.
"""

from rolekey.errors import (
    KeyNotFoundError,
    SignerError,
    TokenOperationError,
    TokenStateError,
    UnsupportedKeyError,
)

AUTH_FAIL, BAD_AUTH, LOCKOUT, VALUE = 0x08E, 0x0A2, 0x921, 0x084
# The layers that pass on what the TPM said: the TPM itself, and a resource manager in front of it.
_TPM_LAYERS = (0x00, 0x0B, 0x0C)
_FORMAT_1 = {
    0x01: "ASYMMETRIC",
    0x02: "ATTRIBUTES",
    0x03: "HASH",
    0x04: "VALUE",
    0x05: "HIERARCHY",
    0x07: "KEY_SIZE",
    0x08: "MGF",
    0x09: "MODE",
    0x0A: "TYPE",
    0x0B: "HANDLE",
    0x0C: "KDF",
    0x0D: "RANGE",
    0x0E: "AUTH_FAIL",
    0x0F: "NONCE",
    0x10: "PP",
    0x12: "SCHEME",
    0x15: "SIZE",
    0x16: "SYMMETRIC",
    0x17: "TAG",
    0x18: "SELECTOR",
    0x1A: "INSUFFICIENT",
    0x1B: "SIGNATURE",
    0x1C: "KEY",
    0x1D: "POLICY_FAIL",
    0x1F: "INTEGRITY",
    0x20: "TICKET",
    0x21: "RESERVED_BITS",
    0x22: "BAD_AUTH",
    0x23: "EXPIRED",
    0x24: "POLICY_CC",
    0x25: "BINDING",
    0x26: "CURVE",
    0x27: "ECC_POINT",
}
_OTHERS = {
    0x100: "INITIALIZE",
    0x101: "FAILURE",
    0x103: "SEQUENCE",
    0x120: "DISABLED",
    0x121: "EXCLUSIVE",
    0x124: "AUTH_TYPE",
    0x125: "AUTH_MISSING",
    0x126: "POLICY",
    0x127: "PCR",
    0x128: "PCR_CHANGED",
    0x12D: "UPGRADE",
    0x12E: "TOO_MANY_CONTEXTS",
    0x12F: "AUTH_UNAVAILABLE",
    0x130: "REBOOT",
    0x142: "COMMAND_SIZE",
    0x143: "COMMAND_CODE",
    0x144: "AUTHSIZE",
    0x145: "AUTH_CONTEXT",
    0x152: "PARENT",
    0x153: "NEEDS_TEST",
    0x155: "SENSITIVE",
    0x901: "CONTEXT_GAP",
    0x902: "OBJECT_MEMORY",
    0x903: "SESSION_MEMORY",
    0x904: "MEMORY",
    0x905: "SESSION_HANDLES",
    0x906: "OBJECT_HANDLES",
    0x907: "LOCALITY",
    0x908: "YIELDED",
    0x909: "CANCELED",
    0x90A: "TESTING",
    0x910: "REFERENCE_H0",
    0x918: "REFERENCE_S0",
    0x920: "NV_RATE",
    0x921: "LOCKOUT",
    0x922: "RETRY",
    0x923: "NV_UNAVAILABLE",
}
# After these the same command may succeed a moment later: YIELDED, TESTING, NV_RATE, RETRY, NV_UNAVAILABLE.
TRY_AGAIN = frozenset({0x908, 0x90A, 0x920, 0x922, 0x923})
# No room for an object or a session until somebody unloads one.
NO_ROOM = frozenset({0x902, 0x903, 0x904, 0x905, 0x906})
_ROOM = "other programs keep keys or sessions loaded; use /dev/tpmrm0, or unload them with tpm2_flushcontext"
_DAMAGED = "the key is damaged or was put together from parts of others; make it anew"
_UNSUITABLE = "the TPM cannot sign with it as IAM Roles Anywhere needs it; make an RSA or EC key without a scheme"
_OTHER_PARENT = (
    "the key was made in another TPM, or under another parent, or the TPM was cleared since; make it anew here"
)
_RESTART = "restart the machine; a TPM that goes on like this is broken"
_POLICY = "the key's policy does not allow this signature now"
# AUTH_FAIL, BAD_AUTH and LOCKOUT are not here: what to say of them, the TPM is asked for.
FAILURES: dict[int, tuple[type[SignerError], str]] = {
    0x082: (UnsupportedKeyError, _UNSUITABLE),
    0x083: (UnsupportedKeyError, _UNSUITABLE),
    0x085: (TokenStateError, "the hierarchy of the key's parent is switched off in this TPM"),
    0x08A: (UnsupportedKeyError, _OTHER_PARENT),
    0x08B: (KeyNotFoundError, "tpm2_getcap handles-persistent lists the keys that the TPM keeps"),
    0x092: (UnsupportedKeyError, _UNSUITABLE),
    0x095: (UnsupportedKeyError, _DAMAGED),
    0x096: (UnsupportedKeyError, _UNSUITABLE),
    0x09A: (UnsupportedKeyError, _DAMAGED),
    0x09C: (UnsupportedKeyError, _UNSUITABLE),
    0x09D: (TokenOperationError, _POLICY),
    0x09F: (KeyNotFoundError, _OTHER_PARENT),
    0x0A4: (UnsupportedKeyError, _POLICY),
    0x0A5: (UnsupportedKeyError, _DAMAGED),
    0x0A6: (UnsupportedKeyError, "the TPM does not have the key's curve; make a key on P-256"),
    0x0A7: (UnsupportedKeyError, _DAMAGED),
    0x100: (TokenOperationError, "the TPM was not started: see what the system's log says of it"),
    0x101: (TokenOperationError, _RESTART),
    0x128: (TokenOperationError, "the TPM's PCRs changed meanwhile; run the command again"),
    0x12D: (TokenOperationError, "an update of the TPM's firmware is going on; wait for its end"),
    0x12F: (UnsupportedKeyError, _POLICY),
    0x130: (TokenOperationError, _RESTART),
    0x153: (TokenOperationError, _RESTART),
    0x155: (UnsupportedKeyError, _DAMAGED),
    **dict.fromkeys(NO_ROOM, (TokenStateError, _ROOM)),
    **dict.fromkeys(TRY_AGAIN, (TokenOperationError, "the TPM is busy; allow it more time with --timeout SECONDS")),
}


def plain(code: int) -> int | None:
    """A code without the bits that say what it speaks of; None where it is not the TPM's own.

    Args:
        code: TSS2_RC.
    """
    if code >> 16 not in _TPM_LAYERS:
        return None
    bits = code & 0xFFF
    return bits & 0x0BF if bits & 0x080 else bits


def name_of(code: int) -> str:
    """The name of a code of the TPM: ``TPM_RC_AUTH_FAIL (0x98e)``.

    Args:
        code: TSS2_RC, of which `plain` gives a number.
    """
    base = plain(code) or 0
    word = _FORMAT_1.get(base & 0x3F) if base & 0x080 else _OTHERS.get(base)
    number = f"0x{code & 0xFFF:03x}"
    return f"TPM_RC_{word} ({number})" if word else f"TPM_RC {number}"
