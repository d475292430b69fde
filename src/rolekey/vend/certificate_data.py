"""What read-certificate-data prints, as the official helper (1.8.0) writes it."""

import base64
import hashlib
import json
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.certificates import Certificate
from rolekey.errors import printable
from rolekey.go_name import go_name

_HASHES = ("SHA256", "SHA384", "SHA512")
_MLDSA = {
    mldsa.MLDSA44PublicKey: "ML-DSA-44",
    mldsa.MLDSA65PublicKey: "ML-DSA-65",
    mldsa.MLDSA87PublicKey: "ML-DSA-87",
}


def certificate_json(certificate: Certificate) -> str:
    """One certificate as JSON, without a line end.

    Args:
        certificate: any; a type of key that IAM Roles Anywhere does not take has an empty name.
    """
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        key_type = "RSA" if isinstance(key, rsa.RSAPublicKey) else "EC"
        algorithms = [key_type + name for name in _HASHES]
    else:
        key_type = next((name for kind, name in _MLDSA.items() if isinstance(key, kind)), "")
        algorithms = [key_type] if key_type else list(_HASHES)
    document = {
        "keyType": key_type,
        "certificateData": base64.b64encode(certificate.public_bytes(Encoding.DER)).decode("ascii"),
        "serialNumber": str(certificate.serial_number),
        "supportedAlgorithms": algorithms,
    }
    return json.dumps(document, separators=(",", ":"))


def certificate_list(found: Iterable[tuple[Certificate, str | None]]) -> str:
    """Certificates in tokens or a certificate store, numbered, with an empty line after each.

    Args:
        found: each certificate and a URI that selects it; None of one in a certificate store.
    """
    entries = [
        f"{number}) Hex Fingerprint: {_fingerprint(certificate)}\n"
        f"Subject: {printable(go_name(certificate.subject))}\n"
        f"Issuer: {printable(go_name(certificate.issuer))}\n"
        f"Serial Number: {certificate.serial_number:X}\n" + ("\n" if uri is None else f"URI: {uri}\n\n")
        for number, (certificate, uri) in enumerate(found, 1)
    ]
    return "".join(["Matching identities\n", *entries]) if entries else "No matching identities\n"


def _fingerprint(certificate: Certificate) -> str:
    return hashlib.sha1(certificate.public_bytes(Encoding.DER), usedforsecurity=False).hexdigest()
