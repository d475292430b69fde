"""A signature with a login of its own (PKCS#11 v2.40: CKA_ALWAYS_AUTHENTICATE): C_SignInit, C_Login, C_Sign.

Nothing stands between the three at the token. python-pkcs11 makes them in one call, which tells neither which of them
failed nor that the PIN was accepted while the token still waits for a finger, and which knows no PIN pad.
"""

import ctypes

from pkcs11 import Mechanism

from rolekey.errors import PinIncorrectError, UnsupportedKeyError
from rolekey.secret import Secret
from rolekey.tokens.failures import check, translated
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.tokens.structures import Mechanism as CKMechanism
from rolekey.tokens.token import ProtectedAuthentication, TokenSession

# Places in CK_FUNCTION_LIST, counted from 1.
_C_LOGIN, _C_SIGN_INIT, _C_SIGN = 19, 43, 44
_CKU_CONTEXT_SPECIFIC = 2
# More than any key's signature has: the token is not asked for the length.
_MAX_SIGNATURE = 8192


class ContextSignature:
    """One signature, in two steps: begin() and finish().

    Args:
        session: logged in.
        key: found in the session.
        data: what the mechanism takes.
        mechanism: its name without ``CKM_``.
    """

    def __init__(self, session: TokenSession, key: TokenPrivateKey, data: bytes, mechanism: str) -> None:
        self.asked = False
        self._token = session.token
        self._session = ctypes.c_ulong(session.handle)
        self._key = key
        self._data = data
        self._mechanism = mechanism
        self._signature: bytes | None = None

    def begin(self, pin: Secret | ProtectedAuthentication) -> None:
        """C_SignInit and one C_Login; ``asked`` tells whether it came to the login.

        Args:
            pin: PROTECTED has the token ask for it.

        Raises:
            PinError: the PIN was not accepted, with its subclass and ``tries``.
            SignerError: the token failed.
        """
        try:
            if self._token.library.has_one_list:
                self._init()
                self._login(pin)
            else:
                self._sign_in_one_call(pin)
        except PinIncorrectError as error:
            self._token.tell_tries(error)
            raise

    def finish(self) -> bytes:
        """C_Sign.

        Returns:
            The mechanism's own bytes (ECDSA: r and s, concatenated).

        Raises:
            SignerError: the token refused or failed.
        """
        if self._signature is not None:
            return self._signature
        signature, length = ctypes.create_string_buffer(_MAX_SIGNATURE), ctypes.c_ulong(_MAX_SIGNATURE)
        data, size = ctypes.c_char_p(self._data), ctypes.c_ulong(len(self._data))
        at, length_at = (ctypes.c_void_p(ctypes.addressof(value)) for value in (signature, length))
        with translated(f"sign with the key {self._key}"):
            check(self._token.library.call(_C_SIGN, self._session, data, size, at, length_at))
        return signature.raw[: length.value]

    def _init(self) -> None:
        mechanism = CKMechanism(int(Mechanism[self._mechanism]))
        at, key = ctypes.c_void_p(ctypes.addressof(mechanism)), ctypes.c_ulong(self._key.handle.handle)
        with translated(f"sign with the key {self._key}"):
            check(self._token.library.call(_C_SIGN_INIT, self._session, at, key))

    def _login(self, pin: Secret | ProtectedAuthentication) -> None:
        text = pin.reveal().encode() if isinstance(pin, Secret) else None
        length = ctypes.c_ulong(len(text) if text is not None else 0)
        user = ctypes.c_ulong(_CKU_CONTEXT_SPECIFIC)
        self.asked = True
        with translated(f"login for the key {self._key}", with_pin=True):
            check(self._token.library.call(_C_LOGIN, self._session, user, ctypes.c_char_p(text), length))

    def _sign_in_one_call(self, pin: Secret | ProtectedAuthentication) -> None:
        # p11-kit's client: only python-pkcs11 reaches the session. What failed is then not known.
        if not isinstance(pin, Secret):
            raise UnsupportedKeyError(
                f"the key {self._key} wants a PIN from the token's PIN pad at each signature, which does not work "
                "through p11-kit's client",
                hint="name the token's own module with --pkcs11-lib PATH",
            )
        self.asked = True
        self._signature = self._key.sign(self._data, self._mechanism, pin)
