"""One token: what it says of itself, and a session with it."""

import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

import pkcs11
from pkcs11 import SlotFlag, TokenFlag

from rolekey.errors import PinIncorrectError, PinLockedError, PinNotUsableError, SignerError, Tries
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret
from rolekey.tokens.attributes import strict_attributes
from rolekey.tokens.failures import code_name, translate, translated
from rolekey.tokens.library import Library
from rolekey.tokens.objects import TokenCertificate, TokenObject, TokenPrivateKey, TokenPublicKey, find_objects

if TYPE_CHECKING:
    from rolekey.tokens.writing import TokenWriter

log = logging.getLogger(__name__)
_TRIES_LEFT: dict[Tries, str] = {
    "low": "; few tries are left",
    "last": "; one try is left",
    "none": "; no try is left, and the PIN is locked",
}


class ProtectedAuthentication(Enum):
    """What stands for the PIN where the token has a PIN pad of its own: C_Login gets no PIN."""

    PROTECTED = "the token's PIN pad"


PROTECTED = ProtectedAuthentication.PROTECTED


def _field(value: str | bytes) -> str:
    # Fields are padded with blanks; some modules use NULs.
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.rstrip(" \0")


def _user_pin(pin: Secret | ProtectedAuthentication | None) -> Any:
    return pkcs11.PROTECTED_AUTH if pin is PROTECTED else pin.reveal() if isinstance(pin, Secret) else None


def _selectable(text: str) -> str | None:
    return text if text.isprintable() and "pin-value=" not in text else None


class Token:
    """A token in a slot.

    Args:
        token: python-pkcs11's token.
        library: its module.
    """

    def __init__(self, token: Any, library: Library) -> None:
        self._token = token
        self.label = _field(token.label)
        self.serial = _field(token.serial)
        self.manufacturer = _field(token.manufacturer_id)
        self.model = _field(token.model)
        self.slot_id: int = token.slot.slot_id
        self.slot_description = _field(token.slot.slot_description)
        self.slot_manufacturer = _field(token.slot.manufacturer_id)
        self.library = library
        self._flags = token.flags
        self._removable = bool(token.slot.flags & SlotFlag.REMOVABLE_DEVICE)

    def __str__(self) -> str:
        return f"{self.label or 'without a label'} (serial {self.serial or 'unknown'})"

    def matches(self, uri: PKCS11URI) -> bool:
        """Whether the URI's attributes of library, slot and token fit."""
        return uri.matches(
            token=self.label,
            manufacturer=self.manufacturer,
            serial=self.serial,
            model=self.model,
            slot_id=self.slot_id,
            slot_description=self.slot_description,
            slot_manufacturer=self.slot_manufacturer,
            library_manufacturer=_field(self.library.manufacturer_id),
            library_description=_field(self.library.library_description),
            library_version=self.library.library_version,
        )

    def uri(self, entry: TokenObject | None = None) -> str:
        """A URI that selects this token, or an object in it.

        Returns:
            An RFC 7512 URI without a query; text that a URI cannot hold is left out of it.
        """
        # Label and serial number are enough to tell tokens apart, and short enough to read.
        uri = PKCS11URI(
            token=_selectable(self.label),
            serial=_selectable(self.serial),
            manufacturer=None if self.serial else _selectable(self.manufacturer),
            model=None if self.serial else _selectable(self.model),
            object_label=_selectable(entry.label) or None if entry else None,
            object_id=entry.object_id or None if entry else None,
        )
        return str(uri)

    @property
    def initialized(self) -> bool:
        """Whether the token can hold anything yet (CKF_TOKEN_INITIALIZED)."""
        return bool(self._flags & TokenFlag.TOKEN_INITIALIZED)

    @property
    def login_required(self) -> bool:
        """Whether private objects need a PIN (CKF_LOGIN_REQUIRED)."""
        return bool(self._flags & TokenFlag.LOGIN_REQUIRED)

    @property
    def protected_authentication_path(self) -> bool:
        """Whether the token asks for the PIN itself, on a pad of its own (CKF_PROTECTED_AUTHENTICATION_PATH)."""
        return bool(self._flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH)

    @property
    def write_protected(self) -> bool:
        """Whether nothing can be changed in the token (CKF_WRITE_PROTECTED)."""
        return bool(self._flags & TokenFlag.WRITE_PROTECTED)

    @property
    def may_want_a_person(self) -> bool:
        """Whether the token may wait for a touch or its own PIN pad. Touches are not announced: every card may."""
        return self._removable or (self.login_required and self.protected_authentication_path)

    @property
    def tries(self) -> Tries:
        """What the token says of the PIN tries that are left."""
        if self._flags & TokenFlag.USER_PIN_LOCKED:
            return "none"
        if self._flags & TokenFlag.USER_PIN_FINAL_TRY:
            return "last"
        return "low" if self._flags & TokenFlag.USER_PIN_COUNT_LOW else "unknown"

    def check_pin_state(self) -> None:
        """Refuse a login that cannot succeed.

        Raises:
            PinLockedError: the token takes no PIN any more.
            PinNotUsableError: the user PIN was never set, or has to be changed first.
        """
        if self.tries == "none":
            raise PinLockedError(
                f"the PIN of token {self} is locked",
                hint="unblock it with the token's PUK or SO PIN and the token's own tool",
                tries="none",
            )
        if not self._flags & TokenFlag.USER_PIN_INITIALIZED:
            raise PinNotUsableError(
                f"the user PIN of token {self} was never set",
                hint="initialise it as the token's security officer, with the token's own tool",
            )
        if self._flags & TokenFlag.USER_PIN_TO_BE_CHANGED:
            raise PinNotUsableError(
                f"the PIN of token {self} has to be changed before the token can be used",
                hint="set a PIN of your own in place of the initial one, with the token's own tool",
                tries=self.tries,
            )

    def refresh(self) -> None:
        """Ask the token for its flags anew: other processes log in, too.

        Raises:
            SignerError: the token does not answer.
        """
        with translated(f"token {self}"):
            self._flags = self._token.slot.get_token().flags

    def open(self, pin: Secret | ProtectedAuthentication | None = None, *, writable: bool = False) -> "TokenSession":
        """Open a session; with a PIN, log in as the user: one C_Login.

        Args:
            pin: PROTECTED has the token ask for it; None logs nobody in.
            writable: objects can be made and removed in it; else it is read-only.

        Raises:
            PinError: the PIN was not accepted, with its subclass and ``tries``.
            SignerError: the token failed.
        """
        doing = f"token {self}: login" if pin else f"token {self}: open a session"
        mapper = strict_attributes()
        failure_of: Callable[[pkcs11.PKCS11Error, str], SignerError] = translate
        if writable:
            from rolekey.tokens.writing import writing_attributes, writing_failure  # noqa: PLC0415 - slow to import

            mapper, failure_of = writing_attributes(), writing_failure
        try:
            session = self._token.open(user_pin=_user_pin(pin), attribute_mapper=mapper, rw=writable)
            return TokenSession(self, session)
        except pkcs11.PKCS11Error as error:
            failure = failure_of(error, doing) if pin is None else translate(error, doing, with_pin=True)
            if isinstance(failure, PinIncorrectError):
                self.tell_tries(failure)
            raise failure from error

    def tell_tries(self, error: PinIncorrectError) -> None:
        """Put into an error what the token says of the tries that are left, asked anew where it answers.

        Args:
            error: of the PIN that was just sent.
        """
        with suppress(SignerError):
            self.refresh()
        error.tries = self.tries
        error.message += _TRIES_LEFT.get(self.tries, "")
        error.args = (error.message,)

    def mechanisms(self) -> frozenset[str]:
        """Names of the mechanisms that the token lists, without ``CKM_``; empty where it lists none."""
        try:
            listed = self._token.slot.get_mechanisms()
        except pkcs11.PKCS11Error as error:
            log.debug("token %s lists no mechanisms: %s", self, code_name(error))
            return frozenset()
        return frozenset(m.name for m in listed if isinstance(m, pkcs11.Mechanism))


