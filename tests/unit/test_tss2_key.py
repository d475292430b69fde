"""TSS2 key files: every form that programs write, what is said of the others, and what becomes of damaged ones."""

import base64
import dataclasses
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rolekey.errors import AmbiguousMatchError, KeyNotFoundError, RolekeyError, UnsupportedKeyError
from rolekey.tss2_key import PolicyCommand, TSS2Key, is_tss2
from support.der import explicit, integer, octets, tlv, utf8
from support.pki import make_root
from support.tss2_files import (
    AUTH_POLICY,
    DESCRIPTION,
    EMPTY_AUTH,
    FALSE,
    IMPORTABLE,
    LOADABLE,
    OLD_TRUE,
    POLICY,
    RSA_PARENT,
    SEALED,
    SECRET,
    TRUE,
    key_der,
    key_pem,
    policy,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "tss2"
OWNER = 0x40000001
PERSISTENT = 0x81000001
# TPM_CC_PolicyAuthValue, TPM_CC_PolicyPCR and TPM_CC_PolicyCommandCode.
AUTH_VALUE, PCR, COMMAND_CODE = 0x16B, 0x17F, 0x16C


def vector(name):
    return (VECTORS / name).read_bytes()


def parse(data):
    return TSS2Key.parse(data, "key.pem")


P256 = parse(vector("openssl-p256.pem"))
DUPLICATE = parse(vector("duplicate-importable.pem"))


def made(**arguments):
    """The vector's public and private part, with everything else as the arguments say."""
    return key_der(P256.public, P256.private, **arguments)


@pytest.mark.parametrize(
    ("name", "empty_auth", "parent", "key_type"),
    [
        ("openssl-p256.pem", True, OWNER, 0x23),
        ("openssl-rsa2048.pem", True, OWNER, 0x01),
        ("openssl-p384-user-auth.pem", False, OWNER, 0x23),
        ("encodeobject.pem", False, PERSISTENT, 0x23),
        ("encodeobject-p.pem", True, PERSISTENT, 0x23),
    ],
)
def test_files_that_programs_write(name, empty_auth, parent, key_type):
    """Loadable keys of tpm2-openssl and tpm2-tools: password, parent, and both parts with their sizes."""
    key = parse(vector(name))
    assert (key.kind, key.empty_auth, key.parent) == ("loadable", empty_auth, parent)
    assert (key.policy, key.signed_policies, key.secret, key.description, key.rsa_parent) == ((), False, b"", "", False)
    assert int.from_bytes(key.public[:2]) == len(key.public) - 2
    assert int.from_bytes(key.public[2:4]) == key_type
    assert int.from_bytes(key.private[:2]) == len(key.private) - 2 > 64


def test_importable_key():
    """An importable key has a secret and a policy; the three parts are those of tpm2_duplicate."""
    assert DUPLICATE.kind == "importable"
    assert DUPLICATE.policy == (PolicyCommand(COMMAND_CODE, bytes.fromhex("0000014b")),)
    assert (len(DUPLICATE.secret), len(DUPLICATE.private), len(DUPLICATE.public)) == (70, 110, 120)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({EMPTY_AUTH: TRUE}, True),
        ({EMPTY_AUTH: OLD_TRUE}, True),
        ({EMPTY_AUTH: FALSE}, False),
        ({}, False),
    ],
)
def test_empty_auth_in_all_its_encodings(fields, expected):
    """TRUE as 0xFF and as 0x01, FALSE, and absent, which counts as FALSE."""
    assert parse(made(fields=fields)).empty_auth is expected


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({DESCRIPTION: utf8("the web server's key, müde")}, {"description": "the web server's key, müde"}),
        ({DESCRIPTION: utf8("two\nlines \x1b[31m")}, {"description": r"two\nlines \x1b[31m"}),
        ({DESCRIPTION: b"\x0c\x02\xff\xfe"}, {"description": "\ufffd\ufffd"}),
        ({DESCRIPTION: b"\x13\x05plain"}, {"description": "plain"}),
        ({RSA_PARENT: TRUE}, {"rsa_parent": True}),
        ({RSA_PARENT: FALSE}, {}),
        ({AUTH_POLICY: tlv(0x30, tlv(0x30, explicit(1, policy([]))))}, {"signed_policies": True}),
        ({POLICY: policy([])}, {}),
        (
            {POLICY: policy([(AUTH_VALUE, b""), (PCR, b"\x00" * 42)])},
            {"policy": (PolicyCommand(AUTH_VALUE, b""), PolicyCommand(PCR, b"\x00" * 42))},
        ),
        ({6: octets(b"the parent's name")}, {}),
        ({6: octets(b"name"), 7: tlv(0x30, integer(1)), 30: utf8("later")}, {}),
        ({DESCRIPTION: utf8("d"), RSA_PARENT: TRUE, 6: b""}, {"description": "d", "rsa_parent": True}),
    ],
)
def test_optional_fields(fields, changes):
    """Each field of the draft is read, and later ones (from [6]) change nothing. A description is printable."""
    expected = dataclasses.replace(P256, **changes)
    assert parse(made(fields={EMPTY_AUTH: TRUE, **fields})) == expected


