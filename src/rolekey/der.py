"""Elements of DER (X.690) whose types are not known beforehand, taken apart and put together.

``cryptography`` reads a SEQUENCE OF anything only as a member of something, and writes none before its version 50.
"""

from cryptography.hazmat import asn1

_SEQUENCE = b"\x30"


@asn1.sequence
class _Wrapper:
    members: list[asn1.TLV]


def members(element: asn1.TLV) -> list[asn1.TLV]:
    """The members of a SEQUENCE.

    Raises:
        ValueError: it is none, or is damaged.
    """
    return asn1.decode_der(_Wrapper, sequence(encoded(element))).members


def encoded(element: asn1.TLV) -> bytes:
    """An element as it was read."""
    return tagged(element.tag_bytes, bytes(element.data))


def sequence(content: bytes) -> bytes:
    """A SEQUENCE.

    Args:
        content: its members in DER, one after the other.
    """
    return tagged(_SEQUENCE, content)


def tagged(tag: bytes, content: bytes) -> bytes:
    """An element.

    Args:
        tag: its identifier.
        content: its content.
    """
    length = len(content)
    if length < 0x80:
        return tag + bytes([length]) + content
    size = (length.bit_length() + 7) // 8
    return tag + bytes([0x80 | size]) + length.to_bytes(size) + content
