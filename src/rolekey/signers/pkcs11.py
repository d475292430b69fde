"""A private key in a PKCS#11 token (OASIS v2.40; ML-DSA: v3.2). It signs there and never leaves."""

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, PinError, SignerError, UnsupportedKeyError
from rolekey.signers.base import HashName, PublicKey
from rolekey.tokens.failures import is_passing
from rolekey.tokens.keys import OpenKey
from rolekey.value import Value

log = logging.getLogger(__name__)

# How long a module may take to log out and close: the credentials wait for it.
CLOSE_SECONDS = 2.0
# After this time a token that signs by itself has signed: it waits for a finger.
TOUCH_SECONDS = 0.7
# DER of DigestInfo up to the digest (RFC 8017, 9.2): CKM_RSA_PKCS pads what it is given and adds no DigestInfo.
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


def _message(message: bytes, _hash: HashName, _field_size: int | None) -> bytes:
    return message


def _digest(message: bytes, hash_name: HashName, _field_size: int | None) -> bytes:
    return hashlib.new(hash_name, message).digest()


def _curve_digest(message: bytes, hash_name: HashName, field_size: int | None) -> bytes:
    # ECDSA takes the leftmost bits; some modules refuse a digest that has more instead of cutting it.
    return _digest(message, hash_name, None)[:field_size]


def _digest_info(message: bytes, hash_name: HashName, _field_size: int | None) -> bytes:
    return _DIGEST_INFO[hash_name] + _digest(message, hash_name, None)


def _as_is(signature: bytes, _field_size: int | None) -> bytes:
    return signature


def _der(signature: bytes, field_size: int | None) -> bytes:
    """ECDSA-Sig-Value of r and s; a module that gives that already, against the standard, is taken at its word."""
    if field_size is not None and len(signature) != 2 * field_size:
        with suppress(ValueError):
            decode_dss_signature(signature)
            return signature
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))


class Mechanism(Value):
    """One way to sign.

    Args:
        name: without ``CKM_``; ``{hash}`` stands for SHA256, SHA384, SHA512.
        prepare: from message, hash and the curve's size in bytes to what the token is given.
        finish: from what the token returns, and the curve's size, to the Signer's encoding.
    """

    name: str
    prepare: Callable[[bytes, HashName, int | None], bytes]
    finish: Callable[[bytes, int | None], bytes]


# By key type, the first that the token lists is taken; the first of all where it lists nothing.
MECHANISMS = {
    "RSA": (
        Mechanism("{hash}_RSA_PKCS", _message, _as_is),
        Mechanism("RSA_PKCS", _digest_info, _as_is),
    ),
    "EC": (
        Mechanism("ECDSA", _curve_digest, _der),
        Mechanism("ECDSA_{hash}", _message, _der),
    ),
    # Without a parameter the context is empty, and the token may add random numbers of its own (v3.2, 6.67.7).
    "ML_DSA": (Mechanism("ML_DSA", _message, _as_is),),
}


class PKCS11Signer:
    """Signs with a key in a token, through a session that it owns.

    Args:
        opened: the key and its session, logged in.
        reopen: finds the same key again, after the token or its session went away; logs in with the PIN that was
            accepted before, once.
        deadline: how long a signature, with its touch, may take.
        remind: tells the person to touch the token.
    """

    def __init__(
        self,
        opened: OpenKey,
        reopen: Callable[[], OpenKey],
        deadline: Deadline,
        remind: Callable[[str], None],
    ) -> None:
        self._remind = remind
        self.public_key: PublicKey | None = opened.key.public_key
        self._opened: OpenKey | None = opened
        self._reopen = reopen
        self._deadline = deadline

    def sign(self, message: bytes, *, hash: HashName = "sha256") -> bytes:  # noqa: A002 - the word of the field
        """Sign a message, as Signer.sign() says: one C_SignInit and one C_Sign, between them a context login at most.

        A token that was away is looked for again, once; what fails then is the error, and the next call looks again.
        """
        if self._opened is not None:
            try:
                return self._sign(self._opened, message, hash)
            except SignerError as error:
                if not (is_passing(error) and self._opened.can_recover):
                    self._close_after(error)
                    raise
                log.debug("%s; the token is opened anew", error.message)
                self.close()
        opened = self._deadline.run("the token", self._reopen)
        self._opened = opened
        try:
            return self._sign(opened, message, hash)
        except SignerError as error:
            self._close_after(error)
            raise

    def _close_after(self, error: SignerError) -> None:
        # A signature that was begun, and for which a PIN was refused, ends with its session.
        if is_passing(error) or isinstance(error, PinError):
            self.close()

    def _sign(self, opened: OpenKey, message: bytes, hash_name: HashName) -> bytes:
        token, size = opened.session.token, opened.key.field_size

        def begin() -> Callable[[], bytes]:
            mechanism, name = _choose(opened, hash_name)
            finish = opened.begin(mechanism.prepare(message, hash_name, size), name)
            return lambda: mechanism.finish(finish(), size)

        sign = self._deadline.run(f"token {token}", begin)
        touch = (TOUCH_SECONDS, lambda: self._remind(f"Touch your token {token}, if it waits for that."))
        return self._deadline.run(f"the signature of token {token}", sign, slow=touch)

    def close(self) -> None:
        """Log out and close the session; a module that hangs in it is left behind."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(DeadlineError):
                Deadline(CLOSE_SECONDS).run("the token to close", opened.session.close)


def _choose(opened: OpenKey, hash_name: HashName) -> tuple[Mechanism, str]:
    key, token = opened.key, opened.session.token
    usable = [(m, m.name.format(hash=hash_name.upper())) for m in MECHANISMS.get(key.key_type, ())]
    if not usable:
        raise UnsupportedKeyError(
            f"the key {key} is of type {key.key_type}, with which rolekey cannot sign in a token",
            hint="use an RSA, EC (P-256, P-384, P-521) or ML-DSA key",
        )
    listed = token.mechanisms()
    for mechanism, name in usable:
        if not listed or name in listed:
            return mechanism, name
    names = [f"CKM_{name}" for _, name in usable]
    lacking = f"lists neither {' nor '.join(names)}" if len(names) > 1 else f"does not list {names[0]}"
    raise UnsupportedKeyError(
        f"token {token} {lacking}",
        hint="the token cannot sign with such a key as IAM Roles Anywhere needs it; use another key type",
    )