@pytest.mark.parametrize(
    ("parent", "unsigned"),
    [
        (0x40000001, 0x40000001),
        (0x40000007, 0x40000007),
        (0x4000000B, 0x4000000B),
        (0x4000000C, 0x4000000C),
        (0x81000001, 0x81000001),
        (0x81FFFFFF, 0x81FFFFFF),
        (0x81000001 - (1 << 32), 0x81000001),
    ],
)
def test_parents(parent, unsigned):
    """The hierarchies and persistent handles; 0x81000001 in five bytes and, as a negative number, in four."""
    der = made(parent=parent)
    assert parse(der).parent == unsigned
    assert (integer(parent)[1] == 5) == (parent > 0x7FFFFFFF)


@pytest.mark.parametrize(
    "parent", [0, 1, 0x80000001, 0x40000002, 0x40000009, 0x82000000, -1, 1 << 32, 1 << 64, -1 << 40]
)
def test_parents_that_cannot_be_used(parent):
    """A volatile handle, another hierarchy or no handle at all is named."""
    with pytest.raises(UnsupportedKeyError, match=r"the parent of the TPM key in key\.pem, -?0x[0-9a-f]+, is neither"):
        parse(made(parent=parent))


def surrounded():
    root = make_root()
    block = key_pem(made())
    return {
        "as it is": block,
        "DER": made(),
        "CRLF": key_pem(made(), line_end="\r\n"),
        "no final newline": block.rstrip(b"\n"),
        "no final newline, CRLF": key_pem(made(), line_end="\r\n").rstrip(b"\r\n"),
        "text around": b"the key of the web server\n" + block + b"more text",
        "text without line ends": b"text" + block.rstrip(b"\n") + b"text",
        "a byte order mark": b"\xef\xbb\xbf" + block,
        "certificate in front": root.pem + block,
        "certificate behind": block + root.pem,
        "one line of base64": b"-----BEGIN TSS2 PRIVATE KEY-----\n"
        + base64.b64encode(made())
        + b"\n-----END TSS2 PRIVATE KEY-----",
        "indented": block.replace(b"\n", b"\n   "),
    }


@pytest.mark.parametrize("form", surrounded())
def test_what_stands_around_the_key(form):
    """PEM of any layout, alone or with a certificate and text, and DER: the same key."""
    data = surrounded()[form]
    assert is_tss2(data)
    assert parse(data) == P256


def unusable():
    block = key_pem(made())
    oversized = bytes.fromhex("0057") + P256.public[2:]
    return {
        "sealed data": (made(object_type=SEALED), UnsupportedKeyError, "holds sealed data, not a key"),
        "unknown type": (
            made(object_type=LOADABLE[:-1] + b"\x09"),
            UnsupportedKeyError,
            r"a TPM object of the unknown type 2\.23\.133\.10\.1\.9",
        ),
        "a loadable key with a secret": (
            made(fields={SECRET: octets(b"\0\0")}),
            UnsupportedKeyError,
            "of type loadable with a secret",
        ),
        "an importable key without": (
            made(object_type=IMPORTABLE),
            UnsupportedKeyError,
            "of type importable without a secret",
        ),
        "a secret of another size": (
            made(object_type=IMPORTABLE, fields={SECRET: octets(b"\0\5abc")}),
            UnsupportedKeyError,
            "cannot be read",
        ),
        "a public part of another size": (key_der(oversized, P256.private), UnsupportedKeyError, "cannot be read"),
        "no private part": (key_der(P256.public, b""), UnsupportedKeyError, "cannot be read"),
        "a field twice": (
            key_der(P256.public, P256.private).replace(explicit(0, TRUE), explicit(0, TRUE) + explicit(0, FALSE)),
            UnsupportedKeyError,
            "cannot be read",
        ),
        "an integer for emptyAuth": (made(fields={EMPTY_AUTH: integer(1)}), UnsupportedKeyError, "cannot be read"),
        "a negative command": (made(fields={POLICY: policy([(-1, b"")])}), UnsupportedKeyError, "cannot be read"),
        "a command of 33 bits": (
            made(fields={POLICY: policy([(1 << 32, b"")])}),
            UnsupportedKeyError,
            "cannot be read",
        ),
        "half of the DER": (made()[:100], UnsupportedKeyError, "cannot be read"),
        "something behind the DER": (made() + b"\0", UnsupportedKeyError, "cannot be read"),
        "another SEQUENCE": (key_pem(tlv(0x30, integer(1))), UnsupportedKeyError, "cannot be read"),
        "no DER": (key_pem(b"hello"), UnsupportedKeyError, "cannot be read"),
        "an empty block": (key_pem(b""), UnsupportedKeyError, "cannot be read"),
        "no base64": (block.replace(b"\nM", b"\n!"), UnsupportedKeyError, "cut off or no base64"),
        "a block without its end": (block[:150], UnsupportedKeyError, "cut off or no base64"),
        "two keys": (block + block, AmbiguousMatchError, "holds 2 private keys"),
        "another key beside it": (block + make_root().issue().key_pem, AmbiguousMatchError, "holds 2 private keys"),
        "no key": (make_root().pem, KeyNotFoundError, "holds no TPM key"),
        "nothing": (b"", KeyNotFoundError, "holds no TPM key"),
    }


