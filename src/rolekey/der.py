"""Elements of DER, and of BER (X.690), whose types are not known beforehand, taken apart and put together.

``cryptography`` reads a SEQUENCE OF anything only as a member of something, and writes none before its version 50.
"""

from cryptography.hazmat import asn1

from rolekey.value import Value

_SEQUENCE = b"\x30"
_CONSTRUCTED = 0x20
_MAX_DEPTH = 32


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


class Element(Value):
    """One element of BER.

    Args:
        tag: its identifier, of one octet.
        content: without the octets that end an indefinite length.
        whole: all of its octets.
    """

    tag: int
    content: bytes
    whole: bytes

    @property
    def octets(self) -> bytes:
        """The value of an OCTET STRING that may be in pieces.

        Raises:
            ValueError: the pieces are damaged.
        """
        return b"".join(e.octets for e in elements(self.content)) if self.tag & _CONSTRUCTED else self.content


def elements(data: bytes) -> list[Element]:
    """The elements that stand one after the other.

    Args:
        data: BER, so lengths may be indefinite.

    Raises:
        ValueError: it is damaged, too deep, or has a tag of more than one octet.
    """
    found: list[Element] = []
    at = 0
    while at < len(data):
        element = _element(data, at, _MAX_DEPTH)
        found.append(element)
        at += len(element.whole)
    return found


def _element(data: bytes, at: int, depth: int) -> Element:
    tag, first = data[at : at + 2].ljust(2, b"\xff")
    start = at + 2
    if depth == 0 or tag & 0x1F == 0x1F:
        raise ValueError("too deep, or a tag of more than one octet")
    if first == 0x80:
        end = start
        while data[end : end + 2] != b"\0\0":
            end += len(_element(data, end, depth - 1).whole)
        return Element(tag, data[start:end], data[at : end + 2])
    if first > 0x80:
        size = first & 0x7F
        first, start = int.from_bytes(data[start : start + size]), start + size
    if start + first > len(data):
        raise ValueError("it ends too early")
    return Element(tag, data[start : start + first], data[at : start + first])
