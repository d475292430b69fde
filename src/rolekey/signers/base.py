"""What every backend of a private key gives: one signature, and the public key where it is known."""

from typing import Literal, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

HashName = Literal["sha256", "sha384", "sha512"]
PublicKey = PublicKeyTypes
HASHES: dict[HashName, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


class Signer(Protocol):
    """A private key that signs. Hashing, DigestInfo, DER encoding and login happen inside."""

    @property
    def public_key(self) -> PublicKey | None:
        """The public half; None where the token gives none (an EC private key alone has no point)."""

    def sign(self, message: bytes, *, hash: HashName = "sha256") -> bytes:  # noqa: A002 - the word of the field
        """Sign a message with exactly one private-key operation.

        Args:
            message: the message itself, not its digest.
            hash: the hash of RSA and ECDSA signatures; ML-DSA has none.

        Returns:
            RSASSA-PKCS1-v1_5, ECDSA-Sig-Value in DER, or a pure ML-DSA signature with an empty context.

        Raises:
            SignerError: the key could not be used.
        """

    def close(self) -> None:
        """Give up the key: log out, close, forget. Safe to call again."""
