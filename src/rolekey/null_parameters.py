"""Certificates with a NULL beside ecdsa-with-SHA2, as tpm2-openssl 1.1 and Java 11 write them.

RFC 5758 3.2 wants no parameters there, and cryptography reads no such certificate. A copy without the NULL is read in
its place. The certificate itself stays as it is: it is what its issuer signed and what is sent.
"""

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.der import encoded, members, sequence

# ecdsa-with-SHA224 to ecdsa-with-SHA512 differ in the last byte.
_ECDSA_WITH_SHA2 = bytes.fromhex("06082a8648ce3d0403")
_NULL = b"\x05\x00"


class NullParametersCertificate:
    """One such certificate, with what is used of x509.Certificate.

    Args:
        der: the certificate as it is.

    Raises:
        ValueError: it is none, or has another defect.
    """

    def __init__(self, der: bytes) -> None:
        self._der = der
        signed, algorithm, signature = members(asn1.decode_der(asn1.TLV, der))
        self._signed = encoded(signed)
        mended = sequence(b"".join(map(_without_null, members(signed))))
        self.mended = x509.load_der_x509_certificate(sequence(mended + _without_null(algorithm) + encoded(signature)))

    @property
    def subject(self) -> x509.Name:
        """As x509.Certificate.subject."""
        return self.mended.subject

    @property
    def issuer(self) -> x509.Name:
        """As x509.Certificate.issuer."""
        return self.mended.issuer

    @property
    def serial_number(self) -> int:
        """As x509.Certificate.serial_number."""
        return self.mended.serial_number

    @property
    def not_valid_before_utc(self) -> datetime:
        """As x509.Certificate.not_valid_before_utc."""
        return self.mended.not_valid_before_utc

    @property
    def not_valid_after_utc(self) -> datetime:
        """As x509.Certificate.not_valid_after_utc."""
        return self.mended.not_valid_after_utc

    @property
    def extensions(self) -> x509.Extensions:
        """As x509.Certificate.extensions."""
        return self.mended.extensions

    def public_key(self) -> CertificatePublicKeyTypes:
        """As x509.Certificate.public_key()."""
        return self.mended.public_key()

    def public_bytes(self, encoding: Encoding) -> bytes:
        """The certificate as it is, NULL included; in DER only."""
        if encoding is not Encoding.DER:
            raise ValueError("written in DER only")
        return self._der

    def verify_directly_issued_by(self, issuer: x509.Certificate) -> None:
        """As x509.Certificate.verify_directly_issued_by(), over the bytes that the issuer signed."""
        key, algorithm = issuer.public_key(), self.mended.signature_hash_algorithm
        if self.issuer != issuer.subject or not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
            raise InvalidSignature("the issuer has another name or type of key")
        key.verify(self.mended.signature, self._signed, ec.ECDSA(algorithm))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NullParametersCertificate) and self._der == other._der

    def __hash__(self) -> int:
        return hash(self._der)


def _without_null(element: asn1.TLV) -> bytes:
    """The element, without the NULL where it is the AlgorithmIdentifier of ECDSA: nothing else begins with an OID."""
    content = bytes(element.data)
    if element.tag_bytes == b"\x30" and content[:9] == _ECDSA_WITH_SHA2 and content[10:] == _NULL:
        return sequence(content[:10])
    return encoded(element)
