"""The language of smart cards (ISO/IEC 7816-4): commands with their chaining, answers in pieces, and BER-TLV."""

from collections.abc import Callable
from dataclasses import dataclass

OK = b"\x90\x00"
_CHAINED = 0x10
_GET_RESPONSE = 0xC0
_LONG = 65536


class StatusWordError(Exception):
    """The card refuses a command.

    Args:
        status: the two bytes at the end of the answer, as a number.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


@dataclass(frozen=True)
class Command:
    """One command, after chaining was undone.

    Attributes:
        instruction: INS.
        p1: the first parameter.
        p2: the second parameter.
        data: the whole of it.
    """

    instruction: int
    p1: int
    p2: int
    data: bytes


def encode(tag: int, value: bytes) -> bytes:
    """One BER-TLV.

    Args:
        tag: with all its bytes, such as 0x5FC105.
        value: up to 65,535 bytes.
    """
    size = len(value)
    if size < 0x80:
        length = bytes([size])
    elif size < 0x100:
        length = b"\x81" + bytes([size])
    else:
        length = b"\x82" + size.to_bytes(2, "big")
    return tag.to_bytes((tag.bit_length() + 7) // 8, "big") + length + value


def decode(data: bytes) -> dict[int, bytes]:
    """The TLVs of one level, by tag.

    Raises:
        StatusWordError: 6A80, the data is no sequence of TLVs.
    """
    found = {}
    rest = memoryview(data)
    try:
        while rest:
            size = 1
            if rest[0] & 0x1F == 0x1F:  # the tag goes on as long as the top bit is set
                size = 2
                while rest[size - 1] & 0x80:
                    size += 1
            tag, rest = int.from_bytes(rest[:size], "big"), rest[size:]
            length, rest = rest[0], rest[1:]
            if length & 0x80:
                count = length & 0x7F
                if count > len(rest):
                    raise StatusWordError(0x6A80)
                length, rest = int.from_bytes(rest[:count], "big"), rest[count:]
            if length > len(rest):
                raise StatusWordError(0x6A80)
            found[tag], rest = bytes(rest[:length]), rest[length:]
    except IndexError as error:
        raise StatusWordError(0x6A80) from error
    return found


def _split(body: bytes) -> tuple[bytes, int]:
    """Data and the number of bytes expected back, from what follows P2."""
    if not body:
        return b"", 256
    if body[0] == 0 and len(body) >= 3:  # lengths of two bytes each
        if len(body) == 3:
            return b"", int.from_bytes(body[1:], "big") or _LONG
        size = int.from_bytes(body[1:3], "big")
        return body[3 : 3 + size], int.from_bytes(body[3 + size :], "big") or _LONG
    if len(body) == 1:
        return b"", body[0] or 256
    size = body[0]
    return body[1 : 1 + size], (body[1 + size] or 256) if len(body) > 1 + size else 256


class Transport:
    """Puts chained commands together and hands long answers out in pieces.

    Args:
        execute: carries out a whole command.
    """

    def __init__(self, execute: Callable[[Command], bytes]) -> None:
        self._execute = execute
        self.reset()

    def reset(self) -> None:
        """Forget halves of commands and answers, as after a power cycle."""
        self._collected = b""
        self._pending = b""

    def transmit(self, apdu: bytes) -> bytes:
        """The answer to one APDU: data and status word."""
        if len(apdu) < 4:
            return b"\x67\x00"
        data, expected = _split(apdu[4:])
        if apdu[1] == _GET_RESPONSE:
            return self._piece(expected)
        self._collected += data
        if apdu[0] & _CHAINED:
            return OK
        whole, self._collected, self._pending = self._collected, b"", b""
        try:
            self._pending = self._execute(Command(apdu[1], apdu[2], apdu[3], whole))
        except StatusWordError as error:
            return error.status.to_bytes(2, "big")
        return self._piece(expected)

    def _piece(self, size: int) -> bytes:
        piece, self._pending = self._pending[:size], self._pending[size:]
        return piece + (bytes([0x61, min(len(self._pending), 0xFF)]) if self._pending else OK)
