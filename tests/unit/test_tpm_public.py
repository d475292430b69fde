"""What a TPM key says of itself, read without a TPM: type, attributes, scheme, Name, and what it is asked to sign."""

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from rolekey.errors import RolekeyError, UnsupportedKeyError
from rolekey.signers.tpm_public import PublicArea
from rolekey.signers.tpm_return_codes import name_of, plain
from rolekey.tss2_key import TSS2Key

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "tss2"
NULL, SHA256, SHA384, SHA512 = "0010", "000b", "000c", "000d"
ATTRIBUTES = 0x00040072
CURVES = {"0003": ec.SECP256R1(), "0004": ec.SECP384R1(), "0005": ec.SECP521R1()}


def sized(data):
    """A TPM2B structure."""
    return len(data).to_bytes(2) + data


def ec_area(curve="0003", scheme=NULL, attributes=ATTRIBUTES, point=None, symmetric=NULL, name_algorithm=SHA256):
    """TPM2B_PUBLIC of a new EC key."""
    if point is None:
        numbers = ec.generate_private_key(CURVES[curve]).public_key().public_numbers()
        point = (numbers.x, numbers.y)
    x, y = (coordinate.to_bytes(66) for coordinate in point)
    head = bytes.fromhex(f"0023 {name_algorithm} {attributes:08x} 0000 {symmetric} {scheme} {curve} {NULL}")
    return sized(head + sized(x) + sized(y))


def parse(area):
    """The area of a key that is called so."""
    return PublicArea.parse(area, "the key")


@pytest.mark.parametrize(
    ("name", "type_name", "size"),
    [
        ("openssl-p256", "ECPublicKey", 256),
        ("openssl-p384-user-auth", "ECPublicKey", 384),
        ("openssl-rsa2048", "RSAPublicKey", 2048),
        ("encodeobject", "ECPublicKey", 256),
    ],
)
def test_vectors(name, type_name, size):
    """Public areas of other programs are read; the Name is the hash of the area behind the hash's identifier."""
    key = TSS2Key.parse((VECTORS / f"{name}.pem").read_bytes(), name)
    area = parse(key.public)
    assert type_name in type(area.public_key).__name__
    assert area.public_key.key_size == size
    assert area.name == b"\x00\x0b" + hashlib.sha256(key.public[2:]).digest()
    area.check_can_sign("the key")


@pytest.mark.parametrize("curve", CURVES)
def test_curves(curve):
    """The three curves are known, with coordinates of any length."""
    area = parse(ec_area(curve))
    assert isinstance(area.public_key.curve, type(CURVES[curve]))
    assert area.largest_password == 32


@pytest.mark.parametrize("point", [(1, 1), (0, 0), (2**256 + 1, 5), (2**520, 2**520)])
def test_points_off_the_curve(point):
    """A point that is not on its curve is an error with the curve's name."""
    with pytest.raises(UnsupportedKeyError, match="its point is not on the curve secp256r1"):
        parse(ec_area(point=point))


@pytest.mark.parametrize(
    ("area", "message"),
    [
        (b"", "it is cut off"),
        (b"\x00\x05abc", "it is cut off"),
        (ec_area()[:-1], "it is cut off"),
        (ec_area() + b"x", "more follows after its end"),
        (sized(ec_area()[2:] + b"x"), "more follows after its end"),
        (ec_area(curve="0010", point=(1, 1)), "on a curve that cannot be used"),
        (ec_area(name_algorithm="0012"), "unknown nameAlg"),
        (sized(bytes.fromhex("0008 000b 00040072 0000 0010 0000")), "not RSA or EC"),
        (sized(bytes.fromhex("0001 000b 00040072 0000 0010 0010 0800 00000000") + sized(b"\x01")), "another size"),
    ],
)
def test_damaged_areas(area, message):
    """What cannot be a key is refused with what is wrong with it."""
    with pytest.raises(UnsupportedKeyError, match=message):
        parse(area)


@given(st.binary(max_size=200))
def test_any_bytes(data):
    """Any bytes are a public area or an error of ours."""
    for area in (data, sized(data), sized(bytes.fromhex("0023000b000400720000") + data)):
        try:
            parse(area).check_can_sign("the key")
        except RolekeyError as error:
            assert error.hint  # noqa: PT017 - any error of ours will do


