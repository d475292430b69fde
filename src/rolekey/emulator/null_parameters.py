"""A NULL beside ecdsa-with-SHA2 in a certificate: RFC 5758 3.2 forbids it, tpm2-openssl 1.1 and Java 11 write it.

Whether the service takes such a certificate is not known; most programs do, and so does the emulator. cryptography does
not, and is given a copy without the NULL. The issuer's signature is verified over what the issuer signed.
"""

from collections.abc import Iterable

from cryptography.hazmat import asn1

_OBJECT = bytes.fromhex("06082a8648ce3d0403")  # and one byte for the hash
_NULL = bytes.fromhex("0500")
_SEQUENCE = bytes([0x30])


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
    body = _encode(_SEQUENCE, b"".join(_mended(inside.to_be_signed)))
    copy = _encode(_SEQUENCE, body + b"".join(_mended((inside.algorithm, inside.signature))))
    signed = _encode(outside.to_be_signed.tag_bytes, bytes(outside.to_be_signed.data))
    return None if copy == der else (copy, signed)


def _mended(parts: Iterable[asn1.TLV]) -> Iterable[bytes]:
    for part in parts:
        data = bytes(part.data)
        wrong = data.startswith(_OBJECT) and data[10:] == _NULL
        yield _encode(part.tag_bytes, data[:10] if wrong else data)


def _encode(tag: bytes, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return tag + bytes([length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return tag + bytes([128 + len(size)]) + size + content
