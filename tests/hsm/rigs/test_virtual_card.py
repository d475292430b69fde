"""The virtual card (support/virtual_card.py) behaves like one, for OpenSC's and Yubico's own programs and modules."""

import hashlib
import os
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from support.card_rig import card_in_reader

pytestmark = pytest.mark.rig("virtual-card")


@pytest.fixture
def tool(token):
    """Runs pkcs11-tool."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pkcs11-tool", "--module", str(token.module), *words],
            env={**os.environ, **token.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


@pytest.fixture
def sign(tool, token, tmp_path):
    """Signs with pkcs11-tool and checks the signature."""

    def sign_and_verify(label: str, object_id: str, *words: str) -> None:
        message, signature = tmp_path / "message", tmp_path / "signature"
        public_key = x509.load_pem_x509_certificate(token.certificate(label).read_bytes()).public_key()
        is_rsa = label.startswith("rsa")
        message.write_bytes(b"message" if is_rsa else hashlib.sha256(b"message").digest())
        mechanism = ("SHA256-RSA-PKCS",) if is_rsa else ("ECDSA", "--signature-format", "openssl")
        files = ("--input-file", str(message), "--output-file", str(signature))
        done = tool("--sign", "--id", object_id, *files, "--mechanism", *mechanism, *words)
        assert done.returncode == 0, done.stderr
        if is_rsa:
            public_key.verify(signature.read_bytes(), b"message", padding.PKCS1v15(), hashes.SHA256())
        else:
            public_key.verify(signature.read_bytes(), b"message", ec.ECDSA(hashes.SHA256()))

    return sign_and_verify


def test_objects(tool):
    """Both modules list four certificates under the ids 01 to 04, without a PIN."""
    listed = tool("--list-objects", "--type", "cert").stdout
    for object_id, slot in ("01", "9A"), ("02", "9C"), ("03", "9D"), ("04", "9E"):
        assert f"slot {slot}" in listed
        assert f"ID:         {object_id}" in listed


@pytest.mark.parametrize("token", [pytest.param("ykcs11", marks=pytest.mark.rig("ykcs11"))], indirect=True)
def test_attestation_twins(tool):
    """Yubico's module shows a second certificate, with the key's own attestation, under the same id."""
    listed = tool("--list-objects", "--type", "cert").stdout
    assert listed.count("ID:         01") == 2
    assert "X.509 Certificate for PIV Attestation 9a" in listed


def test_signatures(sign, virtual_card, token):
    """RSA and EC keys sign; one login each, and the card counts what each key did."""
    sign("rsa-2048", "01", "--login", "--pin", token.user_pin)
    assert virtual_card.card.pin_attempts == 1
    assert virtual_card.card.signatures == {0x9A: 1}
    sign("p-256", "04", "--login", "--pin", token.user_pin)
    assert virtual_card.card.signatures == {0x9A: 1, 0x9E: 1}


def test_always_authenticate(sign, virtual_card, token):
    """The key in 9C wants the PIN once more, right before it signs."""
    sign("always-auth", "02", "--login", "--pin", token.user_pin)
    assert virtual_card.card.pin_attempts == 2
    assert virtual_card.card.signatures == {0x9C: 1}


def test_pin_counter(tool, virtual_card, token):
    """A wrong PIN costs a try, the right one gives all back, three wrong ones in a row lock the card."""
    card = virtual_card.card

    def login(pin: str) -> bool:
        return tool("--login", "--pin", pin, "--list-objects").returncode == 0

    assert not login("654321")
    assert card.tries_left == 2
    assert login(token.user_pin)
    assert card.tries_left == 3
    for left in (2, 1, 0):
        assert not login("654321")
        assert card.tries_left == left
    assert not login(token.user_pin)
    assert card.tries_left == 0
    card.unblock()
    assert login(token.user_pin)


def test_slow_touch(sign, virtual_card, token):
    """A signature waits as long as the finger does."""
    virtual_card.card.sign_delay = 1.0
    start = time.monotonic()
    sign("rsa-2048", "01", "--login", "--pin", token.user_pin)
    assert time.monotonic() - start >= 1.0


def test_pulled_while_a_finger_is_waited_for(tool, virtual_card, token, tmp_path):
    """A card that is pulled in the middle of a signature ends it with an error, and works again after insertion."""
    message = tmp_path / "message"
    message.write_bytes(b"message")
    virtual_card.card.pull_at_next_signature()
    words = ("--login", "--pin", token.user_pin, "--sign", "--id", "01", "--mechanism", "SHA256-RSA-PKCS")
    files = ("--input-file", str(message), "--output-file", str(tmp_path / "signature"))
    done = tool(*words, *files)
    assert done.returncode != 0
    assert not virtual_card.card.is_inserted
    virtual_card.remove()
    virtual_card.insert()
    done = tool(*words, *files)
    assert done.returncode == 0, done.stderr


def test_two_cards(tool, pcscd, tmp_path):
    """A second card, in the second reader, is another token."""
    with card_in_reader(pcscd, tmp_path / "second", reader=1, serial=10_000_002):
        assert tool("--list-token-slots").stdout.count("token label") == 2
    assert tool("--list-token-slots").stdout.count("token label") == 1


def test_removal_is_seen(virtual_card):
    """The daemon's clients see the card go and come back."""
    assert virtual_card.pcscd.cards() == [True, False]
    virtual_card.remove()
    assert virtual_card.pcscd.cards() == [False, False]
    virtual_card.insert()
    assert virtual_card.pcscd.cards() == [True, False]
