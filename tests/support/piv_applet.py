"""The PIV application of a card (NIST SP 800-73-4), with the additions by which a YubiKey is known.

It has what PKCS#11 modules use to find objects, to log in and to sign: SELECT, GET DATA, VERIFY, CHANGE REFERENCE DATA,
RESET RETRY COUNTER, GENERAL AUTHENTICATE, and the YubiKey's version, serial number, metadata and attestation; and, for
who has the management key, what Yubico's tool fills an empty card with: GENERATE ASYMMETRIC KEY PAIR and PUT DATA.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from support.card_apdu import Command, StatusWordError, decode, encode
from support.piv_keys import ALWAYS, INCORRECT_DATA, NEVER, ONCE, Secret, Slot, generate_key
from support.piv_management import MANAGEMENT_KEY, SECURITY_STATUS, ManagementKey
from support.pki import PrivateKey, make_name, make_root

APPLICATION = bytes.fromhex("A000000308000010000100")
DISCOVERY = 0x7E
CHUID = 0x5FC102
CAPABILITIES = 0x5FC107
ATTESTATION_CERTIFICATE = 0x5FFF01
# slot -> the data object with its certificate
CERTIFICATE_OBJECTS = {0x9A: 0x5FC105, 0x9C: 0x5FC10A, 0x9D: 0x5FC10B, 0x9E: 0x5FC101}
ATTESTATION_SLOT = 0xF9

_POLICY = {0x9C: ALWAYS, 0x9E: NEVER, ATTESTATION_SLOT: NEVER}

# Agency, system and credential number are all nines: no card of the US government. Packed as SP 800-73-4 says.
_FASC_N = bytes.fromhex("d4e739da739ced39ce739d836858210842108421084210c3f3")

NOT_FOUND = 0x6A82
REFERENCE_NOT_FOUND = 0x6A88
NO_SUCH_COMMAND = 0x6D00


class PIVApplet:
    """The application's state and commands.

    Args:
        pin: the user's PIN, up to eight digits.
        serial: the YubiKey's number.
        version: the YubiKey's firmware.
    """

    def __init__(self, pin: str, serial: int, version: tuple[int, int, int] = (5, 4, 3)) -> None:
        self.pin = Secret(_padded(pin), 3)
        self.puk = Secret(b"12345678", 3)
        self.serial = serial
        self.version = version
        self.management = ManagementKey(version)
        self.sign_delay = 0.0
        self.pull_after: float | None = None
        self.signatures: Counter[int] = Counter()
        self.removed = threading.Event()
        self._keys: dict[int, Slot] = {}
        self._objects: dict[int, bytes] = {}
        self.end_session()
        self._personalize()

    def end_session(self) -> None:
        """What a reset or another SELECT forgets: that the PIN was given, and the management key shown."""
        self.management.forget()
        self.selected = False
        self._verified = False
        self._fresh = False  # the PIN was given and no key was used since

    def put_key(self, slot: int, key: PrivateKey, certificate: x509.Certificate | None) -> None:
        """Load a slot, as if the card had made the key.

        Args:
            slot: 0x9A, 0x9C, 0x9D or 0x9E.
            key: RSA-2048, P-256 or P-384.
            certificate: None takes the slot's certificate away.
        """
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise TypeError(key)
        self._keys[slot] = Slot(key, _POLICY.get(slot, ONCE))
        if certificate is None:
            self._objects.pop(CERTIFICATE_OBJECTS[slot], None)
        else:
            self._objects[CERTIFICATE_OBJECTS[slot]] = _certificate_object(certificate)

    def execute(self, command: Command) -> bytes:
        """Carry out one command.

        Raises:
            StatusWordError: it is refused.
        """
        if command.instruction == 0xA4:
            return self._select(command)
        commands: dict[int, Callable[[Command], bytes]] = {
            0x20: self._verify,
            0x24: self._change_reference,
            0x2C: self._reset_retry_counter,
            0x47: self._generate,
            0x87: self._general_authenticate,
            0xCB: self._get_data,
            0xDB: self._put_data,
            0xF7: self._metadata,
            0xF8: lambda _: self.serial.to_bytes(4, "big"),
            0xF9: self._attest,
            0xFD: lambda _: bytes(self.version),
            0xFF: self._set_management_key,
        }
        if not self.selected or command.instruction not in commands:
            raise StatusWordError(NO_SUCH_COMMAND)
        return commands[command.instruction](command)

    def _personalize(self) -> None:
        name = hashlib.sha256(b"virtual card %d" % self.serial).digest()
        self._objects[CHUID] = b"".join(
            encode(tag, value)
            for tag, value in ((0x30, _FASC_N), (0x34, name[:16]), (0x35, b"20491231"), (0x3E, b""), (0xFE, b""))
        )
        fields = dict.fromkeys((0xF3, 0xF6, 0xF7, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE), b"")
        fields |= {
            0xF0: b"\xa0\x00\x00\x01\x16\xff\x02" + name[16:30],
            0xF1: b"!",
            0xF2: b"!",
            0xF4: b"\0",
            0xF5: b"\x10",
        }
        self._objects[CAPABILITIES] = b"".join(encode(tag, fields[tag]) for tag in sorted(fields))
        self._maker = make_root(common_name="Virtual card attestation")
        assert isinstance(self._maker.key, ec.EllipticCurvePrivateKey)
        self._keys[ATTESTATION_SLOT] = Slot(self._maker.key, NEVER)
        self._objects[ATTESTATION_CERTIFICATE] = _certificate_object(self._maker.certificate)

    def _select(self, command: Command) -> bytes:
        if len(command.data) < 5 or not APPLICATION.startswith(command.data):
            raise StatusWordError(NOT_FOUND)
        self.end_session()
        self.selected = True
        return encode(0x61, encode(0x4F, APPLICATION[5:]) + encode(0x79, encode(0x4F, APPLICATION[:5])))

    def _get_data(self, command: Command) -> bytes:
        name = int.from_bytes(decode(command.data).get(0x5C, b""), "big")
        if name == DISCOVERY:
            return encode(DISCOVERY, encode(0x4F, APPLICATION) + encode(0x5F2F, b"\x40\x00"))
        if name not in self._objects:
            raise StatusWordError(NOT_FOUND)
        return encode(0x53, self._objects[name])

    def _put_data(self, command: Command) -> bytes:
        self.management.require()
        fields = decode(command.data)
        if 0x5C not in fields or 0x53 not in fields:
            raise StatusWordError(INCORRECT_DATA)
        name = int.from_bytes(fields[0x5C], "big")
        if fields[0x53]:
            self._objects[name] = fields[0x53]
        else:
            self._objects.pop(name, None)
        return b""

    def _generate(self, command: Command) -> bytes:
        self.management.require()
        wanted = decode(decode(command.data).get(0xAC, b""))
        if command.p2 not in CERTIFICATE_OBJECTS:
            raise StatusWordError(INCORRECT_DATA)
        key = generate_key(wanted.get(0x80, b""))
        # A certificate that is there stays, whatever the new key is, as in a real card.
        policy = wanted.get(0xAA, b"")[:1] or bytes([_POLICY.get(command.p2, ONCE)])
        touch = wanted.get(0xAB, b"")[:1] or bytes([NEVER])
        slot = self._keys[command.p2] = Slot(key, policy[0], touch[0])
        return encode(0x7F49, slot.public())

    def _set_management_key(self, command: Command) -> bytes:
        if command.p1 != 0xFF:
            raise StatusWordError(INCORRECT_DATA)
        self.management.replace(command.data)
        return b""

    def _verify(self, command: Command) -> bytes:
        if command.p2 != 0x80:
            raise StatusWordError(REFERENCE_NOT_FOUND)
        if command.p1 == 0xFF:
            self._verified = self._fresh = False
            return b""
        if not command.data:
            if self._verified:
                return b""
            raise StatusWordError(self.pin.status())
        if len(command.data) != 8:
            raise StatusWordError(INCORRECT_DATA)
        self._verified = self._fresh = False
        self.pin.check(command.data)
        self._verified = self._fresh = True
        return b""

    def _change_reference(self, command: Command) -> bytes:
        secret = {0x80: self.pin, 0x81: self.puk}.get(command.p2)
        if secret is None or len(command.data) != 16:
            raise StatusWordError(INCORRECT_DATA)
        secret.check(command.data[:8])
        secret.value = command.data[8:]
        return b""

    def _reset_retry_counter(self, command: Command) -> bytes:
        if command.p2 != 0x80 or len(command.data) != 16:
            raise StatusWordError(INCORRECT_DATA)
        self.puk.check(command.data[:8])
        self.pin.value, self.pin.left = command.data[8:], self.pin.tries
        return b""

    def _general_authenticate(self, command: Command) -> bytes:
        request = decode(decode(command.data).get(0x7C, b""))
        if command.p2 == MANAGEMENT_KEY:
            return self.management.authenticate(command.p1, request)
        slot = self._keys.get(command.p2)
        if slot is None or slot.algorithm != command.p1 or 0x81 not in request:
            raise StatusWordError(INCORRECT_DATA)
        fresh, self._fresh = self._fresh, False
        if (slot.policy == ALWAYS and not fresh) or (slot.policy == ONCE and not self._verified):
            raise StatusWordError(SECURITY_STATUS)
        self._wait_for_finger()
        signature = slot.sign(request[0x81])
        self.signatures[command.p2] += 1
        return encode(0x7C, encode(0x82, signature))

    def _wait_for_finger(self) -> None:
        if self.pull_after is not None:
            self.removed.wait(self.pull_after)
            self.pull_after = None
            self.removed.set()
        if self.removed.wait(self.sign_delay):
            raise ConnectionError("pulled in the middle of a signature")

    def _metadata(self, command: Command) -> bytes:
        if command.p2 in (0x80, 0x81):
            secret = self.pin if command.p2 == 0x80 else self.puk
            return encode(1, b"\xff") + encode(5, b"\0") + encode(6, bytes([secret.tries, secret.left]))
        if command.p2 == MANAGEMENT_KEY:
            return self.management.metadata()
        slot = self._keys.get(command.p2)
        if slot is None:
            raise StatusWordError(REFERENCE_NOT_FOUND)
        policies = bytes([slot.policy, slot.touch])
        return encode(1, bytes([slot.algorithm])) + encode(2, policies) + encode(3, b"\1") + encode(4, slot.public())

    def _attest(self, command: Command) -> bytes:
        slot = self._keys.get(command.p1)
        if slot is None:
            raise StatusWordError(INCORRECT_DATA)
        # Whoever asks again gets the same key in a new certificate; it has another serial number each time.
        number = (self.serial.bit_length() + 8) // 8
        facts = {
            3: bytes(self.version),
            7: b"\x02" + bytes([number]) + self.serial.to_bytes(number, "big"),
            8: bytes([slot.policy, slot.touch]),
        }
        extensions = [
            (x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.3.6.1.4.1.41482.3.{part}"), value), False)
            for part, value in facts.items()
        ]
        attested = self._maker.issue(
            slot.key,
            subject=make_name(f"YubiKey PIV Attestation {command.p1:02x}"),
            extensions=extensions,
            not_after=datetime.now(UTC) + timedelta(days=3650),
        )
        return attested.certificate.public_bytes(serialization.Encoding.DER)


def _padded(pin: str) -> bytes:
    return pin.encode("ascii").ljust(8, b"\xff")


def _certificate_object(certificate: x509.Certificate) -> bytes:
    der = certificate.public_bytes(serialization.Encoding.DER)
    return encode(0x70, der) + encode(0x71, b"\0") + encode(0xFE, b"")
