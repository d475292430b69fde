"""What a PIV card keeps: PINs with their counters, and keys that sign raw blocks (NIST SP 800-73-4 and 800-78-4)."""

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

from support.card_apdu import StatusWordError, encode

NEVER, ONCE, ALWAYS = 1, 2, 3  # when a key asks for the PIN; of the touch, ALWAYS is 2 and once in 15 seconds is 3
_RSA_2048, _P_256, _P_384 = 0x07, 0x11, 0x14
_HASHES: dict[int, hashes.SHA256 | hashes.SHA384] = {32: hashes.SHA256(), 48: hashes.SHA384()}

INCORRECT_DATA = 0x6A80
PIN_BLOCKED = 0x6983


@dataclass
class Secret:
    """A PIN or PUK with its counter.

    Attributes:
        value: eight bytes, a PIN filled up with FF.
        tries: how many wrong ones in a row lock it.
        left: how many are left.
        attempts: how often any value was sent, right or wrong.
    """

    value: bytes
    tries: int
    left: int = 0
    attempts: int = 0

    def __post_init__(self) -> None:
        self.left = self.tries

    def check(self, value: bytes) -> None:
        """Compare; the card's own answer tells how many tries are left.

        Raises:
            StatusWordError: wrong, or locked.
        """
        self.attempts += 1
        if not self.left:
            raise StatusWordError(PIN_BLOCKED)
        if value != self.value:
            self.left -= 1
            raise StatusWordError(self.status())
        self.left = self.tries

    def status(self) -> int:
        """The status word that tells the tries left."""
        return 0x63C0 | self.left if self.left else PIN_BLOCKED


def generate_key(algorithm: bytes) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """A new key.

    Args:
        algorithm: SP 800-78-4's identifier, one byte.

    Raises:
        StatusWordError: the card makes no such key.
    """
    if algorithm == bytes([_RSA_2048]):
        return rsa.generate_private_key(65537, 2048)
    curves = {bytes([_P_256]): ec.SECP256R1(), bytes([_P_384]): ec.SECP384R1()}
    if algorithm not in curves:
        raise StatusWordError(INCORRECT_DATA)
    return ec.generate_private_key(curves[algorithm])


@dataclass(frozen=True)
class Slot:
    """A key in the card."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    policy: int
    touch: int = NEVER

    @property
    def algorithm(self) -> int:
        """SP 800-78-4's identifier."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return _RSA_2048
        return _P_256 if self.key.curve.key_size == 256 else _P_384

    def public(self) -> bytes:
        """The public key as the card gives it out."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            numbers = self.key.public_key().public_numbers()
            return encode(0x81, numbers.n.to_bytes(256, "big")) + encode(0x82, numbers.e.to_bytes(3, "big"))
        point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return encode(0x86, point)

    def sign(self, data: bytes) -> bytes:
        """A whole padded block for RSA, a digest no longer than the curve for EC.

        Raises:
            StatusWordError: the data has another length.
        """
        size = 256 if isinstance(self.key, rsa.RSAPrivateKey) else self.key.curve.key_size // 8
        if isinstance(self.key, rsa.RSAPrivateKey):
            private = self.key.private_numbers()
            block = int.from_bytes(data, "big")
            if len(data) != size or block >= private.public_numbers.n:
                raise StatusWordError(INCORRECT_DATA)
            # The Chinese remainder theorem: four times faster than one exponentiation.
            mod_p = pow(block % private.p, private.dmp1, private.p)
            mod_q = pow(block % private.q, private.dmq1, private.q)
            return (mod_q + (mod_p - mod_q) * private.iqmp % private.p * private.q).to_bytes(size, "big")
        if len(data) > size:
            raise StatusWordError(INCORRECT_DATA)
        return self.key.sign(data.rjust(size, b"\0"), ec.ECDSA(utils.Prehashed(_HASHES[size])))
