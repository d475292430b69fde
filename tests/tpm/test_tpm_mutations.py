"""Damaged key files on their whole way: a clear error, or a signature by the same key; nothing stays in the TPM."""

import base64

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolekey.errors import RolekeyError
from support.pki import make_root
from support.tpm_identity import identity_of
from support.tpm_keys import POLICY_PCR, UNDER_POLICY, TPMKeys, policy_field
from support.tss2_files import key_pem

EXAMPLES = 500
ORIGINS = ("P-256", "RSA", "importable", "policy")
# Mostly changes that leave the file readable, so that the TPM sees them.
COMMANDS = st.sampled_from(["flip"] * 8 + ["set"] * 3 + ["cut", "insert", "remove", "double"])


@pytest.fixture(scope="module")
def originals(swtpm):
    """Keys that sign, by what they are, with the DER of their files."""
    keys = TPMKeys(swtpm, make_root())
    parent = keys.storage_key(0x81000001)
    policy = keys.policy_digest(("tpm2_policypcr", "--pcr-list", "sha256:0"))
    fields = policy_field([(POLICY_PCR, keys.pcr_command(0))])
    made = {
        "P-256": keys.by_openssl("EC", "group:P-256"),
        "RSA": keys.by_openssl("RSA", "bits:2048"),
        "importable": keys.importable(parent),
        "policy": keys.by_tools(attributes=UNDER_POLICY, policy=policy, fields=fields),
    }
    swtpm.assert_clean()
    return {name: (key, der_of(swtpm.directory / key.private_key)) for name, key in made.items()}


def der_of(path):
    """What is between the lines of a PEM file."""
    lines = path.read_text().splitlines()
    return base64.b64decode("".join(line for line in lines if "-----" not in line))


@st.composite
def mutations(draw):
    """An origin, and some changes to its bytes, or none."""
    change = st.tuples(COMMANDS, st.integers(0, 4000), st.binary(min_size=1, max_size=4))
    changes = draw(st.lists(change, max_size=2))
    return draw(st.sampled_from(ORIGINS)), changes


def mutate(der, changes):
    """The bytes after the changes."""
    data = bytearray(der)
    for command, position, new in changes:
        at = position % max(1, len(data))
        if command == "cut":
            del data[at:]
        elif command == "flip" and data:
            data[at] ^= new[0] or 1
        elif command == "set":
            data[at : at + len(new)] = new
        elif command == "insert":
            data[at:at] = new
        elif command == "remove":
            del data[at : at + len(new)]
        else:
            data[at:at] = data[at : at + 16]
    return bytes(data)


def verify(public_key, signature):
    """By cryptography alone."""
    if isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    else:
        public_key.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


def test_mutations(swtpm, originals, tmp_path):
    """Of 500 damaged files each is an error of ours with a remedy, or the key in it signs as before."""
    signed, refused = [], []

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutations())
    def try_one(mutation):
        origin, changes = mutation
        made, der = originals[origin]
        file = tmp_path / "mutated.key"
        file.write_bytes(key_pem(mutate(der, changes)))
        try:
            with identity_of(swtpm, made, private_key=str(file), seconds=20) as identity:
                signature = identity.signer.sign(b"message")
        except RolekeyError as error:
            refused.append((error.message, error.hint))
            return
        verify(made.public_key, signature)
        signed.append(mutation)

    try_one()
    assert len(signed) + len(refused) >= EXAMPLES
    assert signed, "no file was as good as the original"
    assert all(message and hint for message, hint in refused)
    assert sum("the TPM answered" in message for message, _ in refused) > EXAMPLES // 10, "the TPM saw hardly any"
    swtpm.assert_clean()
    assert swtpm.lockout_counter() == 0


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_originals(tpm, originals, origin, tmp_path):
    """The files that are damaged above sign when they are not."""
    made, der = originals[origin]
    file = tmp_path / "same.key"
    file.write_bytes(key_pem(der))
    with identity_of(tpm, made, private_key=str(file)) as identity:
        verify(made.public_key, identity.signer.sign(b"message"))
