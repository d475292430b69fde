"""PBES2 (RFC 8018) around a PKCS#8 key, with what OpenSSL writes and the loader of ``cryptography`` does not read.

Those are HMACs by SHA-512/224, SHA-512/256 and MD5, and any scheme around a key that is not for that loader.
"""

from collections.abc import Mapping
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.x509 import ObjectIdentifier

from rolekey.value import Value

T = TypeVar("T")
_PBES2 = "1.2.840.113549.1.5.13"
_PBKDF2 = "1.2.840.113549.1.5.12"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
# Older ones, which the loader reads: MD5 and DES, and of PKCS#12 SHA-1 with RC4-128, 3DES and RC2-40.
_LEFT_TO_THE_LOADER = (
    "1.2.840.113549.1.5.3",
    "1.2.840.113549.1.12.1.1",
    "1.2.840.113549.1.12.1.3",
    "1.2.840.113549.1.12.1.6",
)


class _CBC(Value):
    """A cipher in CBC mode; sizes in bytes."""

    algorithm: type[algorithms.AES | TripleDES]
    key_size: int
    block_size: int


_CIPHERS = {
    "2.16.840.1.101.3.4.1.2": _CBC(algorithms.AES, 16, 16),
    "2.16.840.1.101.3.4.1.22": _CBC(algorithms.AES, 24, 16),
    "2.16.840.1.101.3.4.1.42": _CBC(algorithms.AES, 32, 16),
    "1.2.840.113549.3.7": _CBC(TripleDES, 24, 8),
}
_HMAC_SHA1 = "1.2.840.113549.2.7"
_HMACS: dict[str, type[hashes.HashAlgorithm]] = {
    "1.2.840.113549.2.6": hashes.MD5,
    _HMAC_SHA1: hashes.SHA1,
    "1.2.840.113549.2.8": hashes.SHA224,
    "1.2.840.113549.2.9": hashes.SHA256,
    "1.2.840.113549.2.10": hashes.SHA384,
    "1.2.840.113549.2.11": hashes.SHA512,
    "1.2.840.113549.2.12": hashes.SHA512_224,
    "1.2.840.113549.2.13": hashes.SHA512_256,
}


@asn1.sequence
class _Algorithm:
    algorithm: ObjectIdentifier
    parameters: asn1.TLV


@asn1.sequence
class _AlgorithmOrNull:
    algorithm: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _EncryptedPrivateKeyInfo:
    algorithm: _Algorithm
    encrypted_data: bytes


@asn1.sequence
class _Pbes2Parameters:
    key_derivation: _Algorithm
    encryption: _Algorithm


@asn1.sequence
class _Pbkdf2Parameters:
    salt: bytes
    iterations: int
    key_length: int | None
    prf: _AlgorithmOrNull | None


@asn1.sequence
class _ScryptParameters:
    salt: bytes
    cost: int
    block_size: int
    parallelization: int
    key_length: int | None


def decrypt(der: bytes, passphrase: bytes) -> bytes:
    """Decrypt a key.

    Args:
        der: an EncryptedPrivateKeyInfo.
        passphrase: its octets.

    Returns:
        What was encrypted: a PrivateKeyInfo, as far as can be told without looking at it.

    Raises:
        ValueError: it is damaged, or the passphrase does not fit.
        UnsupportedAlgorithm: of a name that is not known here.
    """
    info = asn1.decode_der(_EncryptedPrivateKeyInfo, der)
    name = info.algorithm.algorithm.dotted_string
    if name in _LEFT_TO_THE_LOADER:
        raise ValueError("not for this passphrase")
    if name != _PBES2:
        raise UnsupportedAlgorithm(f"encryption {name}")
    parameters = _parameters(_Pbes2Parameters, info.algorithm)
    cipher = _known(_CIPHERS, parameters.encryption.algorithm)
    try:
        key = _derive(parameters.key_derivation, passphrase, cipher.key_size)
        iv = _parameters(bytes, parameters.encryption)
        decryptor = Cipher(cipher.algorithm(key), modes.CBC(iv)).decryptor()
        padded = decryptor.update(info.encrypted_data) + decryptor.finalize()
        unpadder = padding.PKCS7(cipher.block_size * 8).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except (OverflowError, MemoryError) as error:
        raise ValueError("numbers beyond measure") from error


def _derive(algorithm: _Algorithm, passphrase: bytes, key_size: int) -> bytes:
    name = algorithm.algorithm.dotted_string
    if name == _PBKDF2:
        pbkdf2 = _parameters(_Pbkdf2Parameters, algorithm)
        hmac = _known(_HMACS, pbkdf2.prf.algorithm if pbkdf2.prf else ObjectIdentifier(_HMAC_SHA1))
        return PBKDF2HMAC(hmac(), key_size, pbkdf2.salt, pbkdf2.iterations).derive(passphrase)
    if name == _SCRYPT:
        scrypt = _parameters(_ScryptParameters, algorithm)
        return Scrypt(scrypt.salt, key_size, scrypt.cost, scrypt.block_size, scrypt.parallelization).derive(passphrase)
    raise UnsupportedAlgorithm(f"key derivation {name}")


def _known(table: Mapping[str, T], name: ObjectIdentifier) -> T:
    if name.dotted_string not in table:
        raise UnsupportedAlgorithm(f"algorithm {name.dotted_string}")
    return table[name.dotted_string]


def _parameters(kind: type[T], algorithm: _Algorithm) -> T:
    value: T = algorithm.parameters.parse(kind)
    return value
