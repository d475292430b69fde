"""TPM keys in files: the ``TSS2 PRIVATE KEY`` of draft-bottomley-tpm2-keys.

Read without a TPM and without its library. The public and private parts stay as the TPM made them.
"""

import base64
import re
from dataclasses import field
from typing import Annotated, Literal, Self, TypeVar

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from rolekey.der import members, sequence, tagged
from rolekey.errors import AmbiguousMatchError, KeyNotFoundError, UnsupportedKeyError, printable
from rolekey.value import Value

T = TypeVar("T")
Kind = Literal["loadable", "importable"]
_KINDS: dict[str, Kind] = {"2.23.133.10.1.3": "loadable", "2.23.133.10.1.4": "importable"}
_SEALED = "2.23.133.10.1.5"
# The start of the object identifiers above in DER: they have six bytes.
_OID_START = b"\x06\x06\x67\x81\x05\x0a\x01"
_BEGIN = b"-----BEGIN TSS2 PRIVATE KEY-----"
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----(.*?)-----END \1-----", re.DOTALL)
# The hierarchies of owner, null, endorsement and platform: TPM2_CreatePrimary makes the parent under them.
OWNER = 0x40000001
HIERARCHIES = frozenset({OWNER, 0x40000007, 0x4000000B, 0x4000000C})
_PERSISTENT = range(0x81000000, 0x82000000)
_ANEW = "the file is damaged or no TPM key; make it anew with: openssl genpkey -provider tpm2 -provider default"


@asn1.sequence
class _TPMPolicy:
    command_code: Annotated[int, asn1.Explicit(0)]
    command_policy: Annotated[bytes, asn1.Explicit(1)]


class PolicyCommand(Value):
    """One command of a policy.

    Args:
        code: TPM_CC.
        body: the command's parameters, as the file has them; empty where there are none.
    """

    code: int
    body: bytes


class TSS2Key(Value, kw_only=True):
    """What a key file says.

    Args:
        kind: ``loadable`` is for TPM2_Load, ``importable`` for TPM2_Import before it.
        empty_auth: the key has no password; a file that does not say so has one.
        policy: the commands of the key's policy, in order.
        signed_policies: the file holds signed policies (authPolicy), for TPM2_PolicyAuthorize.
        secret: TPM2B_ENCRYPTED_SECRET with its size; empty for a loadable key.
        description: for messages, printable.
        rsa_parent: the primary key under a hierarchy is RSA-2048 in place of P-256.
        parent: the persistent parent or the hierarchy, unsigned.
        public: TPM2B_PUBLIC with its size.
        private: TPM2B_PRIVATE with its size; of an importable key the duplicate.
    """

    kind: Kind
    empty_auth: bool
    policy: tuple[PolicyCommand, ...]
    signed_policies: bool
    secret: bytes
    description: str
    rsa_parent: bool
    parent: int
    public: bytes
    private: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes, name: str) -> Self:
        """Read the one key of a file.

        Fields of later versions (context tags from 6) are passed over.

        Args:
            data: PEM with anything around the block, or DER.
            name: the file, for an error's text.

        Raises:
            KeyNotFoundError: it holds no TPM key.
            AmbiguousMatchError: it holds more than one private key.
            UnsupportedKeyError: the key is damaged, or of a type or under a parent that cannot be used.
        """
        der = _der(data, name)
        try:
            elements = members(asn1.decode_der(asn1.TLV, der))
            fields = _context_fields(elements)
            object_type, parent, public, private = (e for e in elements if not _is_context(e))
            kind = _kind(_as(ObjectIdentifier, object_type).dotted_string, name)
            return cls(
                kind=kind,
                empty_auth=_boolean(fields.get(0)),
                policy=_policy(fields.get(1)),
                signed_policies=3 in fields,
                secret=_secret(fields.get(2), kind, name),
                description=_description(fields.get(4)),
                rsa_parent=_boolean(fields.get(5)),
                parent=_parent(_as(int, parent), name),
                public=_sized(_as(bytes, public)),
                private=_sized(_as(bytes, private)),
            )
        except ValueError as error:
            raise UnsupportedKeyError(f"the TPM key in {name} cannot be read", hint=_ANEW) from error


def loadable_pem(public: bytes, private: bytes, *, empty_auth: bool) -> bytes:
    """The file of a key whose parent is the P-256 primary key under the owner's hierarchy.

    Args:
        public: TPM2B_PUBLIC with its size.
        private: TPM2B_PRIVATE with its size: encrypted for the one TPM.
        empty_auth: it has no password.
    """
    flag = tagged(b"\xa0", tagged(b"\x01", b"\xff" if empty_auth else b"\0"))
    parts = (_OID_START + b"\x03", flag, tagged(b"\x02", OWNER.to_bytes(4)))
    der = sequence(b"".join((*parts, tagged(b"\x04", public), tagged(b"\x04", private))))
    return _BEGIN + b"\n" + base64.encodebytes(der) + _BEGIN.replace(b"BEGIN", b"END") + b"\n"


