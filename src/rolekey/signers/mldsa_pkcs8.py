"""ML-DSA private keys in RFC 9881's "both" form {seed, expanded key}, plain or under PBES2 (RFC 8018).

OpenSSL writes this form and the official helper reads no other; ``cryptography`` loads only the seed form. The seed is
taken out and the expanded key, which follows from it, is not used.
"""

import base64
from typing import TypeVar

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.x509 import ObjectIdentifier

T = TypeVar("T")
MLDSAKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
_KEYS: dict[str, type[MLDSAKey]] = {
    "2.16.840.1.101.3.4.3.17": mldsa.MLDSA44PrivateKey,
    "2.16.840.1.101.3.4.3.18": mldsa.MLDSA65PrivateKey,
    "2.16.840.1.101.3.4.3.19": mldsa.MLDSA87PrivateKey,
}
_PBES2 = "1.2.840.113549.1.5.13"
_PBKDF2 = "1.2.840.113549.1.5.12"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
_AES_CBC_KEY_SIZES = {"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}
_HMAC_SHA1 = "1.2.840.113549.2.7"
_HMACS: dict[str, type[hashes.HashAlgorithm]] = {
    _HMAC_SHA1: hashes.SHA1,
    "1.2.840.113549.2.9": hashes.SHA256,
    "1.2.840.113549.2.10": hashes.SHA384,
    "1.2.840.113549.2.11": hashes.SHA512,
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
class _OneAsymmetricKey:
    version: int
    algorithm: _AlgorithmOrNull
    private_key: bytes


@asn1.sequence
class _SeedAndExpanded:
    seed: bytes
    expanded: bytes


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


def load_seed_and_expanded_key(pem: bytes, passphrase: bytes | None = None) -> MLDSAKey | None:
    """Read an ML-DSA key in the "both" form.

    Args:
        pem: one PEM block, ``PRIVATE KEY`` or ``ENCRYPTED PRIVATE KEY``.
        passphrase: for the latter.

    Returns:
        The key, or None where the block is anything else or the passphrase does not fit.
    """
    try:
        der = base64.b64decode(b"".join(line for line in pem.split(b"\n") if b"-----" not in line))
        if passphrase is not None:
            der = _decrypt(asn1.decode_der(_EncryptedPrivateKeyInfo, der), passphrase)
        info = asn1.decode_der(_OneAsymmetricKey, der)
        key_type = _KEYS[info.algorithm.algorithm.dotted_string]
        return key_type.from_seed_bytes(asn1.decode_der(_SeedAndExpanded, info.private_key).seed)
    except (ValueError, KeyError):
        return None


def _decrypt(info: _EncryptedPrivateKeyInfo, passphrase: bytes) -> bytes:
    if info.algorithm.algorithm.dotted_string != _PBES2:
        raise ValueError("not PBES2")
    parameters = _parameters(_Pbes2Parameters, info.algorithm)
    key_size = _AES_CBC_KEY_SIZES[parameters.encryption.algorithm.dotted_string]
    key = _derive(parameters.key_derivation, passphrase, key_size)
    iv = _parameters(bytes, parameters.encryption)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(info.encrypted_data) + decryptor.finalize()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def _derive(algorithm: _Algorithm, passphrase: bytes, key_size: int) -> bytes:
    name = algorithm.algorithm.dotted_string
    if name == _PBKDF2:
        pbkdf2 = _parameters(_Pbkdf2Parameters, algorithm)
        prf = pbkdf2.prf.algorithm.dotted_string if pbkdf2.prf else _HMAC_SHA1
        return PBKDF2HMAC(_HMACS[prf](), key_size, pbkdf2.salt, pbkdf2.iterations).derive(passphrase)
    if name == _SCRYPT:
        scrypt = _parameters(_ScryptParameters, algorithm)
        return Scrypt(scrypt.salt, key_size, scrypt.cost, scrypt.block_size, scrypt.parallelization).derive(passphrase)
    raise ValueError("not a key derivation of PBES2")


def _parameters(kind: type[T], algorithm: _Algorithm) -> T:
    value: T = algorithm.parameters.parse(kind)
    return value
