"""DER put together by hand (X.690), for what a test should not have from the library that reads it."""


def tlv(tag: int, *content: bytes) -> bytes:
    """An element of DER with a tag of one byte."""
    body = b"".join(content)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def explicit(number: int, content: bytes) -> bytes:
    """An element under the explicit tag [number]."""
    return tlv(0xA0 | number, content)


def octets(content: bytes) -> bytes:
    """An OCTET STRING."""
    return tlv(0x04, content)


def utf8(text: str) -> bytes:
    """A UTF8String."""
    return tlv(0x0C, text.encode())


def integer(value: int) -> bytes:
    """An INTEGER, in as few bytes as its sign allows."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
