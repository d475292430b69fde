"""TPM keys that cannot be used: restricted, with another scheme, under a policy that is not met, of another TPM."""

import pytest

from rolekey.errors import (
    AmbiguousMatchError,
    CertificateError,
    KeyNotFoundError,
    TokenOperationError,
    UnsupportedKeyError,
)
from support.pki import make_root
from support.swtpm import running_swtpm
from support.tpm_identity import identity_of, password_file
from support.tpm_keys import (
    POLICY_AUTH_VALUE,
    POLICY_COMMAND_CODE,
    POLICY_PCR,
    SIGNING,
    UNDER_POLICY,
    TPMKeys,
    policy_field,
)
from support.tss2_files import EMPTY_AUTH, RSA_PARENT, TRUE

HANDLE = 0x81010001


@pytest.fixture(scope="module")
def keys(swtpm):
    """What makes keys in the module's TPM."""
    return TPMKeys(swtpm, make_root())


ATTRIBUTES = {
    "restricted": ("ecc256:ecdsa-sha256:null", f"{SIGNING}|restricted", "attribute restricted"),
    "decrypt only": ("rsa2048", SIGNING.replace("sign", "decrypt"), "attribute sign is clear"),
    "key agreement": ("ecc256:ecdh", SIGNING.replace("sign", "decrypt"), "attribute sign is clear"),
    "RSAPSS": ("rsa2048:rsapss-sha256:null", SIGNING, "the scheme rsapss-sha256 only"),
    "ECDAA": ("ecc256:ecdaa", SIGNING, "the scheme ecdaa-sha256 only"),
}


@pytest.mark.parametrize(("algorithm", "attributes", "named"), ATTRIBUTES.values(), ids=ATTRIBUTES)
@pytest.mark.parametrize("kept", [False, True], ids=["file", "handle"])
def test_attributes(tpm, keys, algorithm, attributes, named, kept):
    """A key that may not sign as it must is refused before anything is loaded, with the attribute's name."""
    made = keys.by_tools(algorithm, attributes=attributes, handle=HANDLE if kept else None)
    try:
        with pytest.raises(UnsupportedKeyError) as caught:
            identity_of(tpm, made, no_tpm_key_password=True)
        assert named in str(caught.value)
    finally:
        if kept:
            tpm.run("tpm2_evictcontrol", "--object-context", f"{HANDLE:#x}")


def test_hashes_of_schemes(tpm, keys):
    """A scheme with another hash is refused where the signature would be another, and used where it is the same.

    ECDSA knows no hash but a number, which is the same for SHA-256 on a longer curve.
    """
    for algorithm in ("rsa2048:rsassa-sha384", "ecc256:ecdsa-sha384"):
        with (
            identity_of(tpm, keys.by_tools(algorithm)) as identity,
            pytest.raises(UnsupportedKeyError, match="-sha384 only, and not with sha256"),
        ):
            identity.sign("text")
    for algorithm in ("ecc384:ecdsa-sha384", "ecc521:ecdsa-sha512", "ecc521:ecdsa-sha384", "ecc384:ecdsa-sha256"):
        with identity_of(tpm, keys.by_tools(algorithm)) as identity:
            identity.sign("text")


def test_policies_that_are_not_executed(tpm, keys):
    """A policy with another command is refused with its name."""
    body = (1).to_bytes(1)
    digest = keys.policy_digest(("tpm2_policylocality", "zero"))
    made = keys.by_tools(attributes=UNDER_POLICY, policy=digest, fields=policy_field([(0x16F, body)]))
    with pytest.raises(UnsupportedKeyError, match=r"has PolicyLocality \(TPM_CC 0x16f\)"):
        identity_of(tpm, made)


def test_policies_for_other_commands(tpm, keys):
    """A policy for another command than TPM2_Sign is refused; one for TPM2_Sign is executed."""
    for word, code in ("TPM2_CC_Sign", 0x15D), ("TPM2_CC_Quote", 0x158):
        digest = keys.policy_digest(("tpm2_policycommandcode", word))
        fields = policy_field([(POLICY_COMMAND_CODE, code.to_bytes(4))])
        made = keys.by_tools(attributes=UNDER_POLICY, policy=digest, fields=fields)
        if code == 0x15D:
            with identity_of(tpm, made) as identity:
                identity.sign("text")
        else:
            with pytest.raises(UnsupportedKeyError, match="PolicyCommandCode 00000158"):
                identity_of(tpm, made)


