"""A card that is pulled and put back, slow, or given a wrong PIN: rolekey in one process, the card's own counters."""

import pytest

from support.card_rig import SLOTS
from support.contract_child import RemoteError, contract_child

pytestmark = pytest.mark.rig("virtual-card")


@pytest.fixture
def child(token):
    """The process that signs."""
    with contract_child(token.environment) as process:
        yield process


@pytest.mark.parametrize("label", SLOTS)
def test_pulled_during_a_signature_and_put_back(virtual_card, child, token, label):
    """The signature ends with an error of the token; the next one works, and no PIN was refused."""
    card = virtual_card.card
    signer = child.open(token, label)
    signer.sign(b"before")
    card.pull_at_next_signature()
    with pytest.raises(RemoteError) as caught:
        signer.sign(b"during")
    assert not card.is_inserted
    assert caught.value.kind in ("TokenNotFoundError", "TokenOperationError")
    virtual_card.remove()
    virtual_card.insert()
    done = card.signatures[SLOTS[label]]
    assert signer.sign(b"after")
    assert card.signatures[SLOTS[label]] == done + 1
    assert card.tries_left == 3


def test_one_operation_for_each_signature(virtual_card, child, token):
    """Each signature is one operation of the card's key, which is one touch; a login is one PIN."""
    for label, slot in SLOTS.items():
        signer = child.open(token, label)
        for count in (1, 2):
            signer.sign(b"message")
            assert virtual_card.card.signatures[slot] == count
        signer.close()
    assert virtual_card.card.signatures.total() == 2 * len(SLOTS)


def test_a_wrong_pin_is_one_try(virtual_card, child, token, tmp_path):
    """However often the same file is offered, the card hears its PIN once; a corrected file works at once."""
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text("654321")
    uri = f"{token.uri('rsa-2048', with_pin=False)}?pin-source=file:{pin}"
    for _ in range(4):
        with pytest.raises(RemoteError) as caught:
            child.open(token, "rsa-2048", private_key=uri)
        assert caught.value.kind == "PinIncorrectError"
        assert virtual_card.card.tries_left == 2
    assert virtual_card.card.pin_attempts == 1
    pin.write_text(token.user_pin)
    assert child.open(token, "rsa-2048", private_key=uri).sign(b"message")
    assert virtual_card.card.tries_left == 3