def is_tss2(data: bytes) -> bool:
    """Whether a file is for TSS2Key.parse(): a ``TSS2 PRIVATE KEY`` begins in it, or it is one in DER.

    Args:
        data: the file's content.
    """
    return _BEGIN in data or (data[:1] == b"\x30" and _OID_START in data[:16])


def _der(data: bytes, name: str) -> bytes:
    if is_tss2(data) and _BEGIN not in data:
        return data
    if _BEGIN not in data:
        raise KeyNotFoundError(f"{name} holds no TPM key", hint="give a file with a TSS2 PRIVATE KEY block")
    blocks = _PEM_BLOCK.findall(data)
    if len(blocks) > 1:
        raise AmbiguousMatchError(
            f"{name} holds {len(blocks)} private keys",
            hint="put the key to use into a file of its own; none is chosen",
            candidates=(),
        )
    try:
        ((_, body),) = blocks
        return base64.b64decode(b"".join(body.split()), validate=True)
    except ValueError as error:
        raise UnsupportedKeyError(f"the TSS2 PRIVATE KEY in {name} is cut off or no base64", hint=_ANEW) from error


def _is_context(tlv: asn1.TLV) -> bool:
    return tlv.tag_bytes[0] & 0xC0 == 0x80


def _context_fields(elements: list[asn1.TLV]) -> dict[int, asn1.TLV]:
    """The fields [0] to [5] by number, without their explicit tag. Each may be there once."""
    fields = {}
    for tlv in filter(_is_context, elements):
        tag = tlv.tag_bytes[0] & 0x1F
        if tag > 5:
            continue
        if tlv.tag_bytes[0] & 0x20 == 0 or tag in fields:
            raise ValueError(f"field {tag} is there twice, or not explicit")
        fields[tag] = asn1.decode_der(asn1.TLV, bytes(tlv.data))
    return fields


def _as(kind: type[T], tlv: asn1.TLV) -> T:
    value: T = tlv.parse(kind)
    return value


def _kind(object_type: str, name: str) -> Kind:
    if kind := _KINDS.get(object_type):
        return kind
    what = "sealed data, not a key" if object_type == _SEALED else f"a TPM object of the unknown type {object_type}"
    raise UnsupportedKeyError(
        f"{name} holds {what}",
        hint="give a key file of type loadable (2.23.133.10.1.3) or importable (2.23.133.10.1.4)",
    )


def _boolean(tlv: asn1.TLV | None) -> bool:
    """A BOOLEAN, absent counts as false. Old programs wrote TRUE as 1, which is not DER."""
    if tlv is None:
        return False
    if tlv.tag_bytes != b"\x01" or len(tlv.data) != 1:
        raise ValueError("not a BOOLEAN")
    return tlv.data[0] != 0


def _policy(tlv: asn1.TLV | None) -> tuple[PolicyCommand, ...]:
    commands = [_as(_TPMPolicy, member) for member in members(tlv)] if tlv else []
    if not all(0 <= command.command_code < 1 << 32 for command in commands):
        raise ValueError("not a TPM_CC")
    return tuple(PolicyCommand(command.command_code, command.command_policy) for command in commands)


def _secret(tlv: asn1.TLV | None, kind: Kind, name: str) -> bytes:
    if (tlv is not None) != (kind == "importable"):
        raise UnsupportedKeyError(
            f"{name} holds a TPM key of type {kind} with{'out' if tlv is None else ''} a secret",
            hint="an importable key has a secret and a loadable key has none; make the file anew",
        )
    return _sized(_as(bytes, tlv)) if tlv else b""


def _description(tlv: asn1.TLV | None) -> str:
    """Any string type and any bytes will do: nothing depends on the description."""
    return printable(bytes(tlv.data).decode(errors="replace")) if tlv else ""


def _parent(parent: int, name: str) -> int:
    # Some programs write the 32 bits as they are: INTEGER then reads them as negative.
    unsigned = parent + (1 << 32) if parent < 0 else parent
    if unsigned in HIERARCHIES or unsigned in _PERSISTENT:
        return unsigned
    raise UnsupportedKeyError(
        f"the parent of the TPM key in {name}, {unsigned:#x}, is neither a persistent key nor a hierarchy",
        hint="make the key under 0x40000001 (owner) or under a persistent key (0x81000000 to 0x81ffffff)",
    )


def _sized(structure: bytes) -> bytes:
    """A TPM2B structure, whose first two bytes are the size of the others."""
    if int.from_bytes(structure[:2]) != len(structure) - 2:
        raise ValueError("the size of a TPM2B structure is not that of its content")
    return structure
