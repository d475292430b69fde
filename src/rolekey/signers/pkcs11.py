"""A private key in a PKCS#11 token (OASIS v2.40). It signs there and never leaves."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from rolekey.deadline import Deadline
from rolekey.errors import UnsupportedKeyError
from rolekey.secret import Secret
from rolekey.signers.base import HashName, PublicKey
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.tokens.token import TokenSession

# DER of DigestInfo up to the digest (RFC 8017, 9.2): CKM_RSA_PKCS pads what it is given and adds no DigestInfo.
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


def _message(message: bytes, _hash: HashName) -> bytes:
    return message


def _digest(message: bytes, hash_name: HashName) -> bytes:
    return hashlib.new(hash_name, message).digest()


def _digest_info(message: bytes, hash_name: HashName) -> bytes:
    return _DIGEST_INFO[hash_name] + _digest(message, hash_name)


def _as_is(signature: bytes) -> bytes:
    return signature


def _der(signature: bytes) -> bytes:
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One way to sign.

    Args:
        name: without ``CKM_``; ``{hash}`` stands for SHA256, SHA384, SHA512.
        prepare: from message and hash to what the token is given.
        finish: from what the token returns to the Signer's encoding.
    """

    name: str
    prepare: Callable[[bytes, HashName], bytes]
    finish: Callable[[bytes], bytes]


# By key type, the first that the token lists is taken; the first of all where it lists nothing.
MECHANISMS = {
    "RSA": (
        Mechanism("{hash}_RSA_PKCS", _message, _as_is),
        Mechanism("RSA_PKCS", _digest_info, _as_is),
    ),
    "EC": (
        Mechanism("ECDSA", _digest, _der),
        Mechanism("ECDSA_{hash}", _message, _der),
    ),
}


class PKCS11Signer:
    """Signs with a key in a token, through a session that it owns.

    Args:
        key: found in the session.
        public_key: its public half, or None where the token does not give it.
        session: open and logged in.
        pin: for the context login of an always-authenticate key.
        deadline: how long a signature, with its touch, may take.
    """

    def __init__(
        self,
        key: TokenPrivateKey,
        public_key: PublicKey | None,
        session: TokenSession,
        pin: Secret | None,
        deadline: Deadline,
    ) -> None:
        self.public_key = public_key
        self._key = key
        self._session = session
        self._pin = pin
        self._deadline = deadline

    def sign(self, message: bytes, *, hash: HashName = "sha256") -> bytes:  # noqa: A002 - the word of the field
        """Sign a message, as Signer.sign() says: one C_SignInit and one C_Sign."""
        mechanism, name = self._choose(hash)
        data = mechanism.prepare(message, hash)
        signature = self._deadline.run(
            f"the signature of token {self._session.token}",
            lambda: self._key.sign(data, name, self._pin),
        )
        return mechanism.finish(signature)

    def _choose(self, hash_name: HashName) -> tuple[Mechanism, str]:
        usable = [(m, m.name.format(hash=hash_name.upper())) for m in MECHANISMS.get(self._key.key_type, ())]
        if not usable:
            raise UnsupportedKeyError(
                f"the key {self._key} is of type {self._key.key_type}, with which rolekey cannot sign in a token",
                hint="use an RSA or EC key (P-256, P-384, P-521)",
            )
        listed = self._session.token.mechanisms()
        for mechanism, name in usable:
            if not listed or name in listed:
                return mechanism, name
        names = " nor ".join(f"CKM_{name}" for _, name in usable)
        raise UnsupportedKeyError(
            f"token {self._session.token} lists neither {names}",
            hint="the token cannot sign with such a key as IAM Roles Anywhere needs it; use another key type",
        )

    def close(self) -> None:
        """Log out and close the session."""
        self._session.close()
