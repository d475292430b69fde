"""What read-certificate-data prints, as the official helper (1.8.0) writes it."""

import base64
import hashlib
import json
import string
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.certificates import Certificate
from rolekey.der import tagged
from rolekey.errors import printable

_HASHES = ("SHA256", "SHA384", "SHA512")
_MLDSA = {
    mldsa.MLDSA44PublicKey: "ML-DSA-44",
    mldsa.MLDSA65PublicKey: "ML-DSA-65",
    mldsa.MLDSA87PublicKey: "ML-DSA-87",
}
# The attributes that Go's crypto/x509/pkix knows, in the order in which it writes them.
_KNOWN = {
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.3": "CN",
    "2.5.4.11": "OU",
    "2.5.4.10": "O",
    "2.5.4.17": "POSTALCODE",
    "2.5.4.9": "STREET",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.6": "C",
}
_PRINTABLE = frozenset(string.ascii_letters + string.digits + " '()+,-./:=?")
# Of several only the last counts.
_SINGLE = ("2.5.4.5", "2.5.4.3")


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


def certificate_list(found: Iterable[tuple[Certificate, str]]) -> str:
    """Certificates in tokens, numbered, with an empty line after each.

    Args:
        found: each certificate and a URI that selects it.
    """
    entries = [
        f"{number}) Hex Fingerprint: {_fingerprint(certificate)}\n"
        f"Subject: {go_name(certificate.subject)}\n"
        f"Issuer: {go_name(certificate.issuer)}\n"
        f"Serial Number: {certificate.serial_number:X}\n"
        f"URI: {uri}\n\n"
        for number, (certificate, uri) in enumerate(found, 1)
    ]
    return "".join(["Matching identities\n", *entries]) if entries else "No matching identities\n"


def _fingerprint(certificate: Certificate) -> str:
    return hashlib.sha1(certificate.public_bytes(Encoding.DER), usedforsecurity=False).hexdigest()


def go_name(name: x509.Name) -> str:
    """A name as Go's crypto/x509/pkix writes it, on one line of printable characters.

    Args:
        name: a subject or issuer.

    Returns:
        Known attributes first, in Go's own order and those of one type joined with ``+``; then all others from the last
        to the first, as their DER.
    """
    known: dict[str, list[str]] = {oid: [] for oid in _KNOWN}
    others: list[str] = []
    for attribute in name:
        oid, value = attribute.oid.dotted_string, str(attribute.value)
        if oid not in known:
            others.insert(0, f"{oid}=#{_string_der(value).hex()}")
        elif oid in _SINGLE:
            known[oid] = [value]
        else:
            known[oid].append(value)
    written = ["+".join(f"{_KNOWN[oid]}={_escaped(value)}" for value in values) for oid, values in known.items()]
    return printable(",".join([*filter(None, written), *others]))


def _string_der(value: str) -> bytes:
    # Go forgets which type of string it has read.
    return tagged(b"\x13" if _PRINTABLE.issuperset(value) else b"\x0c", value.encode())


def _escaped(value: str) -> str:
    def is_special(place: int, character: str) -> bool:
        at_an_end = character == " " and place in (0, len(value) - 1)
        return character in ',+"\\<>;' or at_an_end or (character == "#" and place == 0)

    return "".join(f"\\{c}" if is_special(place, c) else c for place, c in enumerate(value))
