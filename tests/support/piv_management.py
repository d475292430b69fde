"""What writes a PIV card: its management key. Each side proves to the other that it has it (NIST SP 800-73-4, part 2).

A YubiKey leaves the factory with one that is known, and firmware 5.7 took AES-192 for it in place of Triple DES.
"""

import hmac
import os

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, CipherAlgorithm
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from support.card_apdu import StatusWordError, encode
from support.piv_keys import INCORRECT_DATA

MANAGEMENT_KEY = 0x9B
SECURITY_STATUS = 0x6982
FACTORY_KEY = bytes.fromhex("010203040506070801020304050607080102030405060708")
_TRIPLE_DES, _AES_192 = 0x03, 0x0A
_CIPHERS: dict[int, type[TripleDES | AES]] = {_TRIPLE_DES: TripleDES, _AES_192: AES}
_NO_TOUCH = 1


class ManagementKey:
    """The key, and whether the other side has shown that it has it.

    Args:
        version: the YubiKey's firmware, which decides the kind of the key.
    """

    def __init__(self, version: tuple[int, int, int]) -> None:
        self.algorithm = _AES_192 if version >= (5, 7, 0) else _TRIPLE_DES
        self._value = FACTORY_KEY
        self._witness: bytes | None = None
        self.authenticated = False

    def forget(self) -> None:
        """What a reset or another SELECT forgets."""
        self._witness = None
        self.authenticated = False

    def require(self) -> None:
        """Let only those through who have shown the key.

        Raises:
            StatusWordError: they have not.
        """
        if not self.authenticated:
            raise StatusWordError(SECURITY_STATUS)

    def authenticate(self, algorithm: int, request: dict[int, bytes]) -> bytes:
        """One of the two steps: hand out an encrypted witness; take it back in clear, and encrypt a challenge.

        Args:
            algorithm: which the other side takes the key for.
            request: what is in its dynamic authentication template.

        Returns:
            The template of the answer.

        Raises:
            StatusWordError: another algorithm, a wrong witness, or a step without the one before it.
        """
        cipher = Cipher(self._cipher(), ECB()).encryptor()
        witness, self._witness, self.authenticated = self._witness, None, False
        if algorithm != self.algorithm:
            raise StatusWordError(INCORRECT_DATA)
        if request.get(0x80) == b"":
            self._witness = os.urandom(self._block_size)
            return encode(0x7C, encode(0x80, cipher.update(self._witness)))
        if witness is None or len(request.get(0x81, b"")) != self._block_size:
            raise StatusWordError(INCORRECT_DATA)
        if not hmac.compare_digest(request.get(0x80, b""), witness):
            raise StatusWordError(SECURITY_STATUS)
        self.authenticated = True
        return encode(0x7C, encode(0x82, cipher.update(request[0x81])))

    def replace(self, data: bytes) -> None:
        """Carry out SET MANAGEMENT KEY, a command of the YubiKey's own.

        Args:
            data: algorithm, 9B, and the key after its length.

        Raises:
            StatusWordError: the old key was not shown, or it is no key.
        """
        self.require()
        if data[:1] not in (b"\x03", b"\x0a") or data[1:3] != bytes([MANAGEMENT_KEY, 24]) or len(data) != 27:
            raise StatusWordError(INCORRECT_DATA)
        self.algorithm, self._value = data[0], data[3:]

    def metadata(self) -> bytes:
        """What the card says of the key: its algorithm, that it needs no touch, and whether it is the factory's."""
        is_factory = bytes([self._value == FACTORY_KEY])
        return encode(1, bytes([self.algorithm])) + encode(2, bytes([0, _NO_TOUCH])) + encode(5, is_factory)

    @property
    def _block_size(self) -> int:
        return 8 if self.algorithm == _TRIPLE_DES else 16

    def _cipher(self) -> CipherAlgorithm:
        return _CIPHERS[self.algorithm](self._value)
