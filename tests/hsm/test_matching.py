"""How certificate and key find each other in a token, and what happens where more than one could be meant."""

import os
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.emulator import running_emulator
from support.null_parameters import with_null_parameters
from support.pkcs11_spy import PKCS11Calls
from support.pki import make_root
from support.process import GENEROUS, rolekey
from support.softhsm import OBJECT_IDS

pytestmark = pytest.mark.rig("softhsm", "emulator")


@pytest.fixture
def token(provisioned_token, tmp_path):
    """A token to be changed."""
    return provisioned_token.copy(tmp_path / "changed")


@pytest.fixture(scope="module")
def emulator(provisioned_token):
    with running_emulator(provisioned_token.root) as running:
        yield running


@pytest.fixture
def fetch(token, emulator, pkcs11_spy, tmp_path):
    def fetch(*more):
        module, log = pkcs11_spy.module, tmp_path / "spy.log"
        outcome = rolekey(
            "credential-process",
            *emulator.arguments,
            *("--pkcs11-lib", str(module), "--intermediates", str(token.intermediate)),
            *more,
            environment={**token.environment, **pkcs11_spy.environment(token.module, log)},
        )
        return outcome, PKCS11Calls.read(log)

    return fetch


def pkcs11_tool(token, *words):
    command = ["pkcs11-tool", "--module", str(token.module), "--login", "--pin", token.user_pin, *words]
    environment = {"PATH": os.environ["PATH"], **token.environment}
    subprocess.run(command, env=environment, check=True, capture_output=True)


def replace_certificate(token, label, tmp_path, *words):
    pkcs11_tool(token, "--delete-object", "--type", "cert", "--label", label)
    der = tmp_path / "certificate.der"
    source = str(token.certificate(label))
    subprocess.run(["openssl", "x509", "-in", source, "-outform", "DER", "-out", str(der)], check=True)
    pkcs11_tool(token, "--write-object", str(der), "--type", "cert", *words)


@pytest.mark.rig("openssl")
@pytest.mark.parametrize("label", ["rsa-2048", "p-256"])
def test_private_certificate(token, fetch, tmp_path, label):
    """A certificate that only a login shows is found after the one login that the key needs anyway."""
    replace_certificate(token, label, tmp_path, "--private", "--label", label, "--id", "77")
    outcome, calls = fetch("--private-key", token.uri(label))
    assert outcome.credentials["SessionToken"]
    assert calls.logins == {"CKU_USER": 1}
    assert calls.signatures == 1


@pytest.mark.rig("openssl")
@pytest.mark.parametrize("label", ["rsa-2048", "p-256"])
def test_certificate_by_another_name(token, fetch, tmp_path, label):
    """A certificate whose label and id are not the key's is found by its public key; one login, one signature."""
    replace_certificate(token, label, tmp_path, "--label", "Certificate for Authentication", "--id", "77")
    outcome, calls = fetch("--private-key", token.uri(label))
    assert outcome.credentials["SessionToken"]
    assert calls.logins == {"CKU_USER": 1}
    assert calls.signatures == 1


def hide_public_key(token, label, tmp_path):
    """Make a public key an object that is shown after a login only."""
    key = x509.load_pem_x509_certificate(token.certificate(label).read_bytes()).public_key()
    der = tmp_path / "public.der"
    der.write_bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    pkcs11_tool(token, "--delete-object", "--type", "pubkey", "--label", label)
    name = ("--label", label, "--id", OBJECT_IDS[label].hex())
    pkcs11_tool(token, "--write-object", str(der), "--type", "pubkey", *name, "--private")


def test_private_public_keys(token, fetch, tmp_path):
    """Where public keys, too, are shown after a login only, the key is found by them all the same."""
    for label in ("p-256", "p-384", "p-521", "always-auth"):
        hide_public_key(token, label, tmp_path)
    key = token.uri("p-384").replace(";object=p-384", "")
    outcome, calls = fetch("--certificate", str(token.certificate("p-384")), "--private-key", key)
    assert outcome.credentials["SessionToken"]
    assert calls.logins == {"CKU_USER": 1}
    assert calls.signatures == 1


@pytest.mark.rig("openssl")
def test_key_by_another_name(token, fetch, tmp_path):
    """Named by its certificate alone, the key is found by its public key, whatever it is called."""
    replace_certificate(token, "p-384", tmp_path, "--label", "Certificate for Authentication", "--id", "77")
    uri = token.uri("p-384").replace("object=p-384", "object=Certificate%20for%20Authentication")
    outcome, _ = fetch("--certificate", uri)
    assert outcome.credentials["SessionToken"]


def test_no_certificate_at_all(token, fetch):
    """A key without a certificate in the token: the error says how to name a file."""
    pkcs11_tool(token, "--delete-object", "--type", "cert", "--label", "p-521")
    outcome, calls = fetch("--private-key", token.uri("p-521"))
    outcome.failed(5, "holds no certificate for the key p-521", "--certificate FILE")
    assert calls.signatures == 0


def add_twin(token):
    """A second token with the same label in the same module, without a user PIN and keys."""
    words = ["--init-token", "--label", token.label, "--so-pin", "87654321"]
    command = ["pkcs11-tool", "--module", str(token.module), "--slot-index", "1", *words]
    subprocess.run(command, env={"PATH": os.environ["PATH"], **token.environment}, check=True, capture_output=True)


