"""Certificates with a defect that tpm2-openssl 1.1 and Java 11 give them."""

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from support.der import tlv


def with_null_parameters(certificate: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate as tpm2-openssl 1.1 writes it: a NULL beside ecdsa-with-SHA256, which RFC 5758 forbids.

    Args:
        certificate: signed with ECDSA and SHA-256.
        issuer_key: signs it anew.

    Returns:
        The certificate in DER.
    """
    object_identifier = bytes.fromhex("06082a8648ce3d040302")
    wrong = tlv(0x30, object_identifier, tlv(0x05))
    content = bytes(asn1.decode_der(asn1.TLV, certificate.tbs_certificate_bytes).data)
    signed = tlv(0x30, content.replace(tlv(0x30, object_identifier), wrong, 1))
    signature = issuer_key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return tlv(0x30, signed, wrong, tlv(0x03, b"\0", signature))
