"""A Signer whose key CNG has: hashing, and ECDSA's r and s as DER."""

import hashlib
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, TokenOperationError, UnsupportedKeyError
from rolekey.signers.base import HashName, PublicKey

# A window with a question is likely after so many seconds.
SLOW_SECONDS = 1.0
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


class Key(Protocol):
    """What a StoreKey is, as far as it signs."""

    text: str

    def sign(self, digest: bytes, algorithm: str | None) -> bytes:
        """As StoreKey.sign()."""

    def close(self) -> None:
        """As StoreKey.close()."""


class StoreSigner:
    """Signs with a key that is open.

    Args:
        key: it.
        public_key: its certificate's.
        deadline: for each signature.
        quiet: nobody may be asked.

    Raises:
        UnsupportedKeyError: CNG knows no signature of this kind.
    """

    def __init__(self, key: Key, public_key: PublicKey, deadline: Deadline, *, quiet: bool) -> None:
        check_kind(public_key, key.text)
        self._key = key
        self._public_key = public_key
        self._deadline = deadline
        self._slow = None if quiet else (SLOW_SECONDS, deadline.expect_person)
        self._is_busy = False

    @property
    def public_key(self) -> PublicKey:
        """The certificate's."""
        return self._public_key

    def sign(self, message: bytes, *, hash: HashName = "sha256") -> bytes:  # noqa: A002 - the word of the field
        """Sign a message, as Signer.sign() says: one NCryptSignHash."""
        digest = hashlib.new(hash, message).digest()
        curve = self._public_key.curve if isinstance(self._public_key, ec.EllipticCurvePublicKey) else None
        size = 0 if curve is None else (curve.key_size + 7) // 8
        # The leftmost bits count, which no provider is left to cut out.
        data, algorithm = (digest, hash.upper()) if curve is None else (digest[:size], None)
        try:
            signature = self._deadline.run(
                f"the signature of {self._key.text}", lambda: self._key.sign(data, algorithm), slow=self._slow
            )
        except DeadlineError:
            self._is_busy = True
            raise
        return signature if curve is None else _der_of(signature, size, self._key.text)

    def close(self) -> None:
        """Give up the key, but for one that still waits for somebody: it ends with the process."""
        if not self._is_busy:
            self._key.close()


def check_kind(public_key: PublicKey, text: str) -> None:
    """Refuse a key that CNG has no signature of.

    Args:
        public_key: its public half.
        text: what it is called.

    Raises:
        UnsupportedKeyError: it is neither RSA nor on one of the three curves.
    """
    if isinstance(public_key, rsa.RSAPublicKey):
        return
    if not (isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, _CURVES)):
        raise UnsupportedKeyError(
            f"{text} is neither an RSA key nor one on P-256, P-384 or P-521", hint="use a certificate of such a key"
        )


def _der_of(signature: bytes, size: int, text: str) -> bytes:
    if len(signature) != 2 * size:
        raise TokenOperationError(
            f"sign with {text}: the provider gave a signature of {len(signature)} bytes in place of {2 * size}",
            hint="try again, or ask the provider's maker",
        )
    return utils.encode_dss_signature(int.from_bytes(signature[:size]), int.from_bytes(signature[size:]))