def test_two_tokens_with_one_label(token, fetch):
    """Two tokens that match: the certificate's own token is taken."""
    add_twin(token)
    outcome, _ = fetch("--private-key", token.uri("p-256"))
    assert outcome.credentials["SessionToken"]


def test_two_tokens_and_a_certificate_file(token, fetch):
    """With the certificate in a file, the token that shows its public key is taken."""
    add_twin(token)
    outcome, _ = fetch("--private-key", token.uri("p-256"), "--certificate", str(token.certificate("p-256")))
    assert outcome.credentials["SessionToken"]


def test_two_tokens_and_nothing_to_tell_them_apart(token, fetch):
    """Nothing tells which token: none is logged in to; the hint lists URIs, each of which selects one."""
    pkcs11_tool(token, "--delete-object", "--type", "pubkey", "--label", "p-256")
    add_twin(token)
    certificate = ("--certificate", str(token.certificate("p-256")))
    outcome, calls = fetch("--private-key", token.uri("p-256"), *certificate)
    outcome.failed(3, "2 tokens match")
    assert calls.logins.total() == 0
    uris = [word for word in outcome.stderr.split() if word.startswith("pkcs11:") and "serial=" in word]
    assert len(uris) == 2
    query = f";object=p-256?pin-source=file:{token.pin_file}"
    results = [fetch("--private-key", uri + query, *certificate)[0] for uri in uris]
    assert sorted(result.code for result in results) == [0, 4]
    assert any("user PIN" in result.stderr for result in results)


def test_null_parameters_in_the_token(token, tmp_path):
    """A certificate with a NULL beside ecdsa-with-SHA256 is found in a token and sent as its issuer signed it."""
    certificate = x509.load_pem_x509_certificate(token.certificate("p-256").read_bytes())
    issuer = make_root(subject=certificate.issuer)
    pkcs11_tool(token, "--delete-object", "--type", "cert", "--label", "p-256")
    der = tmp_path / "leaf.der"
    der.write_bytes(with_null_parameters(certificate, issuer.key))
    pkcs11_tool(token, "--write-object", str(der), "--type", "cert", "--label", "p-256", "--id", "77")
    trust_anchor, _ = issuer.write(tmp_path, "issuer")
    with running_emulator(trust_anchor) as emulator:
        arguments = ("--pkcs11-lib", str(token.module), "--private-key", token.uri("p-256"))
        outcome = rolekey("credential-process", *emulator.arguments, *arguments, environment=token.environment)
        assert outcome.credentials["SessionToken"]


def test_intermediates_from_the_token(token, emulator, tmp_path):
    """The issuers on the path are taken from the token where no option names them; strangers are not sent."""
    issuer = x509.load_pem_x509_certificate(token.intermediate.read_bytes())
    for name, certificate in (("stranger", make_root().issue_authority().certificate), ("issuer", issuer)):
        der = tmp_path / f"{name}.der"
        der.write_bytes(certificate.public_bytes(Encoding.DER))
        pkcs11_tool(token, "--write-object", str(der), "--type", "cert", "--label", name, "--id", "99")
    arguments = ("--pkcs11-lib", str(token.module), "--private-key", token.uri("p-256"))
    environment = {**token.environment, "XDG_STATE_HOME": str(tmp_path / "state")}
    outcome = rolekey("credential-process", *emulator.arguments, *arguments, environment=environment)
    assert outcome.credentials["SessionToken"]


@pytest.mark.parametrize(
    ("words", "named"), [(("sign-string", "--private-key"), "--private-key"), (("key", "inspect"), "KEY")]
)
def test_two_tokens_and_a_key_by_itself(token, words, named):
    """Without a certificate no PIN goes to one of two tokens: it may be meant for the other, whose keys are hidden."""
    add_twin(token)
    rest = (token.uri("p-256"), "--pkcs11-lib", str(token.module), "--timeout", GENEROUS)
    outcome = rolekey(*words, *rest, environment=token.environment)
    outcome.failed(3, "2 tokens match", f"name one with {named}: pkcs11:")


@pytest.mark.rig("openssl")
def test_one_key_in_two_tokens(token, fetch, tmp_path):
    """The same key and certificate in two tokens (an HA pair) are one key: the slot listed first signs."""
    der, certificate = tmp_path / "key.der", tmp_path / "certificate.der"
    source = token.directory / "file"
    words = ["openssl", "pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in", str(source / "p-256.key")]
    subprocess.run([*words, "-out", str(der)], check=True)
    words = ["openssl", "x509", "-outform", "DER", "-in", str(source / "p-256.pem"), "-out", str(certificate)]
    subprocess.run(words, check=True)
    add_twin(token)
    environment = {"PATH": os.environ["PATH"], **token.environment}
    tool = ["pkcs11-tool", "--module", str(token.module)]
    for index in (0, 1):
        slot = [*tool, "--slot-index", str(index)]
        # The first login of the security officer gives the second token the first one's PIN; the first has it already.
        init = ["--login", "--login-type", "so", "--so-pin", "87654321", "--init-pin", "--pin", token.user_pin]
        subprocess.run([*slot, *init], env=environment, check=False, capture_output=True)
        for kind, file in (("privkey", der), ("cert", certificate)):
            write = ["--login", "--pin", token.user_pin, "--write-object", str(file), "--type", kind]
            subprocess.run(
                [*slot, *write, "--label", "pair", "--id", "44"], env=environment, check=True, capture_output=True
            )
    outcome, calls = fetch("--private-key", token.uri("pair"))
    assert outcome.credentials["SessionToken"]
    assert calls.logins == {"CKU_USER": 1}
