"""The card's language (support/card_apdu.py): what it takes apart and puts together."""

import pytest

from support.card_apdu import Command, StatusWordError, Transport, decode, encode


@pytest.mark.parametrize("size", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 5000])
@pytest.mark.parametrize("tag", [0x53, 0x5C, 0x7F49, 0x5FC105])
def test_tlv_round_trip(tag, size):
    """Tags and lengths of every form come back."""
    assert decode(encode(tag, bytes(size)) + encode(0x81, b"x")) == {tag: bytes(size), 0x81: b"x"}


@pytest.mark.parametrize("data", ["53", "5305", "530501", "5382", "5f", "538201"])
def test_half_a_tlv_is_incorrect_data(data):
    """What ends too early is refused with 6A80."""
    with pytest.raises(StatusWordError) as caught:
        decode(bytes.fromhex(data))
    assert caught.value.status == 0x6A80


@pytest.fixture
def transport():
    """Answers every command with its data twice, and refuses 0x66."""

    def execute(command: Command) -> bytes:
        if command.instruction == 0x66:
            raise StatusWordError(0x6982)
        return command.data * 2

    return Transport(execute)


@pytest.mark.parametrize(
    ("apdu", "answer"),
    [
        ("00010000", "9000"),
        ("0001000000", "9000"),
        ("0001000002abcd", "abcdabcd9000"),
        ("0001000002abcd00", "abcdabcd9000"),
        ("00010000000002abcd0000", "abcdabcd9000"),
        ("00660000", "6982"),
        ("0001", "6700"),
    ],
)
def test_short_and_extended_lengths(transport, apdu, answer):
    """Both forms of Lc and Le are understood; refusals are two bytes."""
    assert transport.transmit(bytes.fromhex(apdu)).hex() == answer


def test_chained_command(transport):
    """Parts with the chaining bit are collected, and the last one runs the whole."""
    assert transport.transmit(bytes.fromhex("1001000001aa")).hex() == "9000"
    assert transport.transmit(bytes.fromhex("0001000001bb")).hex() == "aabbaabb9000"


def test_long_answer_comes_in_pieces(transport):
    """An answer longer than what was expected is fetched with GET RESPONSE."""
    first = transport.transmit(bytes.fromhex("00010000ff") + bytes(255))
    assert len(first) == 258
    assert first[-2:].hex() == "61fe"
    second = transport.transmit(bytes.fromhex("00c00000fe"))
    assert len(second) == 256
    assert second[-2:].hex() == "9000"
