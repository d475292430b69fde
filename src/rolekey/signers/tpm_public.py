"""The public area of a TPM key (TPM 2.0 Library, part 2, 12.2.4 TPMT_PUBLIC), read without a TPM or its library.

It says of what type a key is, what the TPM lets it do, and what it is called (its Name).
"""

import hashlib
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rolekey.errors import UnsupportedKeyError
from rolekey.exportability import KeyAttributes
from rolekey.signers.base import HashName, PublicKey
from rolekey.value import Value

# TPM_ALG_ID
RSA, ECC, NULL = 0x0001, 0x0023, 0x0010
RSASSA, RSAES, ECDSA, ECDAA = 0x0014, 0x0015, 0x0018, 0x001A
HASHES = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
HASH_IDS: dict[HashName, int] = {"sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}
_SCHEMES = {
    RSASSA: "rsassa",
    RSAES: "rsaes",
    0x0016: "rsapss",
    0x0017: "oaep",
    ECDSA: "ecdsa",
    0x0019: "ecdh",
    ECDAA: "ecdaa",
    0x001B: "sm2",
    0x001C: "ecschnorr",
}
_CURVES: dict[int, ec.EllipticCurve] = {3: ec.SECP256R1(), 4: ec.SECP384R1(), 5: ec.SECP521R1()}
# TPMA_OBJECT
FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5
USER_WITH_AUTH, NO_DA, RESTRICTED, DECRYPT, SIGN = 1 << 6, 1 << 10, 1 << 16, 1 << 17, 1 << 18
_DEFAULT_EXPONENT = 65537
_USABLE = "use an RSA key, or an EC key on P-256, P-384 or P-521"


class PublicArea(Value, kw_only=True):
    """What a TPM key says of itself.

    Args:
        type: TPM_ALG_RSA or TPM_ALG_ECC.
        name_algorithm: the hash of its Name and its policy, as hashlib calls it.
        attributes: TPMA_OBJECT.
        auth_policy: the digest of its policy, or nothing.
        scheme, scheme_hash: TPM_ALG_ID of the one way in which it signs; TPM_ALG_NULL where that is left open.
        public_key: its public half.
        data: TPMT_PUBLIC.
    """

    type: int
    name_algorithm: str
    attributes: int
    auth_policy: bytes
    scheme: int
    scheme_hash: int
    public_key: PublicKey
    data: bytes

    @classmethod
    def parse(cls, sized: bytes, key: str) -> Self:
        """Read a public area.

        Args:
            sized: TPM2B_PUBLIC with its size.
            key: what the key is called, for an error's text.

        Raises:
            UnsupportedKeyError: it is damaged, or of a type that cannot be used.
        """
        reader = _Reader(sized)
        try:
            data = reader.sized()
            reader.end()
            return cls._read(data, key)
        except ValueError as error:
            raise UnsupportedKeyError(
                f"the public area of {key} cannot be read: {error}", hint="the key is damaged; make it anew"
            ) from error

    @classmethod
    def _read(cls, data: bytes, key: str) -> Self:
        reader = _Reader(data)
        kind, name_algorithm = reader.number(2), reader.number(2)
        attributes, auth_policy = reader.number(4), reader.sized()
        if kind not in (RSA, ECC):
            raise UnsupportedKeyError(f"{key} is of the TPM's type {kind:#06x}, not RSA or EC", hint=_USABLE)
        if name_algorithm not in HASHES:
            raise UnsupportedKeyError(f"{key} has an unknown nameAlg, {name_algorithm:#06x}", hint=_USABLE)
        if reader.number(2) != NULL:  # of a storage key; its key size and mode follow
            reader.number(4)
        scheme = reader.number(2)
        scheme_hash = NULL if scheme in (NULL, RSAES) else reader.number(2)
        if scheme == ECDAA:
            reader.number(2)
        public_key = _rsa_key(reader) if kind == RSA else _ec_key(reader, key)
        reader.end()
        return cls(
            type=kind,
            name_algorithm=HASHES[name_algorithm],
            attributes=attributes,
            auth_policy=auth_policy,
            scheme=scheme,
            scheme_hash=scheme_hash,
            public_key=public_key,
            data=data,
        )

    @property
    def name(self) -> bytes:
        """The Name of the object: the identifier of a hash and the hash of the public area."""
        return self.data[2:4] + hashlib.new(self.name_algorithm, self.data).digest()

    @property
    def key_attributes(self) -> KeyAttributes:
        """What it says of whether the key can leave the TPM."""
        bits = {"fixedTPM": FIXED_TPM, "fixedParent": FIXED_PARENT, "sensitiveDataOrigin": SENSITIVE_DATA_ORIGIN}
        return KeyAttributes("TPM", tuple((name, bool(self.attributes & bit)) for name, bit in bits.items()))

    @property
    def counts_wrong_passwords(self) -> bool:
        """Whether a wrong password counts against the TPM's lockout: noDA is clear."""
        return not self.attributes & NO_DA

    @property
    def largest_password(self) -> int:
        """How many bytes a password of such an object can have."""
        return hashlib.new(self.name_algorithm).digest_size

    def check_can_sign(self, key: str) -> None:
        """Refuse a key that the TPM would not sign with.

        Args:
            key: what the key is called.

        Raises:
            UnsupportedKeyError: with the name of the attribute.
        """
        if self.attributes & RESTRICTED:
            problem = "is restricted: it signs only what the TPM itself has made (attribute restricted)"
        elif not self.attributes & SIGN:
            problem = "may not sign (attribute sign is clear)"
        elif self.scheme not in (NULL, RSASSA if self.type == RSA else ECDSA):
            problem = f"signs with the scheme {self.scheme_name} only"
        else:
            return
        raise UnsupportedKeyError(
            f"{key} {problem}",
            hint="IAM Roles Anywhere takes RSASSA (PKCS#1 v1.5) and ECDSA with SHA-256; make a signing key without a "
            "scheme, with tpm2_create --attributes 'sign|...' or openssl genpkey -provider tpm2",
        )

    @property
    def scheme_name(self) -> str:
        """The scheme as tpm2-tools write it, such as ``rsassa-sha256``; ``null`` where any will do."""
        if self.scheme == NULL:
            return "null"
        name = _SCHEMES.get(self.scheme, f"{self.scheme:#06x}")
        return (
            name if self.scheme_hash == NULL else f"{name}-{HASHES.get(self.scheme_hash, f'{self.scheme_hash:#06x}')}"
        )

    def prepared(self, message: bytes, hash_name: HashName, key: str) -> tuple[bytes, int, int]:
        """What the TPM is asked to sign.

        Args:
            message: the message itself.
            hash_name: its hash.
            key: what the key is called.

        Returns:
            The digest, and the identifiers of scheme and hash that the TPM is told of it.

        Raises:
            UnsupportedKeyError: the key's scheme has another hash.
        """
        digest = hashlib.new(hash_name, message).digest()
        if self.scheme == NULL or self.scheme_hash == HASH_IDS[hash_name]:
            return digest, (RSASSA if self.type == RSA else ECDSA), HASH_IDS[hash_name]
        fitting = _fitting(digest, self.public_key, HASHES.get(self.scheme_hash))
        if fitting is None:
            raise UnsupportedKeyError(
                f"{key} signs with the scheme {self.scheme_name} only, and not with {hash_name}",
                hint="make a signing key without a scheme; IAM Roles Anywhere takes SHA-256",
            )
        return fitting, self.scheme, self.scheme_hash


def _fitting(digest: bytes, public_key: PublicKey, scheme_hash: str | None) -> bytes | None:
    """The same number as ECDSA makes of a digest, in the length of another hash; None where there is none.

    ECDSA knows no hash, only a number: the leftmost bits of the digest, as many as the curve's order has.
    """
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or scheme_hash is None:
        return None
    length = hashlib.new(scheme_hash).digest_size
    number = digest[: (public_key.key_size + 7) // 8]
    if len(number) == length:
        return number
    return number.rjust(length, b"\0") if len(number) < length and length * 8 <= public_key.key_size else None


def _rsa_key(reader: "_Reader") -> PublicKey:
    bits, exponent, modulus = reader.number(2), reader.number(4), reader.sized()
    if len(modulus) * 8 != bits:
        raise ValueError("the modulus has another size than the key")
    return rsa.RSAPublicNumbers(exponent or _DEFAULT_EXPONENT, int.from_bytes(modulus)).public_key()


def _ec_key(reader: "_Reader", key: str) -> PublicKey:
    curve_id = reader.number(2)
    if reader.number(2) != NULL:  # a scheme of key derivation, with its hash
        reader.number(2)
    x, y = int.from_bytes(reader.sized()), int.from_bytes(reader.sized())
    curve = _CURVES.get(curve_id)
    if curve is None:
        raise UnsupportedKeyError(f"{key} is on a curve that cannot be used (TPM_ECC {curve_id:#06x})", hint=_USABLE)
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"its point is not on the curve {curve.name}") from error


class _Reader:
    """Takes big-endian numbers and sized buffers from the front of a structure. Raises ValueError where it ends."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def _take(self, length: int) -> bytes:
        if length > len(self._rest):
            raise ValueError("it is cut off")
        taken, self._rest = self._rest[:length], self._rest[length:]
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self._take(length))

    def sized(self) -> bytes:
        return self._take(self.number(2))

    def end(self) -> None:
        if self._rest:
            raise ValueError("more follows after its end")
