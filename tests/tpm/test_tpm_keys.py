"""TPM keys of every origin sign: made by OpenSSL and tpm2-tools, verified by cryptography and by OpenSSL."""

import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.der import utf8
from support.pki import make_root
from support.tpm_identity import identity_of, password_file
from support.tpm_keys import (
    ENDORSEMENT,
    NULL,
    OWNER,
    PLATFORM,
    POLICY_AUTH_VALUE,
    POLICY_PCR,
    UNDER_POLICY,
    TPMKeys,
    policy_field,
)
from support.tss2_files import DESCRIPTION, RSA_PARENT, TRUE


@pytest.fixture(scope="module")
def keys(swtpm):
    """What makes keys in the module's TPM."""
    return TPMKeys(swtpm, make_root())


def check(tpm, made, **options):
    """Sign, and have both cryptography and OpenSSL verify."""
    with identity_of(tpm, made, **options) as identity:
        signature = identity.signer.sign(b"message")
    if isinstance(made.public_key, rsa.RSAPublicKey):
        made.public_key.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    else:
        made.public_key.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))
    openssl_verifies(tpm.directory, made.public_key, signature)


def openssl_verifies(directory, public_key, signature):
    """OpenSSL, without the TPM, says the same."""
    (directory / "verify.pub").write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (directory / "verify.sig").write_bytes(signature)
    words = ["openssl", "dgst", "-sha256", "-verify", "verify.pub", "-signature", "verify.sig"]
    done = subprocess.run(words, cwd=directory, input=b"message", capture_output=True, check=False)
    assert done.stdout == b"Verified OK\n"


@pytest.mark.parametrize("options", [("EC", "group:P-256"), ("EC", "group:P-384"), ("RSA", "bits:2048")], ids="-".join)
def test_files_of_openssl(tpm, keys, options):
    """What `openssl genpkey -provider tpm2` writes signs as it is."""
    check(tpm, keys.by_openssl(*options))


@pytest.mark.parametrize("algorithm", ["ecc256:ecdsa-sha256", "ecc384", "ecc521", "rsa2048:rsassa-sha256", "rsa3072"])
def test_files_of_tpm2_tools(tpm, keys, algorithm):
    """What `tpm2_create` makes signs, with a scheme of its own and without."""
    check(tpm, keys.by_tools(algorithm))


@pytest.mark.parametrize("algorithm", ["ecc256", "ecc384", "ecc521", "rsa2048", "rsa3072"])
def test_handles(tpm, keys, algorithm):
    """A key that the TPM keeps signs, of each type; its handle is written with 0x and without."""
    made = keys.by_tools(algorithm, handle=0x81010001)
    try:
        check(tpm, made, no_tpm_key_password=True)
        check(tpm, made, no_tpm_key_password=True, private_key="handle:81010001")
    finally:
        tpm.run("tpm2_evictcontrol", "--object-context", "0x81010001")


@pytest.mark.parametrize("hierarchy", [OWNER, ENDORSEMENT, NULL, PLATFORM], ids=hex)
def test_hierarchies(tpm, keys, hierarchy):
    """A key under the standard key of each hierarchy is loaded."""
    check(tpm, keys.by_tools(parent=hierarchy))


def test_rsa_parent(tpm, keys):
    """The field rsaParent means the standard key of RSA."""
    made = keys.by_tools(rsa_parent=True, fields={RSA_PARENT: TRUE})
    check(tpm, made)


def test_description(tpm, keys):
    """A file with a description signs."""
    check(tpm, keys.by_tools(fields={DESCRIPTION: utf8("the web server's key")}))


@pytest.fixture(scope="module")
def storage_key(keys):
    """A persistent storage key."""
    return keys.storage_key(0x81000001)


def test_persistent_parent(tpm, keys, storage_key):
    """A key under a parent that the TPM keeps is loaded."""
    check(tpm, keys.by_tools(parent=storage_key))


def test_importable(tpm, keys, storage_key):
    """A key that was wrapped elsewhere for a parent in this TPM is imported, loaded and signs."""
    check(tpm, keys.importable(storage_key))


def test_policies(tpm, keys):
    """PolicyPCR in both of its spellings, and PolicyAuthValue with a password, are executed."""
    pcrs = ("tpm2_policypcr", "--pcr-list", "sha256:0,7")
    for hashed in (False, True):
        body = keys.pcr_command(0, 7, hashed=hashed)
        made = keys.by_tools(
            attributes=UNDER_POLICY,
            policy=keys.policy_digest(pcrs),
            fields=policy_field([(POLICY_PCR, body)]),
        )
        check(tpm, made)
    body = keys.pcr_command(0, 7)
    made = keys.by_tools(
        attributes=UNDER_POLICY,
        password="secret",
        policy=keys.policy_digest(pcrs, ("tpm2_policyauthvalue",)),
        fields=policy_field([(POLICY_PCR, body), (POLICY_AUTH_VALUE, b"")]),
    )
    check(tpm, made, pin_source=password_file(tpm.directory, "secret"))


def test_passwords(tpm, keys):
    """The password of a key is taken from its source, in files of both programs and for a handle."""
    check(
        tpm, keys.by_openssl("EC", "group:P-256", password="secret"), pin_source=password_file(tpm.directory, "secret")
    )
    check(tpm, keys.by_tools(password="secret"), pin_source=password_file(tpm.directory, "secret"))
    made = keys.by_tools(password="secret", handle=0x81010002)
    check(tpm, made, pin_source=password_file(tpm.directory, "secret"))


def test_password_of_a_parent(tpm, keys):
    """A parent with a password is used with its own source's."""
    parent = keys.storage_key(0x81000002, "parent")
    made = keys.by_tools(parent=parent, parent_password="parent", password="secret")
    check(
        tpm,
        made,
        pin_source=password_file(tpm.directory, "secret"),
        tpm_parent_password_source=password_file(tpm.directory, "parent"),
    )


def test_password_of_a_hierarchy(tpm, keys):
    """A hierarchy with a password makes the parent with it."""
    tpm.run("tpm2_changeauth", "--object-context", "owner", "owner")
    try:
        made = keys.by_tools(parent_password="owner")
        check(tpm, made, tpm_parent_password_source=password_file(tpm.directory, "owner"))
    finally:
        tpm.run("tpm2_changeauth", "--object-context", "owner", "--object-auth", "owner")
