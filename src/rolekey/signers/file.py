"""A private key in a file: PKCS#8 (RFC 5958), PKCS#1 (RFC 8017), SEC1 (RFC 5915), ML-DSA (RFC 9881), PKCS#12.

The file is read anew for each signer, so that a renewed key is used at the next CreateSession.
"""

import base64
import re
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from rolekey.errors import AmbiguousMatchError, KeyNotFoundError, PinIncorrectError, UnsupportedKeyError
from rolekey.secret import Secret
from rolekey.signers.base import HASHES, HashName, PublicKey

FileKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_ENCRYPTED = b"ENCRYPTED PRIVATE KEY"
# By the tags of the first two members.
_DER_LABELS = {
    (0x30, 0x04): _ENCRYPTED,
    (0x02, 0x30): b"PRIVATE KEY",
    (0x02, 0x02): b"RSA PRIVATE KEY",
    (0x02, 0x04): b"EC PRIVATE KEY",
}
_KINDS = "RSA, EC (P-256, P-384, P-521) and ML-DSA keys in PKCS#8, PKCS#1 and SEC1, as PEM or DER, can be read"


class FileSigner:
    """Signs with a private key that a file holds. It can be copied, unlike one in a token.

    Args:
        private_key: a key of ``cryptography``.
    """

    def __init__(self, private_key: FileKey) -> None:
        self._private_key = private_key

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._private_key.public_key()

    def sign(self, message: bytes, *, hash: HashName = "sha256") -> bytes:  # noqa: A002 - the word of the field
        """Sign a message, as Signer.sign() says."""
        algorithm = HASHES[hash]()
        if isinstance(self._private_key, rsa.RSAPrivateKey):
            return self._private_key.sign(message, padding.PKCS1v15(), algorithm)
        if isinstance(self._private_key, ec.EllipticCurvePrivateKey):
            return self._private_key.sign(message, ec.ECDSA(algorithm))
        return self._private_key.sign(message)

    def close(self) -> None:
        """Nothing is held open."""


def open_file_signer(
    path: Path, data: bytes, passphrase: Callable[[str], Secret], *, passphrase_given: bool = False
) -> FileSigner:
    """Read the one private key of a file.

    Args:
        path: its name, for messages.
        data: its content: PEM (text and certificates around the key are ignored), DER or PKCS#12.
        passphrase: gives the passphrase of what it is told is in the file; called only for what is encrypted.
        passphrase_given: the user named a passphrase, which an unencrypted key has no use for.

    Raises:
        KeyNotFoundError: the file holds no private key.
        AmbiguousMatchError: it holds more than one.
        UnsupportedKeyError: a format or type of key that cannot be used.
        PinIncorrectError: the passphrase does not decrypt it.
    """
    blocks = [(match[1], match[0] + b"\n") for match in _PEM_BLOCK.finditer(data)] or _der_blocks(data)
    if len(blocks) > 1:
        raise AmbiguousMatchError(
            f"{path} holds {len(blocks)} private keys",
            hint="put the key to use into a file of its own; none is chosen",
            candidates=(),
        )
    if not blocks:
        return FileSigner(_pkcs12_key(path, data, passphrase, passphrase_given=passphrase_given))
    label, pem = blocks[0]
    if label == b"TSS2 PRIVATE KEY":
        raise UnsupportedKeyError(
            f"{path} is a key for a TPM, and holds no key that could be used without one",
            hint="open it with rolekey.identity.open_identity()",
        )
    if label == _ENCRYPTED or b"ENCRYPTED" in pem.split(b"\n\n")[0]:
        return FileSigner(_encrypted_key(path, label, pem, passphrase("the private key")))
    if passphrase_given:
        raise _not_encrypted(path)
    return FileSigner(_plain_key(path, pem))


