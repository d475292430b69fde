"""Objects made in a token and removed from it: key pairs that stay there, certificates (PKCS#11 v2.40, 4.6-4.9)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pkcs11
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass
from pkcs11 import exceptions as codes
from pkcs11.attributes import AttributeMapper, handle_ulong
from pkcs11.constants import CertificateType

from rolekey.certificates import Certificate, is_ca
from rolekey.der import tagged
from rolekey.errors import SignerError, TokenStateError, UnsupportedKeyError
from rolekey.tokens.attributes import strict_attributes
from rolekey.tokens.failures import code_name, translate
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.value import Value

_INTEGER = b"\x02"
# CKA_CERTIFICATE_CATEGORY: CK_CERTIFICATE_CATEGORY_TOKEN_USER and _AUTHORITY.
_USER, _AUTHORITY = 1, 2
_READ_ONLY = ("CKR_TOKEN_WRITE_PROTECTED", "CKR_SESSION_READ_ONLY", "CKR_SESSION_READ_ONLY_EXISTS")
_NOT_OFFERED = (
    "CKR_MECHANISM_INVALID",
    "CKR_MECHANISM_PARAM_INVALID",
    "CKR_DOMAIN_PARAMS_INVALID",
    "CKR_CURVE_NOT_SUPPORTED",
    "CKR_KEY_SIZE_RANGE",
    "CKR_ATTRIBUTE_VALUE_INVALID",
    "CKR_FUNCTION_NOT_SUPPORTED",
)
# A token that says so has made nothing: it may take a shorter template.
_TEMPLATE_REFUSED = (codes.AttributeTypeInvalid, codes.AttributeValueInvalid, codes.TemplateInconsistent)

# Then no usage but the signature is mentioned, and the others are the token's choice.
_OTHER_USAGES = (Attribute.DECRYPT, Attribute.UNWRAP, Attribute.DERIVE, Attribute.SIGN_RECOVER)
_UNSAID = dict.fromkeys((Attribute.ENCRYPT, Attribute.WRAP, Attribute.VERIFY, *_OTHER_USAGES), pkcs11.DEFAULT)
# The maker of tpm2-pkcs11, which fails on a longer template with CKR_GENERAL_ERROR, and leaves objects in the TPM.
_TERSE = "tpm2-software"


class KeyKind(Value):
    """A type of key that a token can be asked for.

    Args:
        name: what the command line calls it.
        mechanism: that makes it, without ``CKM_``.
        bits: of an RSA modulus, or None.
        curve: CKA_EC_PARAMS, or None.
    """

    name: str
    mechanism: str
    bits: int | None = None
    curve: bytes | None = None


_RSA, _EC = "RSA_PKCS_KEY_PAIR_GEN", "EC_KEY_PAIR_GEN"
KEY_KINDS = {
    kind.name: kind
    for kind in (
        KeyKind("rsa2048", _RSA, bits=2048),
        KeyKind("rsa3072", _RSA, bits=3072),
        KeyKind("rsa4096", _RSA, bits=4096),
        KeyKind("p256", _EC, curve=bytes.fromhex("06082a8648ce3d030107")),
        KeyKind("p384", _EC, curve=bytes.fromhex("06052b81040022")),
        KeyKind("p521", _EC, curve=bytes.fromhex("06052b81040023")),
    )
}


def writing_attributes() -> AttributeMapper:
    """What a session writes attributes with, and reads them as strictly as any."""
    mapper = strict_attributes()
    mapper.register_handler(Attribute.CERTIFICATE_CATEGORY, *handle_ulong)
    return mapper


class Stored(Value):
    """An object that is in a token.

    Args:
        what: its class, in words.
        is_private_key: whether it is one.
        handle: python-pkcs11's object.
    """

    what: str
    is_private_key: bool
    handle: Any


class TokenWriter:
    """Makes and removes objects.

    Args:
        session: python-pkcs11's, read-write and logged in.
        place: what an error calls the token.
        maker: of the module.
    """

    def __init__(self, session: Any, place: str, maker: str) -> None:
        self._session = session
        self._place = place
        self._terse = maker.startswith(_TERSE)

    def named(self, label: str | None, object_id: bytes | None) -> list[Stored]:
        """The keys and certificates that have a name.

        Args:
            label: CKA_LABEL, or None for any that has the id.
            object_id: CKA_ID, or None for any that has the label.

        Raises:
            SignerError: the token failed.
        """
        names = [(Attribute.LABEL, label)] if label is not None else []
        names += [(Attribute.ID, object_id)] if object_id is not None else []  # type: ignore[list-item]
        classes = {
            ObjectClass.PRIVATE_KEY: "private key",
            ObjectClass.PUBLIC_KEY: "public key",
            ObjectClass.CERTIFICATE: "certificate",
        }
        found: dict[int, Stored] = {}
        with self._explained("look for what has that name"):
            for attribute, value in names:
                for kind, what in classes.items():
                    for handle in list(self._session.get_objects({Attribute.CLASS: kind, attribute: value})):
                        found[handle.handle] = Stored(what, kind is ObjectClass.PRIVATE_KEY, handle)
        return list(found.values())

    def generate(self, kind: KeyKind, label: str | None, object_id: bytes) -> TokenPrivateKey:
        """Have the token make a key pair that signs, and does nothing else, and never leaves it: C_GenerateKeyPair.

        Args:
            kind: of key.
            label: CKA_LABEL, or None.
            object_id: CKA_ID.

        Returns:
            The private key. What the token made of the template is for its attributes to say.

        Raises:
            UnsupportedKeyError: the token makes no such key.
            TokenStateError: it is full, or read-only.
            SignerError: it failed.
        """
        with self._explained(f"make a {kind.name} key", makes=kind.name):
            try:
                pair = self._generate(kind, label, object_id, _UNSAID if self._terse else {})
            except _TEMPLATE_REFUSED:
                pair = self._generate(kind, label, object_id, _UNSAID)
            return TokenPrivateKey.read(pair[1])

    def _generate(self, kind: KeyKind, label: str | None, object_id: bytes, more: dict[Attribute, Any]) -> Any:
        curve = {Attribute.EC_PARAMS: kind.curve} if kind.curve else {}
        kept = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
        # python-pkcs11 denies the other usages by itself; of this one SoftHSM thinks otherwise.
        kept[Attribute.SIGN_RECOVER] = False
        return self._session.generate_keypair(
            KeyType.EC if kind.curve else KeyType.RSA,
            kind.bits,
            id=object_id,
            label=label,
            store=True,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            public_template={**curve, **more},
            private_template={**kept, **more},
        )

    def other_usages(self, key: TokenPrivateKey) -> tuple[str, ...]:
        """What a key that was made may be used for besides signatures, such as ``CKA_DECRYPT``.

        Args:
            key: from generate().

        Raises:
            SignerError: the token failed.
        """
        with self._explained(f"read the usage of the key {key}"):
            return tuple(f"CKA_{usage.name}" for usage in _OTHER_USAGES if _is_set(key.handle, usage))

    def store(self, certificate: Certificate, label: str, object_id: bytes) -> None:
        """Store a certificate, as a public object and without CKA_TRUSTED.

        Args:
            certificate: the certificate.
            label: CKA_LABEL.
            object_id: CKA_ID.

        Raises:
            TokenStateError: the token is full, or read-only.
            SignerError: it failed.
        """
        serial = certificate.serial_number
        template = {
            Attribute.CLASS: ObjectClass.CERTIFICATE,
            Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: False,
            Attribute.LABEL: label,
            Attribute.ID: object_id,
            Attribute.SUBJECT: certificate.subject.public_bytes(),
            Attribute.ISSUER: certificate.issuer.public_bytes(),
            Attribute.SERIAL_NUMBER: tagged(_INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, signed=True)),
            Attribute.VALUE: certificate.public_bytes(Encoding.DER),
        }
        category = _AUTHORITY if is_ca(certificate) else _USER
        with self._explained("store a certificate"):
            try:
                self._session.create_object({**template, Attribute.CERTIFICATE_CATEGORY: category})
            except _TEMPLATE_REFUSED:
                self._session.create_object(template)

    def remove(self, entry: Stored) -> None:
        """Remove an object for good: C_DestroyObject.

        Args:
            entry: from named().

        Raises:
            SignerError: the token refused.
        """
        with self._explained(f"remove a {entry.what}"):
            entry.handle.destroy()

    @contextmanager
    def _explained(self, doing: str, *, makes: str = "") -> Iterator[None]:
        try:
            yield
        except pkcs11.PKCS11Error as error:
            raise writing_failure(error, f"{self._place}: {doing}", makes) from error


def _is_set(handle: Any, attribute: Attribute) -> bool:
    try:
        return bool(handle[attribute])
    except (codes.AttributeTypeInvalid, codes.AttributeSensitive):
        return False


def writing_failure(error: pkcs11.PKCS11Error, doing: str, makes: str = "") -> SignerError:
    """The error of ours for what a token says while it is written to.

    Args:
        error: what the module said.
        doing: what was being done, as in "DOING: the token answered CKR_...".
        makes: the type of key that was being made, or nothing.
    """
    name = code_name(error)
    text = f"{doing}: the token answered {name}"
    if name in _READ_ONLY:
        return read_only(text)
    if name == "CKR_DEVICE_MEMORY":
        return TokenStateError(text, hint="the token is full: remove what is not needed, with the token's own tool")
    if makes and name in _NOT_OFFERED:
        return UnsupportedKeyError(
            text, hint=f"the token makes no {makes} key: choose another --type, or make it with the token's own tool"
        )
    return translate(error, doing)


def read_only(text: str) -> TokenStateError:
    """The error for a token that lets nothing be changed.

    Args:
        text: the cause.
    """
    return TokenStateError(
        text, hint="make the token writable (a switch, a mount, the HSM's policy), or use its own tool to make the key"
    )
