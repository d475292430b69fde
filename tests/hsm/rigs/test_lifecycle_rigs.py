"""`rolekey key generate`, `csr` and `import-certificate` with every module that lets a user make keys."""

import pytest
from cryptography import x509

from support.nss_rig import make_nss_token
from support.p11_kit_rig import find_p11_kit, running_p11_kit_server
from support.pki import make_root
from support.process import GENEROUS, rolekey

CANNOT = "this key cannot leave the token"


class Public:
    """What a CA needs of a key."""

    def __init__(self, key):
        self.public_key = lambda: key


def run(token, command, uri, *words):
    """What a command of `rolekey key` says."""
    words = [command, uri, *words, "--pkcs11-lib", str(token.module), "--pin-source", f"file:{token.pin_file}"]
    words += ["--pkcs11-init-args", token.reserved] if token.reserved else []
    words = ("key", *words, "--timeout", GENEROUS)
    outcome = rolekey(*words, environment=token.environment, before=token.wrapper)
    assert outcome.code == 0 or (command == "generate" and "was made" in outcome.stderr), outcome.stderr
    return outcome.stdout


def whole_life(token, kind, path):
    """Make a key, have it certified, import the certificate: what was said of the key, and of the certificate."""
    label = next(iter(token.selectors))
    where = ";".join(part for part in token.selectors[label].split(";") if not part.startswith(("object=", "id=")))
    uri = "pkcs11:" + (f"{where};" if where else "") + "object=made"
    made = run(token, "generate", uri, "--type", kind)
    request = x509.load_pem_x509_csr(run(token, "csr", uri, "--subject", "CN=made", "--out", "-").encode())
    assert request.is_signature_valid
    path.write_bytes(make_root().issue(Public(request.public_key()), "made").pem)
    stored = run(token, "import-certificate", uri, str(path))
    assert "certificate: CN=made: it is there already" in run(token, "import-certificate", uri, str(path))
    return made.splitlines()[-1].removeprefix("verdict: "), stored


@pytest.mark.rig("nss")
@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_nss(tmp_path, kind):
    """NSS's database. It says of no key that it was made there, which is passed on."""
    verdict, stored = whole_life(make_nss_token(tmp_path / "nss"), kind, tmp_path / "made.pem")
    assert verdict == "export cannot be ruled out: CKA_LOCAL is false"
    assert "certificate: CN=made: stored" in stored


def test_opencryptoki(opencryptoki_token, tmp_path):
    """The software token of openCryptoki."""
    verdict, stored = whole_life(opencryptoki_token, "rsa2048", tmp_path / "made.pem")
    assert verdict == CANNOT
    assert "certificate: CN=made: stored" in stored


@pytest.mark.rig("softhsm", "p11-kit")
@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_p11_kit(provisioned_token, tmp_path, kind):
    """SoftHSM through p11-kit's client."""
    own = provisioned_token.copy(tmp_path / "token")
    with running_p11_kit_server(own) as server:
        verdict, stored = whole_life(server.token(find_p11_kit()), kind, tmp_path / "made.pem")
    assert verdict == CANNOT
    assert "certificate: CN=made: stored" in stored


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_tpm2_pkcs11(tpm2_pkcs11_token, tmp_path, kind):
    """A TPM through PKCS#11; nothing stays loaded in it."""
    token, tpm = tpm2_pkcs11_token
    verdict, stored = whole_life(token, kind, tmp_path / "made.pem")
    assert verdict == CANNOT
    assert "certificate: CN=made: stored" in stored
    tpm.assert_clean()


@pytest.mark.parametrize("command", ["generate", "import-certificate"])
def test_card(token, tmp_path, command):
    """A PIV card wants its management key for that: the error says which tools have it, and no PIN is sent."""
    (tmp_path / "leaf.pem").write_bytes(make_root().issue().pem)
    words = ["--type", "p256"] if command == "generate" else [str(tmp_path / "leaf.pem")]
    uri = "pkcs11:object=new" if command == "generate" else token.uri("p-256", with_pin=False)
    words = ("key", command, uri, *words, "--pkcs11-lib", str(token.module), "--timeout", GENEROUS)
    rolekey(*words, "--pin-source", "none", environment=token.environment).failed(3, "PIV card", "ykman piv keys")
