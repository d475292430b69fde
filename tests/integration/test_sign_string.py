"""`rolekey sign-string` and `rolekey read-certificate-data` in processes of their own, with keys of every kind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rolekey.certificates import read_certificates
from rolekey.sign_string import message_for
from rolekey.sigv4_x509 import verify_signature
from support.pkcs11_spy import PKCS11Calls
from support.pki import make_key, make_root
from support.process import rolekey
from support.tpm_keys import TPMKeys

VECTORS = Path(__file__).parents[1] / "vectors" / "official-helper"
RSA = ("--certificate", str(VECTORS / "rsa-client.crt"), "--private-key", str(VECTORS / "rsa-client.key"))
HASHES = {"SHA256": "sha256", "SHA384": "sha384", "SHA512": "sha512"}


def output_of(*words: str, environment=None) -> bytes:
    """What a command that succeeds prints, byte for byte."""
    outcome = rolekey(*words, environment=environment)
    assert (outcome.code, outcome.stderr) == (0, "")
    return outcome.stdout.encode()


def signature_of(*words: str, environment=None) -> bytes:
    """The signature that a command line makes."""
    return bytes.fromhex(output_of("sign-string", *words, "--format=text", environment=environment).decode())


# --- the official helper's bytes ---


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ([], "SHA256.json"),
        (["--format", "json"], "SHA256.json"),
        (["--format", "text"], "SHA256.text"),
        (["--format=bin", "--digest=SHA256"], "SHA256.bin"),
        (["--format=text", "--digest", "SHA512"], "SHA512.text"),
    ],
)
def test_the_helpers_signatures(words, output):
    """Byte for byte what the official helper prints for the same RSA key and flags; stderr is silent."""
    command = [sys.executable, "-m", "rolekey", "sign-string", *RSA, *words]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (VECTORS / f"sign-string-rsa-{output}").read_bytes()


def test_a_file_key_by_itself():
    """A key in a file is enough, and signs the same text as with its certificate."""
    assert output_of("sign-string", *RSA[2:]) == (VECTORS / "sign-string-rsa-SHA256.json").read_bytes()


@pytest.mark.parametrize("certificate", ["rsa-client.crt", "ec.crt"])
def test_the_helpers_certificate_data(certificate):
    """Byte for byte what the official helper prints for a file."""
    golden = VECTORS / f"read-certificate-data-{certificate.partition('.')[0].partition('-')[0]}.json"
    words = ("read-certificate-data", "--certificate", str(VECTORS / certificate))
    assert output_of(*words) == golden.read_bytes()


# --- every kind of key ---


@pytest.mark.parametrize("name", ["rsa2048", "p256", "p384", "p521", "mldsa44", "mldsa65", "mldsa87"])
def test_every_type_of_key(name, tmp_path):
    """Every type of key signs the helper's text, for each digest; the signature verifies."""
    certificate, key = make_root().issue(make_key(name)).write(tmp_path, "leaf")
    public_key = load_pem_private_key(key.read_bytes(), None).public_key()
    for digest, hash_name in HASHES.items():
        signature = signature_of("--certificate", str(certificate), "--private-key", str(key), "--digest", digest)
        verify_signature(public_key, signature, message_for(public_key), hash=hash_name)


def test_a_certificate_that_is_unfit():
    """A certificate that IAM Roles Anywhere would refuse, a CA's here, does not keep a key from being tried."""
    pair = ("--certificate", str(VECTORS / "ec.crt"), "--private-key", str(VECTORS / "ec.key"))
    (certificate,) = read_certificates(VECTORS / "ec.crt")
    public_key = certificate.public_key()
    verify_signature(public_key, signature_of(*pair), message_for(public_key))


@pytest.fixture
def counted(provisioned_token, pkcs11_spy, tmp_path):
    """Signs through pkcs11-spy; the signature, and the calls."""

    def sign(*words: str) -> tuple[bytes, PKCS11Calls]:
        log = tmp_path / "spy.log"
        environment = pkcs11_spy.environment(provisioned_token.module, log)
        signature = signature_of(*words, "--pkcs11-lib", str(pkcs11_spy.module), environment=environment)
        return signature, PKCS11Calls.read(log)

    return sign


