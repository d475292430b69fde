"""ML-DSA private keys in RFC 9881's "both" form {seed, expanded key}.

OpenSSL writes this form and the official helper reads no other; ``cryptography`` loads only the seed form. The seed is
taken out and the expanded key, which follows from it, is not used.
"""

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.x509 import ObjectIdentifier

MLDSAKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
_KEYS: dict[str, type[MLDSAKey]] = {
    "2.16.840.1.101.3.4.3.17": mldsa.MLDSA44PrivateKey,
    "2.16.840.1.101.3.4.3.18": mldsa.MLDSA65PrivateKey,
    "2.16.840.1.101.3.4.3.19": mldsa.MLDSA87PrivateKey,
}


@asn1.sequence
class _Algorithm:
    algorithm: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _OneAsymmetricKey:
    version: int
    algorithm: _Algorithm
    private_key: bytes


@asn1.sequence
class _SeedAndExpanded:
    seed: bytes
    expanded: bytes


def load_seed_and_expanded_key(der: bytes) -> MLDSAKey | None:
    """Read an ML-DSA key in the "both" form.

    Args:
        der: a PrivateKeyInfo.

    Returns:
        The key, or None where it is anything else.
    """
    try:
        info = asn1.decode_der(_OneAsymmetricKey, der)
        key_type = _KEYS[info.algorithm.algorithm.dotted_string]
        return key_type.from_seed_bytes(asn1.decode_der(_SeedAndExpanded, info.private_key).seed)
    except (ValueError, KeyError):
        return None
