"""A virtual smart card that looks like a YubiKey with PIV, in a thread of the test: support/piv_applet.py on a wire.

The card is a TCP client of vpcd, the virtual reader of vsmartcard (support/pcscd.py runs it). Every message has two
bytes of length, big-endian, in front. One byte from the reader is a control: 0 power off, 1 power on, 2 reset, 4 send
the ATR; anything longer is a command, whose answer goes back. A card is pulled by closing the connection.

    card = VirtualCard(pin="123456", serial=4711)
    card.put_key(0x9A, key, certificate)
    card.insert(port)
    ...
    card.remove()
"""

import socket
import threading
from collections import Counter
from contextlib import suppress

from cryptography import x509

from support.card_apdu import Transport
from support.piv_applet import PIVApplet
from support.pki import PrivateKey

# What a YubiKey 5 answers to a reset: its historical bytes are "YubiKey", by which OpenSC knows it.
ATR = bytes.fromhex("3bfd1300008131fe158073c021c057597562694b657940")
_POWER_OFF, _POWER_ON, _RESET, _SEND_ATR = 0, 1, 2, 4


class VirtualCard:
    """One card, in or out of a reader.

    Args:
        pin: the user's PIN; three wrong ones in a row lock it.
        serial: its number.
        version: its firmware.
    """

    def __init__(
        self, pin: str = "123456", serial: int = 10_000_001, version: tuple[int, int, int] = (5, 4, 3)
    ) -> None:
        self.serial = serial
        self._applet = PIVApplet(pin, serial, version)
        self._transport = Transport(self._applet.execute)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._powered = threading.Event()

    def put_key(self, slot: int, key: PrivateKey, certificate: x509.Certificate | None) -> None:
        """Load a slot: 0x9A authentication, 0x9C signature (asks for the PIN always), 0x9D, 0x9E (never asks)."""
        self._applet.put_key(slot, key, certificate)

    @property
    def tries_left(self) -> int:
        """How many wrong PINs the card still takes; 0 is locked."""
        return self._applet.pin.left

    @property
    def pin_attempts(self) -> int:
        """How often a PIN was sent to the card, right or wrong."""
        return self._applet.pin.attempts

    @property
    def signatures(self) -> Counter[int]:
        """Operations of each slot's key."""
        return Counter(self._applet.signatures)

    def unblock(self) -> None:
        """Give all tries back, as the PUK does."""
        self._applet.pin.left = self._applet.pin.tries

    @property
    def sign_delay(self) -> float:
        """Seconds that a signature takes, as if a finger were waited for."""
        return self._applet.sign_delay

    @sign_delay.setter
    def sign_delay(self, seconds: float) -> None:
        self._applet.sign_delay = seconds

    def pull_at_next_signature(self, seconds: float = 1.0) -> None:
        """Pull the card when a key is used next, while it waits for a finger; `remove` has to be called all the same.

        Args:
            seconds: from the key's use. Longer than 0.4: so often pcscd looks for the card, not while a command is
                under way. A look that is overdue then finds the card gone before the module does anything else.
        """
        self._applet.pull_after = seconds

    @property
    def is_inserted(self) -> bool:
        """Whether the card is in a reader."""
        return self._socket is not None and not self._applet.removed.is_set()

    def insert(self, port: int, *, timeout: float = 30) -> None:
        """Put the card into a reader, and wait until it was given power.

        Args:
            port: of the reader on 127.0.0.1.
            timeout: seconds to wait for the reader.
        """
        assert self._socket is None
        self._powered.clear()
        self._applet.removed.clear()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), name="virtual card", daemon=True)
        self._thread.start()
        assert self._powered.wait(timeout), "the reader did not give the card power"

    def remove(self) -> None:
        """Pull the card, whatever it is doing; without effect on one that is out."""
        self._applet.removed.set()
        connection, self._socket = self._socket, None
        if connection is None:
            return
        with suppress(OSError):  # the reader was gone before the card
            connection.shutdown(socket.SHUT_RDWR)
        assert self._thread is not None
        self._thread.join(30)
        connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while True:
                message = _receive(connection, int.from_bytes(_receive(connection, 2), "big"))
                answer = self._answer(message)
                if answer is not None:
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)
        except OSError:  # pulled, or the reader has ended
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, message: bytes) -> bytes | None:
        if len(message) > 1:
            return self._transport.transmit(message)
        if message == bytes([_SEND_ATR]):
            return ATR
        if message[0] in (_POWER_OFF, _POWER_ON, _RESET):
            self._transport.reset()
            self._applet.end_session()
        if message[0] == _POWER_ON:
            self._powered.set()
        return None


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        # The reader writes length and message one by one, and waits for the first to be acknowledged: at once, please.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the reader is gone")
        data += part
    return data
