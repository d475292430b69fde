"""Malformed, hostile and huge requests: always an answer in the service's form, never a failure of the emulator."""

import base64
import itertools
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from rolekey.emulator.certificates import MalformedCertificateError, read_certificate
from rolekey.emulator.refusals import Origin, Reason
from support.emulator_caller import Wire, make_caller, send
from support.pki import make_root

CALLER = make_caller()
WIRE = CALLER.wire(body={"durationSeconds": 900})
NAMES = ["host", "content-type", "x-amz-date", "x-amz-x509", "x-amz-x509-chain", "authorization"]


def assert_refused(wire: Wire) -> str:
    answer = send(CALLER.app(), wire)
    assert 400 <= answer.status < 500
    assert answer.headers["x-amzn-errortype"].endswith("Exception")
    assert answer.document.keys() == {"message"}
    return answer.document["message"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value", ["", " ", "\x00", "\xff\xfe", "=", ",", ",,,,,,,,", "A" * 60_000, "/" * 60_000, "%s%n"]
)
def test_a_nonsense_header_is_refused(name, value):
    """Empty, binary, huge: every header that is looked at may hold anything."""
    assert_refused(WIRE.with_header(name, value))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "x-amz-x509-chain"])
def test_a_header_that_is_sent_twice_is_refused(name):
    """Which of two would count must not be a question."""
    again = replace(WIRE, headers=(*WIRE.headers, (name.encode(), WIRE.header(name).encode())))
    assert assert_refused(again) == f"The header {name} was sent more than once"


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80\x00\x00",
        b"\x30\x82\x10\x00" + bytes(4096),
        b"-----BEGIN CERTIFICATE-----",
        CALLER.leaf.der[:-1],
        CALLER.leaf.der + b"\x00",
        CALLER.leaf.der * 2,
        bytes(40_000),
    ],
)
def test_what_is_no_certificate_is_refused(der):
    """Cut off, padded, doubled or no DER at all, in either header."""
    text = base64.b64encode(der).decode()
    for name in ("x-amz-x509", "x-amz-x509-chain"):
        assert assert_refused(WIRE.with_header(name, text)) == f"{name} does not hold base64 of a DER certificate"


@pytest.mark.parametrize("change", ["{}\n", "{}=", "-{}", "{} {}", "_{}"])
def test_base64_is_strict(change):
    """Line ends, wrong padding and the URL alphabet are no standard base64."""
    text = change.replace("{}", CALLER.leaf.base64)
    assert assert_refused(WIRE.with_header("x-amz-x509", text)).startswith("x-amz-x509 does not hold base64")


def test_every_damaged_certificate_is_read_or_refused():
    """Each byte of a certificate changed in two ways: it can still be read, or it is malformed, and nothing else."""
    der = CALLER.root.issue("p256", common_name="damaged").der
    outcomes = {"read": 0, "malformed": 0}
    for position, bit in itertools.product(range(len(der)), (0x01, 0x80)):
        try:
            read_certificate(der[:position] + bytes([der[position] ^ bit]) + der[position + 1 :])
            outcomes["read"] += 1
        except MalformedCertificateError:
            outcomes["malformed"] += 1
    assert outcomes["read"] > 100
    assert outcomes["malformed"] > 100


@given(st.binary(max_size=200), st.sampled_from(NAMES))
@settings(max_examples=200, deadline=None)
def test_any_bytes_in_a_header_are_answered(value, name):
    """No header's bytes make the emulator fail."""
    sent = dict(WIRE.headers).get(name.encode())
    if value.strip() != sent:
        assert_refused(WIRE.with_header(name, value))


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_body_is_answered(body):
    """No body makes the emulator fail; none but the signed one is accepted."""
    assert_refused(replace(WIRE, body=body))


@given(st.binary(max_size=200).filter(lambda raw: b"#" not in raw))
@settings(max_examples=200, deadline=None)
def test_any_query_is_answered(raw):
    """No query makes the emulator fail."""
    assert_refused(replace(WIRE, query=raw))


@pytest.mark.parametrize("depth", [10, 500, 900, 950, 980, 990, 2000, 20_000, 200_000])
@pytest.mark.parametrize("name", ["roleArn", "durationSeconds", "roleSessionName", "instanceProperties"])
def test_a_nested_member_is_refused(name, depth):
    """However deep, around the depth at which Python itself gives up, too."""
    assert_refused(replace(WIRE, body=b'{"%s": ' % name.encode() + b"[" * depth + b"]" * depth + b"}"))


def test_a_long_arn_takes_no_time():
    """A mebibyte of colons is refused by its length."""
    body = b'{"roleArn": "arn:aws:iam' + b":" * 1_000_000 + b'"}'
    assert "Member must have length" in assert_refused(
        replace(WIRE, query=b"", body=body.replace(b"roleArn", b"trustAnchorArn"))
    )


def test_a_body_above_a_mebibyte_is_refused():
    """The application bounds its memory even where the server does not."""
    assert assert_refused(replace(WIRE, body=b" " * (1024 * 1024 + 1))) == "The body is too large"


def test_an_unusual_key_is_insufficient():
    """A certificate with a key that no algorithm name is for is refused for that reason."""
    leaf = CALLER.root.issue(ed25519.Ed25519PrivateKey.generate())  # type: ignore[arg-type]
    message = assert_refused(WIRE.with_header("x-amz-x509", leaf.base64))
    assert message == "Untrusted certificate. Insufficient certificate"


def test_a_chain_of_a_hundred_same_names_ends():
    """Certificates that all have each other's names cost no more than the five that are looked at."""
    root = make_root(common_name="same")
    chain = [make_root(root.key, "same").base64 for _ in range(5)]
    assert assert_refused(WIRE.with_header("x-amz-x509-chain", ",".join(chain)))


def test_every_message_says_whose_words_it_is():
    """The table marks each wording as the service's or as ours, and a few are the service's word for word."""
    service = {reason.value.text for reason in Reason if reason.value.origin is Origin.SERVICE}
    assert {
        "Untrusted signing certificate",
        "Untrusted certificate. Insufficient certificate",
        "Invalid signature",
        "Certificate revoked",
        "Specified Trust Anchor wasn't found.",
        "Invalid or empty profile provided.",
        "Requested Role isn't one of those listed in the Profile.",
        "Not authorized to set roleSessionName",
    } <= service
    assert "Certificate expired" not in service
