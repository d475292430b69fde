"""TSS2 key files put together by hand, byte by byte, so that they share nothing with the code that reads them.

The fields are those of draft-bottomley-tpm2-keys; any other can be put in their place.
"""

import base64
from collections.abc import Iterable, Mapping

from support.der import explicit, integer, octets, tlv

LOADABLE = bytes.fromhex("06066781050a0103")
IMPORTABLE = bytes.fromhex("06066781050a0104")
SEALED = bytes.fromhex("06066781050a0105")
TRUE = b"\x01\x01\xff"
OLD_TRUE = b"\x01\x01\x01"
FALSE = b"\x01\x01\x00"
EMPTY_AUTH, POLICY, SECRET, AUTH_POLICY, DESCRIPTION, RSA_PARENT = range(6)


def policy(commands: Iterable[tuple[int, bytes]]) -> bytes:
    """A SEQUENCE OF TPMPolicy."""
    each = (tlv(0x30, explicit(0, integer(code)), explicit(1, octets(body))) for code, body in commands)
    return tlv(0x30, *each)


def key_der(
    public: bytes,
    private: bytes,
    *,
    object_type: bytes = LOADABLE,
    fields: Mapping[int, bytes] | None = None,
    parent: int = 0x40000001,
) -> bytes:
    """A TPMKey.

    Args:
        public: TPM2B_PUBLIC with its size.
        private: TPM2B_PRIVATE with its size.
        object_type: the object identifier, in DER.
        fields: the optional ones, in DER, by their number; emptyAuth TRUE unless it is named.
        parent: of 32 bits; a negative number is written as one.
    """
    optional = {EMPTY_AUTH: TRUE} if fields is None else fields
    tagged = b"".join(explicit(number, content) for number, content in optional.items())
    return tlv(0x30, object_type, tagged, integer(parent), octets(public), octets(private))


def key_pem(der: bytes, *, line_end: str = "\n") -> bytes:
    """The PEM block of a key."""
    base64_lines = base64.encodebytes(der).decode().splitlines()
    lines = ["-----BEGIN TSS2 PRIVATE KEY-----", *base64_lines, "-----END TSS2 PRIVATE KEY-----", ""]
    return line_end.join(lines).encode()
