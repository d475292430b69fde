"""What Windows answers when a store or a key fails, by name (winerror.h), and as rolekey's errors."""

from rolekey.errors import (
    CertificateError,
    KeyNotFoundError,
    PinIncorrectError,
    PinLockedError,
    PinNotUsableError,
    PinRequiredError,
    RolekeyError,
    SignerError,
    TokenNotFoundError,
    TokenOperationError,
    UnsupportedKeyError,
)

CRYPT_E_NO_KEY_PROPERTY = 0x8009200B
ERROR_FILE_NOT_FOUND, ERROR_ACCESS_DENIED = 2, 5
# A key that CNG cannot open: of a provider that knows CryptoAPI only.
NOT_FOR_CNG = frozenset(
    {0x80090008, 0x8009000A, 0x80090013, 0x80090014, 0x80090017, 0x80090029, CRYPT_E_NO_KEY_PROPERTY}
)

_INSERT = "put the smart card or token in (is its reader's service running?), and run the command again"
_NOBODY = "run it where a person sees the window; rolekey has no way to give this PIN itself"
_AGAIN = "run the command again, and answer what Windows asks"
_GONE = "certutil -user -store MY (or certutil -store MY, of the computer) shows whether the key is still there"
_OTHER_KEY = (
    "use a certificate whose key Cryptography API: Next Generation can sign with: RSA, or ECDSA on P-256 to P-521"
)
_Failure = tuple[str, type[RolekeyError], str, str]
_CODES: dict[int, _Failure] = {
    # the PIN, and whoever is asked for it
    0x8010006B: (
        "SCARD_W_WRONG_CHV",
        PinIncorrectError,
        "the PIN was not accepted",
        "check the PIN before the next try: a card locks after a few wrong ones",
    ),
    0x80090033: ("NTE_INCORRECT_PASSWORD", PinIncorrectError, "the password was not accepted", "check the password"),
    0x8010006C: ("SCARD_W_CHV_BLOCKED", PinLockedError, "the PIN is locked", "unblock it with the card's PUK"),
    0x8010002A: ("SCARD_E_INVALID_CHV", PinNotUsableError, "the card takes no such PIN", "check the PIN"),
    0x80090022: ("NTE_SILENT_CONTEXT", PinRequiredError, "a person has to be asked, and nobody may be", _NOBODY),
    0x8009002E: ("NTE_UI_REQUIRED", PinRequiredError, "a person has to be asked, and nobody may be", _NOBODY),
    0x8010006F: ("SCARD_W_CARD_NOT_AUTHENTICATED", PinRequiredError, "the PIN was not entered", _AGAIN),
    0x8010006E: ("SCARD_W_CANCELLED_BY_USER", PinRequiredError, "the question was cancelled", _AGAIN),
    0x80100002: ("SCARD_E_CANCELLED", PinRequiredError, "the question was cancelled", _AGAIN),
    0x80090036: ("NTE_USER_CANCELLED", PinRequiredError, "the question was cancelled", _AGAIN),
    0x800704C7: ("ERROR_CANCELLED", PinRequiredError, "the question was cancelled", _AGAIN),
    # the card
    0x80100069: ("SCARD_W_REMOVED_CARD", TokenNotFoundError, "the card was taken out", _INSERT),
    0x8010000C: ("SCARD_E_NO_SMARTCARD", TokenNotFoundError, "there is no card", _INSERT),
    0x8010000A: ("SCARD_E_TIMEOUT", TokenNotFoundError, "the card did not come", _INSERT),
    0x8010002E: ("SCARD_E_NO_READERS_AVAILABLE", TokenNotFoundError, "there is no reader", _INSERT),
    0x80100017: ("SCARD_E_READER_UNAVAILABLE", TokenNotFoundError, "the reader is gone", _INSERT),
    0x8010001D: ("SCARD_E_NO_SERVICE", TokenNotFoundError, "the smart card service does not run", _INSERT),
    0x8010001E: ("SCARD_E_SERVICE_STOPPED", TokenNotFoundError, "the smart card service has stopped", _INSERT),
    0x80090035: ("NTE_DEVICE_NOT_FOUND", TokenNotFoundError, "the key's device is not there", _INSERT),
    0x80090030: ("NTE_DEVICE_NOT_READY", TokenNotFoundError, "the key's device is not ready", _INSERT),
    # the key
    0x80090016: ("NTE_BAD_KEYSET", KeyNotFoundError, "the key is not there, or this user may not see it", _GONE),
    0x8009000D: ("NTE_NO_KEY", KeyNotFoundError, "the key is not there", _GONE),
    0x80090011: ("NTE_NOT_FOUND", KeyNotFoundError, "the key is not there", _GONE),
    0x80090019: ("NTE_KEYSET_NOT_DEF", KeyNotFoundError, "the key is not there", _GONE),
    CRYPT_E_NO_KEY_PROPERTY: ("CRYPT_E_NO_KEY_PROPERTY", KeyNotFoundError, "Windows finds no key of it", _GONE),
    0x80090010: (
        "NTE_PERM",
        TokenOperationError,
        "this user may not use the key",
        "let the user: in certlm.msc, All Tasks, Manage Private Keys",
    ),
    0x80070005: (
        "E_ACCESSDENIED",
        TokenOperationError,
        "this user may not use the key",
        "let the user: in certlm.msc, All Tasks, Manage Private Keys",
    ),
    0x80090015: (
        "NTE_BAD_PUBLIC_KEY",
        CertificateError,
        "the private key does not belong to the certificate",
        "import the certificate anew, with its own key",
    ),
    0x80090008: ("NTE_BAD_ALGID", UnsupportedKeyError, "the key cannot sign so", _OTHER_KEY),
    0x8009000A: ("NTE_BAD_TYPE", UnsupportedKeyError, "the key cannot sign so", _OTHER_KEY),
    0x80090029: ("NTE_NOT_SUPPORTED", UnsupportedKeyError, "the key cannot sign so", _OTHER_KEY),
    0x8009002D: ("NTE_INTERNAL_ERROR", TokenOperationError, "the provider failed", "try again, or ask its maker"),
    0x80090020: ("NTE_FAIL", TokenOperationError, "the provider failed", "try again, or ask its maker"),
    0x8009001D: ("NTE_PROVIDER_DLL_FAIL", TokenOperationError, "the provider failed", "install it anew"),
    0x80090013: ("NTE_BAD_PROVIDER", TokenOperationError, "there is no such provider", "install the key's provider"),
    0x80090014: ("NTE_BAD_PROV_TYPE", UnsupportedKeyError, "the provider is of another type", _OTHER_KEY),
    0x80090017: ("NTE_PROV_TYPE_NOT_DEF", UnsupportedKeyError, "the provider is of another type", _OTHER_KEY),
}


def error_of(code: int, doing: str) -> RolekeyError:
    """The error for what Windows answered.

    Args:
        code: HRESULT or SECURITY_STATUS.
        doing: what was being done.
    """
    known = _CODES.get(code)
    if known is None:
        return TokenOperationError(
            f"{doing}: Windows answered {code:#010x}", hint="certutil -error with this number says what it means"
        )
    name, kind, cause, hint = known
    if kind is PinLockedError:
        return PinLockedError(f"{doing}: {cause} ({name})", hint=hint, tries="none")
    return kind(f"{doing}: {cause} ({name})", hint=hint)


def legacy_error(doing: str, provider: str) -> SignerError:
    """The error for a key that CNG cannot open.

    Args:
        doing: what was being done.
        provider: of CryptoAPI, which keeps it.
    """
    return UnsupportedKeyError(
        f"{doing}: the key belongs to {provider}, a provider of the older CryptoAPI that CNG cannot open",
        hint="have the certificate issued for a key of a Key Storage Provider, or import it into one: "
        'certutil -user -csp "Microsoft Software Key Storage Provider" -importpfx FILE.pfx',
    )