@pytest.mark.rig("softhsm", "pkcs11-spy")
@pytest.mark.parametrize("label", ["rsa-2048", "p-256", "p-384", "always-auth"])
@pytest.mark.parametrize("place", ["in the token", "in a file", "nowhere"])
def test_one_private_key_operation(label, place, provisioned_token, counted):
    """A key in a token signs with one login and one private-key operation, wherever its certificate is.

    The text depends on the key where the certificate is in the token, as the official helper's does.
    """
    (certificate,) = read_certificates(provisioned_token.certificate(label))
    uri = provisioned_token.uri(label)
    words = {
        "in the token": ("--certificate", uri),
        "in a file": ("--certificate", str(provisioned_token.certificate(label)), "--private-key", uri),
        "nowhere": ("--private-key", uri),
    }
    signature, calls = counted(*words[place], "--digest=SHA384")
    message = message_for(certificate.public_key() if place == "in the token" else None)
    verify_signature(certificate.public_key(), signature, message, hash="sha384")
    assert (calls.count["C_SignInit"], calls.signatures, calls.logins["CKU_USER"]) == (1, 1, 1)
    assert calls.count["C_OpenSession"] == calls.count["C_CloseSession"]


@pytest.mark.rig("softhsm")
def test_a_wrong_pin_is_sent_once(provisioned_token, tmp_path):
    """A refused PIN ends the run with exit code 4, and the next run does not send it again."""
    (tmp_path / "pin").write_text("not-the-pin")
    (tmp_path / "pin").chmod(0o600)
    words = (
        *("sign-string", "--pkcs11-lib", str(provisioned_token.module)),
        *("--private-key", provisioned_token.uri("p-256", with_pin=False), "--pin-source", f"file:{tmp_path / 'pin'}"),
    )
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    first, second = (rolekey(*words, environment=environment) for _ in range(2))
    first.failed(4)
    assert "CKR_PIN_INCORRECT" in first.stderr
    second.failed(4)
    assert "CKR_PIN_INCORRECT" not in second.stderr


@pytest.mark.rig("softhsm")
def test_list_of_a_token(provisioned_token):
    """Every certificate that a URI selects is listed, without a PIN; each listed URI selects its certificate alone."""
    module = ("--pkcs11-lib", str(provisioned_token.module))
    listed = output_of("read-certificate-data", "--certificate", "pkcs11:token=rolekey-softhsm", *module).decode()
    uris = [line.removeprefix("URI: ") for line in listed.splitlines() if line.startswith("URI: ")]
    assert len(uris) > 2
    assert listed.startswith("Matching identities\n1) Hex Fingerprint: ")
    for uri in uris:
        alone = output_of("read-certificate-data", "--certificate", uri, *module).decode()
        assert [line for line in alone.splitlines() if line.startswith("URI: ")] == [f"URI: {uri}"]
    nothing = output_of("read-certificate-data", "--certificate", "pkcs11:token=rolekey-softhsm;object=no", *module)
    assert nothing == b"No matching identities\n"


@pytest.mark.rig("swtpm")
def test_a_key_in_a_tpm(swtpm):
    """A key in a TPM signs by itself and with its certificate, the same text for both."""
    made = TPMKeys(swtpm, make_root()).by_openssl("EC", "group:P-256")
    (certificate,) = read_certificates(made.certificate)
    public_key = certificate.public_key()
    alone = ("--private-key", made.private_key, "--tpm-tcti", swtpm.tcti)
    for words in (alone, (*alone, "--certificate", str(made.certificate))):
        verify_signature(public_key, signature_of(*words), message_for(public_key))


def test_another_keys_certificate(tmp_path):
    """A certificate of another key is refused with exit code 5, before anything is signed."""
    certificate, _ = make_root().issue().write(tmp_path, "other")
    outcome = rolekey("sign-string", "--certificate", str(certificate), *RSA[2:])
    outcome.failed(5)
    assert "does not belong to the certificate" in outcome.stderr


def test_a_named_identity(tmp_path):
    """Certificate and key can be those of an identity in the configuration file."""
    (tmp_path / "identities.toml").write_text(
        f"[web]\ncertificate = {json.dumps(RSA[1])}\nprivate-key = {json.dumps(RSA[3])}\n"
    )
    environment = {"ROLEKEY_CONFIG": str(tmp_path / "identities.toml")}
    assert output_of("sign-string", "web", environment=environment) == output_of("sign-string", *RSA)
    printed = output_of("read-certificate-data", "web", environment=environment)
    assert printed == (VECTORS / "read-certificate-data-rsa.json").read_bytes()


@pytest.mark.rig("softhsm")
def test_several_keys(provisioned_token):
    """Of several keys in a token none is chosen: they are listed, and nothing is signed."""
    words = (
        "--private-key",
        provisioned_token.uri("p-256").replace(";object=p-256", ""),
        "--pkcs11-lib",
        str(provisioned_token.module),
    )
    outcome = rolekey("sign-string", *words)
    outcome.failed(3)
    assert "private keys match" in outcome.stderr
    assert "name one with --private-key: pkcs11:" in outcome.stderr