def test_unknown_policies(tpm, keys):
    """A key under a policy that the file does not list, or lists otherwise, is refused; so is one behind a handle."""
    digest = keys.policy_digest(("tpm2_policyauthvalue",))
    made = keys.by_tools(attributes=UNDER_POLICY, policy=digest)
    with pytest.raises(UnsupportedKeyError, match="userWithAuth is clear"):
        identity_of(tpm, made)
    fields = policy_field([(POLICY_AUTH_VALUE, b""), (POLICY_AUTH_VALUE, b"")])
    made = keys.by_tools(attributes=UNDER_POLICY, policy=digest, fields=fields)
    with pytest.raises(UnsupportedKeyError, match="not the policy of the key"):
        identity_of(tpm, made)
    made = keys.by_tools(attributes=UNDER_POLICY, policy=digest, handle=HANDLE)
    with pytest.raises(UnsupportedKeyError, match="userWithAuth is clear"):
        identity_of(tpm, made, no_tpm_key_password=True)
    tpm.run("tpm2_evictcontrol", "--object-context", f"{HANDLE:#x}")


def test_a_policy_that_is_not_met(tpm, keys):
    """When the PCRs have other values the error says which; a wrong password of a policy is one of the key."""
    pcrs = ("tpm2_policypcr", "--pcr-list", "sha256:16,23")
    body = keys.pcr_command(16, 23)
    digest = keys.policy_digest(pcrs, ("tpm2_policyauthvalue",))
    fields = policy_field([(POLICY_PCR, body), (POLICY_AUTH_VALUE, b"")])
    made = keys.by_tools(attributes=UNDER_POLICY, password="secret", policy=digest, fields=fields)
    source = password_file(tpm.directory, "secret")
    with identity_of(tpm, made, pin_source=source) as identity:
        identity.sign("text")
        tpm.run("tpm2_pcrextend", f"23:sha256={'ab' * 32}")
        with pytest.raises(TokenOperationError, match=r"PCRs sha256:16,23 have other values"):
            identity.sign("text")
    assert tpm.lockout_counter() == 0


def test_keys_of_another_tpm(tpm, keys, tmp_path):
    """A key file of another TPM, or under another parent, is told as such."""
    with running_swtpm(tmp_path) as other:
        stranger = TPMKeys(other, make_root()).by_openssl("EC", "group:P-256")
        with identity_of(tpm, stranger) as identity, pytest.raises(KeyNotFoundError, match="INTEGRITY") as caught:
            identity.sign("text")
        assert "made in another TPM" in caught.value.hint
    made = keys.by_tools(fields={RSA_PARENT: TRUE})
    with identity_of(tpm, made) as identity, pytest.raises(KeyNotFoundError, match="INTEGRITY"):
        identity.sign("text")


def test_a_parent_that_is_not_there(tpm, keys):
    """A key under a persistent parent that the TPM does not have names the parent."""
    parent = keys.storage_key(0x81000005)
    made = keys.by_tools(parent=parent)
    tpm.run("tpm2_evictcontrol", "--object-context", f"{parent:#x}")
    with (
        identity_of(tpm, made) as identity,
        pytest.raises(KeyNotFoundError, match="the parent 0x81000005 of the TPM key"),
    ):
        identity.sign("text")


def test_a_parent_that_is_no_parent(tpm, keys):
    """A key under a persistent object that is no storage key is refused."""
    made = keys.by_tools(parent=keys.storage_key(0x81000005))
    tpm.run("tpm2_evictcontrol", "--object-context", "0x81000005")
    keys.by_tools(handle=0x81000005)
    with identity_of(tpm, made) as identity, pytest.raises(UnsupportedKeyError, match="TPM_RC_TYPE"):
        identity.sign("text")
    tpm.run("tpm2_evictcontrol", "--object-context", "0x81000005")


def test_certificate_and_key_of_two_pairs(tpm, keys):
    """A key that is not the certificate's is refused, for files without a word to the TPM."""
    made, other = keys.by_openssl("EC", "group:P-256"), keys.by_openssl("EC", "group:P-256")
    with pytest.raises(CertificateError, match="does not belong to the certificate"):
        identity_of(tpm, made, certificate=str(other.certificate), tpm_tcti="swtpm:port=1")


def test_two_keys_in_a_file(tpm, keys):
    """A file with two keys is refused."""
    made, other = keys.by_openssl("EC", "group:P-256"), keys.by_openssl("EC", "group:P-256")
    both = tpm.directory / "both.key"
    both.write_bytes(b"".join((tpm.directory / path).read_bytes() for path in (made.private_key, other.private_key)))
    with pytest.raises(AmbiguousMatchError):
        identity_of(tpm, made, private_key=str(both))


def test_key_and_certificate_in_one_file(tpm, keys):
    """One file with both is named once."""
    made = keys.by_tools(fields={EMPTY_AUTH: TRUE})
    both = tpm.directory / "one.pem"
    both.write_bytes(b"the key:\n" + (tpm.directory / made.private_key).read_bytes() + made.certificate.read_bytes())
    with identity_of(tpm, made, private_key=str(both), certificate=None) as identity:
        identity.sign("text")