@pytest.mark.parametrize(
    ("attributes", "scheme", "named"),
    [
        (ATTRIBUTES | 1 << 16, NULL, "attribute restricted"),
        (ATTRIBUTES & ~(1 << 18), NULL, "attribute sign is clear"),
        (ATTRIBUTES, f"0019{SHA256}", "the scheme ecdh-sha256 only"),
        (ATTRIBUTES, f"001a{SHA256}0000", "the scheme ecdaa-sha256 only"),
        (ATTRIBUTES, f"001c{SHA384}", "the scheme ecschnorr-sha384 only"),
        (ATTRIBUTES, "00990012", "the scheme 0x0099-0x0012 only"),
    ],
)
def test_keys_that_cannot_sign(attributes, scheme, named):
    """A key that the TPM would not sign with is refused with the attribute's name."""
    with pytest.raises(UnsupportedKeyError, match=named):
        parse(ec_area(attributes=attributes, scheme=scheme)).check_can_sign("the key")


def test_wrong_passwords_count_unless_noda():
    """Whether a wrong password counts is the attribute noDA's to say."""
    assert parse(ec_area()).counts_wrong_passwords
    assert not parse(ec_area(attributes=ATTRIBUTES | 1 << 10)).counts_wrong_passwords


DIGEST = hashlib.sha256(b"message").digest()


@pytest.mark.parametrize(
    ("curve", "scheme", "expected"),
    [
        ("0003", NULL, (DIGEST, 0x18, 0x0B)),
        ("0004", NULL, (DIGEST, 0x18, 0x0B)),
        ("0003", f"0018{SHA256}", (DIGEST, 0x18, 0x0B)),
        ("0004", f"0018{SHA256}", (DIGEST, 0x18, 0x0B)),
        ("0004", f"0018{SHA384}", (bytes(16) + DIGEST, 0x18, 0x0C)),
        ("0005", f"0018{SHA384}", (bytes(16) + DIGEST, 0x18, 0x0C)),
        ("0005", f"0018{SHA512}", (bytes(32) + DIGEST, 0x18, 0x0D)),
        ("0003", f"0018{SHA384}", None),
        ("0004", f"0018{SHA512}", None),
        ("0003", "00180004", None),
        ("0003", "00180099", None),
    ],
)
def test_what_is_signed(curve, scheme, expected):
    """The TPM is told a hash that the key's scheme takes, and a digest that is the same number to ECDSA, or nothing."""
    area = parse(ec_area(curve, scheme))
    if expected is None:
        with pytest.raises(UnsupportedKeyError, match="only, and not with sha256"):
            area.prepared(b"message", "sha256", "the key")
    else:
        assert area.prepared(b"message", "sha256", "the key") == expected


def test_longer_hashes_on_shorter_curves():
    """Where the curve takes no more bits anyway, a longer hash is cut to what the scheme wants."""
    area = parse(ec_area("0003", f"0018{SHA256}"))
    digest, _, hash_id = area.prepared(b"message", "sha384", "the key")
    assert (digest, hash_id) == (hashlib.sha384(b"message").digest()[:32], 0x0B)


@pytest.mark.parametrize(
    ("code", "base", "name"),
    [
        (0x98E, 0x08E, "TPM_RC_AUTH_FAIL (0x98e)"),
        (0x9A2, 0x0A2, "TPM_RC_BAD_AUTH (0x9a2)"),
        (0x18B, 0x08B, "TPM_RC_HANDLE (0x18b)"),
        (0x1C4, 0x084, "TPM_RC_VALUE (0x1c4)"),
        (0x921, 0x921, "TPM_RC_LOCKOUT (0x921)"),
        (0x101, 0x101, "TPM_RC_FAILURE (0x101)"),
        (0xB0902, 0x902, "TPM_RC_OBJECT_MEMORY (0x902)"),
        (0xC0922, 0x922, "TPM_RC_RETRY (0x922)"),
        (0x9F0, 0x0B0, "TPM_RC 0x9f0"),
        (0xA000A, None, None),
        (0x70007, None, None),
    ],
)
def test_return_codes(code, base, name):
    """A code is named without the bits that say what it speaks of; a TCTI has codes of its own."""
    assert plain(code) == base
    if name:
        assert name_of(code) == name
