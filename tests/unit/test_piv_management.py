"""What writes the virtual card (support/piv_management.py and support/piv_applet.py), as SP 800-73-4 has it."""

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from support.card_apdu import Command, StatusWordError, decode, encode
from support.piv_applet import APPLICATION, PIVApplet
from support.piv_management import FACTORY_KEY

NEW_KEY = bytes(range(24))
CERTIFICATE = encode(0x5C, bytes.fromhex("5fc105")) + encode(0x53, b"certificate")
P_256 = encode(0xAC, encode(0x80, b"\x11") + encode(0xAA, b"\x03") + encode(0xAB, b"\x02"))
# firmware -> the management key's algorithm, and its cipher
KINDS = {(5, 4, 3): (0x03, TripleDES), (5, 7, 1): (0x0A, AES)}


@pytest.fixture(params=KINDS, ids=["3des", "aes-192"])
def version(request):
    """A firmware of each kind."""
    return request.param


@pytest.fixture
def applet(version):
    """The application, selected."""
    selected = PIVApplet("123456", 4711, version)
    selected.execute(Command(0xA4, 4, 0, APPLICATION))
    return selected


def refused(applet, *command):
    with pytest.raises(StatusWordError) as caught:
        applet.execute(Command(*command))
    return caught.value.status


def step(applet, version, *fields):
    data = encode(0x7C, b"".join(encode(tag, value) for tag, value in fields))
    answer = applet.execute(Command(0x87, KINDS[version][0], 0x9B, data))
    return decode(decode(answer)[0x7C])


def authenticate(applet, version, key=FACTORY_KEY):
    """What a host does; whether the card has proven its own knowledge of the key."""
    cipher = Cipher(KINDS[version][1](key), ECB())
    witness = cipher.decryptor().update(step(applet, version, (0x80, b""))[0x80])
    answer = step(applet, version, (0x80, witness), (0x81, bytes(len(witness))))
    return answer[0x82] == cipher.encryptor().update(bytes(len(witness)))


@pytest.mark.parametrize("command", [(0xDB, 0x3F, 0xFF, CERTIFICATE), (0x47, 0, 0x9A, P_256), (0xFF, 0xFF, 0xFF, b"")])
def test_nothing_is_written_without_the_management_key(applet, version, command):
    """Objects, keys and the management key itself want it shown; another SELECT forgets that it was."""
    assert refused(applet, *command) == 0x6982
    assert authenticate(applet, version)
    applet.execute(Command(0xA4, 4, 0, APPLICATION))
    assert refused(applet, *command) == 0x6982


def test_a_wrong_management_key(applet, version):
    """Who cannot decrypt the witness is refused, and a witness is good for one answer."""
    with pytest.raises(StatusWordError) as caught:
        authenticate(applet, version, NEW_KEY)
    assert caught.value.status == 0x6982
    size = len(step(applet, version, (0x80, b""))[0x80])
    for status in (0x6982, 0x6A80):
        data = encode(0x7C, encode(0x80, bytes(size)) + encode(0x81, bytes(size)))
        assert refused(applet, 0x87, KINDS[version][0], 0x9B, data) == status
    assert refused(applet, 0xDB, 0x3F, 0xFF, CERTIFICATE) == 0x6982


def test_another_algorithm_than_the_keys(applet, version):
    """It is incorrect data, as a YubiKey 5.7 answers a tool that knows Triple DES only."""
    other = 0x0A if KINDS[version][0] == 0x03 else 0x03
    assert refused(applet, 0x87, other, 0x9B, encode(0x7C, encode(0x80, b""))) == 0x6A80


def test_a_new_management_key(applet, version):
    """The old one is worth nothing afterwards, and the metadata says that it is not the factory's any more."""
    metadata = decode(applet.execute(Command(0xF7, 0, 0x9B, b"")))
    assert (metadata[1], metadata[5]) == (bytes([KINDS[version][0]]), b"\1")
    authenticate(applet, version)
    assert refused(applet, 0xFF, 0xFF, 0xFF, bytes([KINDS[version][0], 0x9B, 16]) + NEW_KEY[:16]) == 0x6A80
    applet.execute(Command(0xFF, 0xFF, 0xFF, bytes([KINDS[version][0], 0x9B, 24]) + NEW_KEY))
    with pytest.raises(StatusWordError):
        authenticate(applet, version)
    assert authenticate(applet, version, NEW_KEY)
    assert decode(applet.execute(Command(0xF7, 0, 0x9B, b"")))[5] == b"\0"


def test_a_generated_key(applet, version):
    """The answer is the public half; the metadata says the same, with the policies that were asked for."""
    authenticate(applet, version)
    public = decode(decode(applet.execute(Command(0x47, 0, 0x9A, P_256)))[0x7F49])[0x86]
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    metadata = decode(applet.execute(Command(0xF7, 0, 0x9A, b"")))
    assert (metadata[1], metadata[2], metadata[3]) == (b"\x11", b"\3\2", b"\1")
    assert decode(metadata[4]) == {0x86: public}
    assert refused(applet, 0x47, 0, 0x9A, encode(0xAC, encode(0x80, b"\x55"))) == 0x6A80
    assert refused(applet, 0x47, 0, 0x9F, P_256) == 0x6A80


def test_a_written_object(applet, version):
    """It is read as it was written, and an empty one takes it away."""
    authenticate(applet, version)
    applet.execute(Command(0xDB, 0x3F, 0xFF, CERTIFICATE))
    name = encode(0x5C, bytes.fromhex("5fc105"))
    assert applet.execute(Command(0xCB, 0x3F, 0xFF, name)) == encode(0x53, b"certificate")
    applet.execute(Command(0xDB, 0x3F, 0xFF, name + encode(0x53, b"")))
    assert refused(applet, 0xCB, 0x3F, 0xFF, name) == 0x6A82
    assert refused(applet, 0xDB, 0x3F, 0xFF, name) == 0x6A80
