"""A NULL beside ecdsa-with-SHA2 in a certificate: RFC 5758 3.2 forbids it, tpm2-openssl 1.1 and Java 11 write it.

Whether the service takes such a certificate is not known; most programs do, and so does the emulator. cryptography does
not, and is given a copy without the NULL. The issuer's signature is verified over what the issuer signed.
"""

from cryptography.hazmat import asn1

_OBJECT = bytes.fromhex("06082a8648ce3d0403")  # and one byte for the hash
_NULL = bytes.fromhex("0500")


@asn1.sequence
class _Outside:
    to_be_signed: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.TLV


@asn1.sequence
class _Inside:
    to_be_signed: list[asn1.TLV]
    algorithm: asn1.TLV
    signature: asn1.TLV


def mend(der: bytes) -> tuple[bytes, bytes] | None:
    """Take the NULLs out of a certificate's two AlgorithmIdentifiers.

    Args:
        der: one DER certificate.

    Returns:
        The certificate without them and the part that the issuer signed as it was, or None without such a NULL.
    """
    try:
        outside, inside = asn1.decode_der(_Outside, der), asn1.decode_der(_Inside, der)
    except ValueError:
        return None
    inside.to_be_signed = [_mended(part) for part in inside.to_be_signed]
    inside.algorithm = _mended(inside.algorithm)
    copy = asn1.encode_der(inside)
    return None if copy == der else (copy, asn1.encode_der(outside.to_be_signed))


def _mended(part: asn1.TLV) -> asn1.TLV:
    data = bytes(part.data)
    if data.startswith(_OBJECT) and data[10:] == _NULL:
        return asn1.decode_der(asn1.TLV, bytes([0x30, 10]) + data[:10])
    return part
