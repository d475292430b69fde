"""The return codes of PKCS#11 v2.40 for which python-pkcs11 has no class of their own, by number."""

NAMES = {
    0x001: "CKR_CANCEL",
    0x002: "CKR_HOST_MEMORY",
    0x005: "CKR_GENERAL_ERROR",
    0x006: "CKR_FUNCTION_FAILED",
    0x007: "CKR_ARGUMENTS_BAD",
    0x009: "CKR_NEED_TO_CREATE_THREADS",
    0x00A: "CKR_CANT_LOCK",
    0x01B: "CKR_ACTION_PROHIBITED",
    0x030: "CKR_DEVICE_ERROR",
    0x031: "CKR_DEVICE_MEMORY",
    0x032: "CKR_DEVICE_REMOVED",
    0x051: "CKR_FUNCTION_NOT_PARALLEL",
    0x054: "CKR_FUNCTION_NOT_SUPPORTED",
    0x065: "CKR_KEY_CHANGED",
    0x068: "CKR_KEY_FUNCTION_NOT_PERMITTED",
    0x0B4: "CKR_SESSION_PARALLEL_NOT_SUPPORTED",
    0x103: "CKR_USER_TYPE_INVALID",
    0x140: "CKR_CURVE_NOT_SUPPORTED",
    0x150: "CKR_BUFFER_TOO_SMALL",
    0x160: "CKR_SAVED_STATE_INVALID",
    0x170: "CKR_INFORMATION_SENSITIVE",
    0x180: "CKR_STATE_UNSAVEABLE",
    0x190: "CKR_CRYPTOKI_NOT_INITIALIZED",
    0x191: "CKR_CRYPTOKI_ALREADY_INITIALIZED",
    0x1A0: "CKR_MUTEX_BAD",
    0x1A1: "CKR_MUTEX_NOT_LOCKED",
    0x1B0: "CKR_NEW_PIN_MODE",
    0x1B1: "CKR_NEXT_OTP",
    0x1B6: "CKR_FIPS_SELF_TEST_FAILED",
    0x1B7: "CKR_LIBRARY_LOAD_FAILED",
    0x200: "CKR_FUNCTION_REJECTED",
}
# python-pkcs11's class names that are not the standard's words.
CLASS_NAMES = {
    "AnotherUserAlreadyLoggedIn": "CKR_USER_ANOTHER_ALREADY_LOGGED_IN",
    "FunctionCancelled": "CKR_FUNCTION_CANCELED",
    "SessionReadWriteSOExists": "CKR_SESSION_READ_WRITE_SO_EXISTS",
    "SlotIDInvalid": "CKR_SLOT_ID_INVALID",
    "TokenNotRecognised": "CKR_TOKEN_NOT_RECOGNIZED",
}
# Words of python-pkcs11 in place of a number.
_WORDS = (
    ("Parallel not supported", 0x0B4),
    ("User type invalid", 0x103),
    ("Buffer was too small", 0x150),
    ("Initialisation error (not initialized)", 0x190),
    ("already initialized", 0x191),
)


def name_of(code: int) -> str:
    """The standard's name of a code, or the code itself: ``CKR 0x80001234``."""
    return NAMES.get(code, f"CKR 0x{code:08X}")


def code_in(text: str) -> int | None:
    """The code that python-pkcs11's words for an unmapped one mean, or None."""
    return next((code for words, code in _WORDS if words in text), None)
