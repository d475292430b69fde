"""Certificates with a NULL beside ecdsa-with-SHA2, as tpm2-openssl 1.1 and Java 11 write them.

RFC 5758 3.2 wants no parameters there, and cryptography reads no such certificate. A copy without the NULL is read in
its place. The certificate itself stays as it is: it is what its issuer signed and what is sent.
"""

from datetime import datetime
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

# ecdsa-with-SHA224 to ecdsa-with-SHA512.
_ECDSA_WITH_SHA2 = "1.2.840.10045.4.3."


@asn1.sequence
class _Algorithm:
    algorithm: x509.ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _TBSCertificate:
    version: Annotated[int | None, asn1.Explicit(0)]
    serial_number: asn1.TLV
    signature: _Algorithm
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    public_key: asn1.TLV
    issuer_id: Annotated[asn1.BitString | None, asn1.Implicit(1)]
    subject_id: Annotated[asn1.BitString | None, asn1.Implicit(2)]
    extensions: Annotated[list[asn1.TLV] | None, asn1.Explicit(3)]


@asn1.sequence
class _Certificate:
    tbs_certificate: _TBSCertificate
    algorithm: _Algorithm
    signature: asn1.BitString


class NullParametersCertificate:
    """One such certificate, with what is used of x509.Certificate.

    Args:
        der: the certificate as it is.

    Raises:
        ValueError: it is none, or has another defect.
    """

    def __init__(self, der: bytes) -> None:
        parts = asn1.decode_der(_Certificate, der)
        self._der = der
        self._signed = asn1.encode_der(parts.tbs_certificate)
        for algorithm in (parts.tbs_certificate.signature, parts.algorithm):
            if not algorithm.algorithm.dotted_string.startswith(_ECDSA_WITH_SHA2):
                raise ValueError("not signed with ECDSA and SHA-2")
            algorithm.parameters = None
        self.mended = x509.load_der_x509_certificate(asn1.encode_der(parts))

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