@pytest.mark.parametrize("name", unusable())
def test_files_that_cannot_be_used(name):
    """Each is an error of its own class that names the file and what is wrong with it."""
    data, kind, words = unusable()[name]
    with pytest.raises(RolekeyError, match=words) as caught:
        parse(data)
    assert type(caught.value) is kind
    assert "key.pem" in caught.value.message


def test_other_files_are_no_tpm_keys():
    """A key or certificate of another kind, in PEM or DER, is left to those who read it."""
    leaf = make_root().issue()
    assert not any(is_tss2(data) for data in (leaf.key_pem, leaf.pem, b"", b"\x30\x06\x02\x01\x00", b"text"))


def test_the_private_part_is_not_shown():
    """A duplicate for a null parent is not encrypted: no representation shows the private part."""
    assert repr(P256.private)[2:30] not in repr(P256)
    assert "private=" not in repr(P256)


WHOLE = made(
    fields={
        EMPTY_AUTH: TRUE,
        POLICY: policy([(AUTH_VALUE, b""), (PCR, b"\x00" * 10)]),
        DESCRIPTION: utf8("text"),
        RSA_PARENT: TRUE,
        6: octets(b"x"),
    }
)


@st.composite
def mutations(draw):
    """A key file with some bytes overwritten, removed or inserted, or with its end cut off."""
    data = bytearray(draw(st.sampled_from([WHOLE, made(), key_pem(WHOLE), vector("duplicate-importable.pem")])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        # Structure stands at the start of the file, and lengths at the start of what they measure.
        at = at % 64 if draw(st.booleans()) else at
        match draw(st.sampled_from(["overwrite", "remove", "insert", "cut"])):
            case "overwrite":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=2))
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del data[len(data) - draw(st.integers(0, 20)) :]
    return bytes(data)


def outcome(data):
    """The type of what comes of it: a key whose parts fit their sizes, or an error that names the file."""
    try:
        key = parse(data)
    except (KeyNotFoundError, UnsupportedKeyError, AmbiguousMatchError) as error:
        refused = error
    else:
        assert all(int.from_bytes(part[:2]) == len(part) - 2 for part in (key.public, key.private))
        assert 0x40000001 <= key.parent < 0x82000000
        assert key.description.isprintable()
        return TSS2Key
    assert "key.pem" in refused.message
    assert refused.hint
    return type(refused)


@settings(max_examples=500, deadline=None)
@given(mutations())
def test_damaged_files(data):
    """A damaged file is a key or one of three errors that name it; nothing else is ever raised."""
    outcome(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
@example(b"\x30\x80" + LOADABLE)
@example(b"\x30\x84\xff\xff\xff\xff" + LOADABLE)
@example(tlv(0x30, LOADABLE, b"\xbf\x87\xff\xff\xff\x7f\x00"))
@example(tlv(0x30, LOADABLE, explicit(1, b"\x30\x30" * 90)))
def test_random_content_of_a_block(content):
    """Any bytes at all in the block: the same promise."""
    assert outcome(key_pem(content)) is UnsupportedKeyError


def test_every_byte_overwritten():
    """Each byte of a file in turn, with its lowest and its highest bit turned over: both ends are reached."""
    seen = {
        outcome(bytes(WHOLE[:i] + bytes([WHOLE[i] ^ bit]) + WHOLE[i + 1 :]))
        for i in range(len(WHOLE))
        for bit in (1, 128)
    }
    assert {TSS2Key, UnsupportedKeyError} <= seen