def _der_blocks(data: bytes) -> list[tuple[bytes, bytes]]:
    """A key in DER as the PEM block that it would be."""
    from rolekey.der import elements  # noqa: PLC0415 - rare, and its import is slow
    from rolekey.pkcs12_file import is_pkcs12  # noqa: PLC0415 - as above

    try:
        (outer,) = elements(data)
        first, second, *_ = elements(outer.content)
    except ValueError:
        return []
    label = _DER_LABELS.get((first.tag, second.tag))
    if label is None or is_pkcs12(data):
        return []
    return [(label, b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, base64.encodebytes(data), label))]


def _not_encrypted(path: Path) -> UnsupportedKeyError:
    return UnsupportedKeyError(
        f"a passphrase was given, but the private key in {path} is not encrypted",
        hint="leave out --pkcs8-password",
    )


def _plain_key(path: Path, pem: bytes) -> FileKey:
    try:
        return _usable(path, load_pem_private_key(pem, None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if key := _seed_and_expanded_key(_body(pem)):
            return key
        raise UnsupportedKeyError(f"the private key in {path} cannot be read", hint=_KINDS) from error


def _body(pem: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(line for line in pem.split(b"\n") if b"-----" not in line))
    except ValueError:
        return b""


def _seed_and_expanded_key(der: bytes) -> FileKey | None:
    from rolekey.signers.mldsa_pkcs8 import load_seed_and_expanded_key  # noqa: PLC0415 - rare, and its import is slow

    return load_seed_and_expanded_key(der)


def _encrypted_key(path: Path, label: bytes, pem: bytes, passphrase: Secret) -> FileKey:
    secret = passphrase.reveal().encode()
    try:
        return _usable(path, load_pem_private_key(pem, secret))
    except UnsupportedAlgorithm as error:
        raise _unsupported_encryption(path) from error
    except (ValueError, TypeError):
        pass
    try:
        key = _unwrapped_key(_body(pem), secret) if label == _ENCRYPTED else None
    except UnsupportedAlgorithm as error:
        raise _unsupported_encryption(path) from error
    if key is None:
        # No cause is chained: its text is the library's, and the passphrase was its argument.
        raise PinIncorrectError(
            f"the passphrase does not decrypt the private key in {path}",
            hint="check the passphrase; it is not tried again",
        )
    return _usable(path, key)


def _unwrapped_key(encrypted: bytes, passphrase: bytes) -> object | None:
    """A key that the library's loader does not decrypt, or does not read."""
    from rolekey.signers.pbes2 import decrypt  # noqa: PLC0415 - as above

    try:
        der = decrypt(encrypted, passphrase)
        return _seed_and_expanded_key(der) or load_der_private_key(der, None)
    except (ValueError, TypeError):
        return None


def _unsupported_encryption(path: Path) -> UnsupportedKeyError:
    return UnsupportedKeyError(
        f"the encryption of the private key in {path} is not supported",
        hint="encrypt it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc",
    )


def _pkcs12_key(path: Path, data: bytes, passphrase: Callable[[str], Secret], *, passphrase_given: bool) -> FileKey:
    from rolekey.pkcs12_file import open_pkcs12  # noqa: PLC0415 - as above

    try:
        opened = open_pkcs12(path, data, lambda: passphrase("the PKCS#12 file"))
        key, has_password = opened.bundle.key, opened.has_password
    except (ValueError, UnsupportedAlgorithm):
        key, has_password = None, False
    if key is None:
        raise KeyNotFoundError(
            f"{path} holds no private key that can be read",
            hint="give a PEM, DER or PKCS#12 file with a private key as --private-key",
        )
    if passphrase_given and not has_password:
        raise _not_encrypted(path)
    return _usable(path, key)


def _usable(path: Path, key: object) -> FileKey:
    if isinstance(key, FileKey):
        return key
    raise UnsupportedKeyError(
        f"the private key in {path} is of a type that IAM Roles Anywhere does not take: {type(key).__name__}",
        hint=_KINDS,
    )
