"""Policies as key files list them: what can be executed, and that they are the key's own. Without a TPM."""

import hashlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekey.errors import RolekeyError, UnsupportedKeyError
from rolekey.signers.tpm_policy import PolicyStep, policy_of
from rolekey.tss2_key import PolicyCommand

PCR, AUTH_VALUE, PASSWORD, COMMAND_CODE = 0x17F, 0x16B, 0x18C, 0x16C
SELECTION = bytes.fromhex("00000001 000b 03 810000")
VALUES = hashlib.sha256(b"values").digest()
USER_WITH_AUTH = 1 << 6


def extended(*parts, algorithm="sha256"):
    """A policy's digest, as the TPM extends it."""
    digest = bytes(hashlib.new(algorithm).digest_size)
    for part in parts:
        digest = hashlib.new(algorithm, digest + part).digest()
    return digest


def policy(commands, auth_policy, attributes=0, algorithm="sha256"):
    """policy_of() with just the fields that it looks at."""
    file = SimpleNamespace(policy=tuple(PolicyCommand(code, body) for code, body in commands))
    area = SimpleNamespace(attributes=attributes, auth_policy=auth_policy, name_algorithm=algorithm)
    return policy_of(file, area, "the key")


@pytest.mark.parametrize("body", [len(VALUES).to_bytes(2) + VALUES + SELECTION, SELECTION + VALUES])
def test_pcrs(body):
    """PolicyPCR is read as the command's parameters and as what is hashed: the key's digest says which it is."""
    expected = extended(PCR.to_bytes(4) + SELECTION + VALUES)
    assert policy([(PCR, body)], expected) == (PolicyStep(PCR, SELECTION, VALUES),)
    assert str(PolicyStep(PCR, SELECTION, VALUES)) == "PCRs sha256:0,7"


def test_pcrs_of_several_banks():
    """All banks of a selection are read and named."""
    selection = bytes.fromhex("00000002 0004 03 000080 000b 03 000000")
    body = selection + VALUES
    (step,) = policy([(PCR, body)], extended(PCR.to_bytes(4) + body))
    assert str(step) == "PCRs sha1:23+sha256:"


@pytest.mark.parametrize("code", [AUTH_VALUE, PASSWORD])
def test_passwords(code):
    """PolicyAuthValue and PolicyPassword need the password, and are one to the key's digest."""
    (step,) = policy([(code, b"")], extended(AUTH_VALUE.to_bytes(4)))
    assert step.needs_password


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_several_commands(algorithm):
    """The commands extend the digest in order, with the hash of the key's Name."""
    sign = COMMAND_CODE.to_bytes(4) + (0x15D).to_bytes(4)
    expected = extended(sign, AUTH_VALUE.to_bytes(4), algorithm=algorithm)
    commands = [(COMMAND_CODE, (0x15D).to_bytes(4)), (AUTH_VALUE, b"")]
    assert len(policy(commands, expected, algorithm=algorithm)) == 2
    with pytest.raises(UnsupportedKeyError, match="not the policy of the key"):
        policy(commands[::-1], expected, algorithm=algorithm)


def test_a_key_that_its_password_opens():
    """A key with userWithAuth is used without its policy, whatever that is for."""
    assert policy([(0x160, b"anything")], b"", attributes=USER_WITH_AUTH) == ()


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ([], "userWithAuth is clear"),
        ([(AUTH_VALUE, b"")] * 17, "userWithAuth is clear"),
        ([(0x151, b"")], r"has PolicySecret \(TPM_CC 0x151\)"),
        ([(0x160, b"")], "has PolicySigned"),
        ([(0x16A, b"")], "has PolicyAuthorize"),
        ([(0x171, b"")], "has PolicyOR"),
        ([(0x999, b"")], r"has an unknown command \(TPM_CC 0x999\)"),
        ([(COMMAND_CODE, (0x159).to_bytes(4))], "does not allow signatures"),
        ([(AUTH_VALUE, b"")], "not the policy of the key"),
        ([(PCR, b"")], "not the policy of the key"),
        ([(PCR, SELECTION)], "not the policy of the key"),
    ],
)
def test_policies_that_are_refused(commands, message):
    """What cannot be executed, or is not the key's, is refused with its name."""
    with pytest.raises(UnsupportedKeyError, match=message):
        policy(commands, bytes(32))


@given(st.lists(st.tuples(st.sampled_from([PCR, AUTH_VALUE, COMMAND_CODE, 0x151]), st.binary(max_size=80)), max_size=4))
def test_any_policy(commands):
    """Any list of commands is an error of ours, unless it is the key's."""
    with pytest.raises(RolekeyError):
        policy(commands, bytes(32))
