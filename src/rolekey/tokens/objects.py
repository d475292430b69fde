"""The objects in a token that matter here: certificates, public keys, private keys."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Self, TypeVar

import pkcs11
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes as PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from rolekey.certificates import Certificate, load_certificate
from rolekey.errors import UnsupportedKeyError
from rolekey.exportability import KeyAttributes
from rolekey.secret import Secret
from rolekey.tokens.attributes import STRICT
from rolekey.tokens.failures import code_name, translated
from rolekey.value import Value

log = logging.getLogger(__name__)

# CKA_EC_PARAMS as DER of the named curve.
_CURVES: dict[bytes, ec.EllipticCurve] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
    bytes.fromhex("06052b81040023"): ec.SECP521R1(),
}
# CKA_PARAMETER_SET of an ML-DSA key (PKCS#11 v3.2).
_MLDSAKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
_MLDSA: dict[int, type[_MLDSAKey]] = {1: mldsa.MLDSA44PublicKey, 2: mldsa.MLDSA65PublicKey, 3: mldsa.MLDSA87PublicKey}


class TokenObject(Value, kw_only=True):
    """What every object has.

    Args:
        label: CKA_LABEL, empty where there is none.
        object_id: CKA_ID, empty where there is none.
    """

    label: str
    object_id: bytes

    def __str__(self) -> str:
        return self.label or (f"id {self.object_id.hex()}" if self.object_id else "without label and id")

    def selected_by(self, label: str | None, object_id: bytes | None) -> bool:
        """Whether CKA_LABEL and CKA_ID are the given ones; None fits everything."""
        return label in (None, self.label) and object_id in (None, self.object_id)


class TokenCertificate(TokenObject, kw_only=True):
    """An X.509 certificate in a token."""

    object_class: ClassVar[ObjectClass] = ObjectClass.CERTIFICATE
    certificate: Certificate

    @classmethod
    def read(cls, handle: Any) -> Self:
        """Read the object; raises ValueError where it is no certificate that can be parsed."""
        value = _attribute(handle, Attribute.VALUE)
        if value is None:
            raise ValueError("it has no CKA_VALUE")
        return cls(**_name(handle), certificate=load_certificate(value))


class TokenPublicKey(TokenObject, kw_only=True):
    """An RSA, EC or ML-DSA public key in a token."""

    object_class: ClassVar[ObjectClass] = ObjectClass.PUBLIC_KEY
    public_key: PublicKey

    @classmethod
    def read(cls, handle: Any) -> Self:
        """Read the object; raises ValueError where its key cannot be read."""
        public_key = _public_key(handle)
        if public_key is None:
            raise ValueError("its key cannot be read")
        return cls(**_name(handle), public_key=public_key)


class TokenPrivateKey(TokenObject, kw_only=True):
    """A private key in a token, as an open and logged-in session sees it.

    Args:
        key_type: ``RSA``, ``EC``, ``ML_DSA``, or the module's other word.
        public_key: the public half where the private object itself gives it, else None.
        always_authenticate: CKA_ALWAYS_AUTHENTICATE; a missing attribute means False.
        field_size: bytes of the curve's order, None for other keys and where the token does not tell.
        handle: python-pkcs11's object.
    """

    object_class: ClassVar[ObjectClass] = ObjectClass.PRIVATE_KEY
    key_type: str
    public_key: PublicKey | None
    always_authenticate: bool
    field_size: int | None
    handle: Any

    @classmethod
    def read(cls, handle: Any) -> Self:
        """Read the object."""
        key_type = _attribute(handle, Attribute.KEY_TYPE)
        curve = _CURVES.get(_attribute(handle, Attribute.EC_PARAMS) or b"")
        return cls(
            **_name(handle),
            key_type=key_type.name if isinstance(key_type, KeyType) else str(key_type),
            public_key=_public_key(handle),
            always_authenticate=bool(_attribute(handle, Attribute.ALWAYS_AUTHENTICATE)),
            field_size=None if curve is None else _field_size(curve),
            handle=handle,
        )

    def attributes(self) -> KeyAttributes:
        """What the token says of it that bears on whether it can leave the token, and when it asks for the PIN.

        Raises:
            SignerError: the token failed.
        """
        with translated(f"read the attributes of the key {self}"):
            values = tuple((name, _boolean(self.handle, attribute)) for name, attribute in STRICT.items())
        return KeyAttributes("token", (*values, ("CKA_ALWAYS_AUTHENTICATE", self.always_authenticate)))

    def check_usage(self) -> None:
        """Refuse a key that may not sign.

        Raises:
            UnsupportedKeyError: CKA_SIGN is false.
        """
        if not hasattr(self.handle, "sign"):  # python-pkcs11 gives the method to keys with CKA_SIGN only
            raise UnsupportedKeyError(
                f"the key {self} may not sign: its CKA_SIGN is false",
                hint="use a key that was made for signing",
            )

    def sign(self, data: bytes, mechanism: str, pin: Secret | None = None) -> bytes:
        """One private-key operation: C_SignInit, with a PIN a context login, C_Sign.

        Args:
            data: what the mechanism takes.
            mechanism: its name without ``CKM_``.
            pin: for the context login, or None.

        Returns:
            The mechanism's own bytes (ECDSA: r and s, concatenated).

        Raises:
            SignerError: the token refused or failed.
        """
        with translated(f"sign with the key {self}", with_pin=pin is not None):
            context_pin = pin.reveal() if pin else None
            signature: bytes = self.handle.sign(data, mechanism=Mechanism[mechanism], pin=context_pin)
            return signature


Found = TypeVar("Found", TokenCertificate, TokenPublicKey, TokenPrivateKey)


def find_objects(
    session: Any, kind: type[Found], label: str | None = None, object_id: bytes | None = None
) -> list[Found]:
    """All objects of a class that can be read.

    Args:
        session: python-pkcs11's session.
        kind: one of the classes of this module.
        label: those alone that the token finds by this CKA_LABEL; None and empty find any.
        object_id: as the label, CKA_ID.

    Raises:
        pkcs11.PKCS11Error: the search itself failed.
    """
    # The list is complete before anything is read: python-pkcs11's generator must not outlive the session.
    names = {Attribute.LABEL: label, Attribute.ID: object_id}
    template = {Attribute.CLASS: kind.object_class, **{name: value for name, value in names.items() if value}}
    handles = list(session.get_objects(template))
    return [found for handle in handles if (found := _read(kind.read, handle)) is not None]


def _read(read: Callable[[Any], Found], handle: Any) -> Found | None:
    try:
        return read(handle)
    except pkcs11.PKCS11Error as error:
        reason = code_name(error)
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = str(error)
    log.debug("an object is left out: %s", reason)
    return None


def _attribute(handle: Any, attribute: Attribute) -> Any:
    try:
        return handle[attribute]
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive):
        return None


def _boolean(handle: Any, attribute: Attribute) -> bool | None:
    try:
        value: bool | None = handle[attribute]
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive, pkcs11.FunctionFailed):
        # The last is python-pkcs11's word for a length that the module does not give.
        return None
    return value


def _name(handle: Any) -> dict[str, Any]:
    return {"label": _attribute(handle, Attribute.LABEL) or "", "object_id": _attribute(handle, Attribute.ID) or b""}


def _public_key(handle: Any) -> PublicKey | None:
    # An EC private key mostly has no point, an ML-DSA one nothing like it: another object then has the public half.
    with suppress(pkcs11.PKCS11Error, ValueError, KeyError, UnsupportedAlgorithm):
        if handle[Attribute.KEY_TYPE] == KeyType.RSA:
            return _rsa_public_key(handle)
        if handle[Attribute.KEY_TYPE] == KeyType.EC:
            return _ec_public_key(handle)
        # CKA_VALUE of a private object is the private key: it is never asked for.
        if handle[Attribute.KEY_TYPE] == KeyType.ML_DSA and handle[Attribute.CLASS] == ObjectClass.PUBLIC_KEY:
            return _mldsa_public_key(handle)
    return None


def _rsa_public_key(handle: Any) -> PublicKey:
    exponent = int.from_bytes(handle[Attribute.PUBLIC_EXPONENT], "big")
    modulus = int.from_bytes(handle[Attribute.MODULUS], "big")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _ec_public_key(handle: Any) -> PublicKey:
    curve, point = _CURVES.get(handle[Attribute.EC_PARAMS]), handle[Attribute.EC_POINT]
    if curve is not None:
        size = 1 + 2 * _field_size(curve)  # not compressed, in an OCTET STRING
        header = bytes((4, size)) if size < 0x80 else bytes((4, 0x81, size))
        if point[: len(header)] == header and len(point) == len(header) + size:
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, point[len(header) :])
    from pkcs11.util.ec import encode_ec_public_key  # noqa: PLC0415 - slow to import; not for these

    return load_der_public_key(encode_ec_public_key(handle))


def _field_size(curve: ec.EllipticCurve) -> int:
    return (curve.key_size + 7) // 8


def _mldsa_public_key(handle: Any) -> PublicKey:
    return _MLDSA[int(handle[Attribute.PARAMETER_SET])].from_public_bytes(handle[Attribute.VALUE])