class TokenSession:
    """An open session. Closing one that logged in logs out every session of the process with that token.

    Args:
        token: the token.
        session: python-pkcs11's session.
    """

    def __init__(self, token: Token, session: Any) -> None:
        self.token = token
        self._session = session

    @property
    def handle(self) -> int:
        """The session's number in its module."""
        number: int = self._session.handle
        return number

    def certificates(self) -> list[TokenCertificate]:
        """The X.509 certificates that are visible now; one that cannot be parsed hides no other."""
        with translated(f"token {self.token}: search certificates"):
            return find_objects(self._session, TokenCertificate)

    def public_keys(self) -> list[TokenPublicKey]:
        """The public keys that are visible now and can be read."""
        with translated(f"token {self.token}: search public keys"):
            return find_objects(self._session, TokenPublicKey)

    def private_keys(self, label: str | None = None, object_id: bytes | None = None) -> list[TokenPrivateKey]:
        """The private keys that are visible now, or those of them that find_objects() finds by their name."""
        with translated(f"token {self.token}: search private keys"):
            return find_objects(self._session, TokenPrivateKey, label, object_id)

    def write(self) -> "TokenWriter":
        """What makes and removes objects, through a session that was opened as writable."""
        from rolekey.tokens.writing import TokenWriter  # noqa: PLC0415 - slow to import; not for a signature

        return TokenWriter(self._session, f"token {self.token}", _field(self.token.library.manufacturer_id))

    def close(self) -> None:
        """Log out, if logged in, and close. A token that is gone is no error."""
        with suppress(pkcs11.PKCS11Error):
            self._session.close()
