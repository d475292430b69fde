"""One class of tests that every Signer passes."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from rolekey.certificates import spki
from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.signers.base import Signer
from rolekey.signers.file import FileSigner
from support.pki import make_key

HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
TOKEN_KEYS = ("rsa-2048", "rsa-4096", "p-256", "p-384", "p-521", "always-auth")
FILE_KEYS = ("rsa2048", "rsa4096", "p256", "p384", "p521", "mldsa44", "mldsa65", "mldsa87")
ARNS = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}


def verify(public_key: object, signature: bytes, message: bytes, name: str) -> None:
    """By cryptography alone, without the code under test."""
    if isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, message, padding.PKCS1v15(), HASHES[name])
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        public_key.verify(signature, message, ec.ECDSA(HASHES[name]))
    else:
        public_key.verify(signature, message)  # type: ignore[attr-defined]


class SignerContract:
    """What every Signer promises. A backend's class gives the fixtures `signer` and `public_key`."""

    @pytest.mark.parametrize("name", sorted(HASHES))
    def test_signature_verifies(self, signer: Signer, public_key: object, name: str) -> None:
        """A signature over a message verifies with that hash (ML-DSA has none), and not over another message."""
        signature = signer.sign(b"message", hash=name)
        assert isinstance(signature, bytes)
        verify(public_key, signature, b"message", name)
        with pytest.raises(InvalidSignature):
            verify(public_key, signature, b"another", name)

    def test_sha256_is_the_default(self, signer: Signer, public_key: object) -> None:
        """Without a hash it is SHA-256, whatever the key's size."""
        verify(public_key, signer.sign(b"message"), b"message", "sha256")

    @pytest.mark.parametrize("size", [0, 1, 64, 100_000])
    def test_messages_of_any_size(self, signer: Signer, public_key: object, size: int) -> None:
        """The message is hashed by the signer: empty and large ones sign as well."""
        message = hashlib.shake_256(b"seed").digest(size)
        verify(public_key, signer.sign(message), message, "sha256")

    def test_it_signs_again(self, signer: Signer, public_key: object) -> None:
        """One signer makes many signatures."""
        for number in range(5):
            message = f"message {number}".encode()
            verify(public_key, signer.sign(message), message, "sha256")

    def test_public_key_is_the_keys_own_or_none(self, signer: Signer, public_key: object) -> None:
        """public_key is the public half, or None where the backend does not know it."""
        assert signer.public_key is None or spki(signer.public_key) == spki(public_key)

    def test_closing_twice(self, signer: Signer) -> None:
        """close() may be called again."""
        signer.close()
        signer.close()


@pytest.mark.parametrize("key_name", FILE_KEYS)
class TestFileSigner(SignerContract):
    """A key in a file."""

    @pytest.fixture
    def key(self, key_name):
        return make_key(key_name)

    @pytest.fixture
    def signer(self, key):
        return FileSigner(key)

    @pytest.fixture
    def public_key(self, key):
        return key.public_key()


@pytest.mark.parametrize("label", TOKEN_KEYS)
class TestPKCS11Signer(SignerContract):
    """A key in a SoftHSM token."""

    @pytest.fixture
    def open_signer(self, provisioned_token) -> Callable[[str], Signer]:
        def open_(label: str) -> Signer:
            options = Options(
                **ARNS,
                private_key=provisioned_token.uri(label),
                certificate=str(provisioned_token.certificate(label)),
                pkcs11_lib=str(provisioned_token.module),
            )
            identity = open_identity(resolve_settings(options, {}), NoInteraction(), Deadline(30))
            return identity.signer

        return open_

    @pytest.fixture
    def signer(self, open_signer, label):
        signer = open_signer(label)
        yield signer
        signer.close()

    @pytest.fixture
    def public_key(self, provisioned_token, label):
        return x509.load_pem_x509_certificate(Path(provisioned_token.certificate(label)).read_bytes()).public_key()
