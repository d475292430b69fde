"""`rolekey key generate`, `csr` and `import-certificate` on tokens: what is made, what is refused, what it costs."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key

from support.emulator import running_emulator
from support.pki import Issued, key_to_pem, make_root, to_pem
from support.process import GENEROUS, rolekey

pytestmark = pytest.mark.rig("softhsm", "shim")
CANNOT = "this key cannot leave the token"
CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED, CKR_SESSION_READ_ONLY, CKR_TOKEN_WRITE_PROTECTED = 0x31, 0x32, 0xB5, 0xE2
CKR_CURVE_NOT_SUPPORTED, CKR_DEVICE_ERROR = 0x140, 0x30
CKF_WRITE_PROTECTED = 0x2
CKM_EC_KEY_PAIR_GEN = 0x1040
CKA_EXTRACTABLE = 0x162
# pkcs11-tool makes none whose CKA_SIGN is false.
THAT_DERIVES = """
import sys, pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
module, label, pin = sys.argv[1:]
with pkcs11.lib(module).get_token(token_label=label).open(rw=True, user_pin=pin) as session:
    curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    words = {"label": "derives", "id": b"a", "store": True, "capabilities": pkcs11.MechanismFlag.DERIVE}
    session.generate_keypair(pkcs11.KeyType.EC, public_template=curve, **words)
"""


@pytest.fixture(scope="module")
def token(provisioned_token, tmp_path_factory):
    """The token, to be written to, with a key that may not sign."""
    own = provisioned_token.copy(tmp_path_factory.mktemp("lifecycle") / "token")
    outside = own.directory / "outside.pem"
    outside.write_bytes(key_to_pem(ec.generate_private_key(ec.SECP256R1())))
    tool(own, "--write-object", str(outside), "--type", "privkey", "--label", "half", "--id", "62", "--usage-sign")
    command = [sys.executable, "-c", THAT_DERIVES, str(own.module), own.label, own.user_pin]
    subprocess.run(command, env={**os.environ, **own.environment}, check=True, capture_output=True, timeout=60)
    return own


def tool(token, *words):
    """What pkcs11-tool says: another program than ours."""
    command = ["pkcs11-tool", "--module", str(token.module), "--token-label", token.label]
    environment = {**os.environ, **token.environment}
    login = ["--login", "--pin", token.user_pin]
    run = subprocess.run([*command, *login, *words], env=environment, check=True, capture_output=True, timeout=120)
    return run.stdout.decode()


@pytest.fixture
def shim(pkcs11_shim, token, tmp_path):
    """The token behind the module that counts, and goes wrong on purpose."""
    return pkcs11_shim.over(token.module, tmp_path / "shim")


@pytest.fixture
def run(token, shim):
    """Runs a command of `rolekey key`."""

    def run(command, label, *words, pin=None, **variables):
        uri = label if label.startswith(("pkcs11:", "/")) else f"pkcs11:token={token.label};object={label}"
        more = ("--pkcs11-lib", str(shim.module), "--pin-source", f"file:{pin or token.pin_file}")
        environment = token.environment | shim.environment | variables
        return rolekey("key", command, uri, *words, *more, "--timeout", GENEROUS, environment=environment)

    return run


def said(outcome):
    """The lines of a success; of those with one name the last."""
    assert (outcome.code, outcome.stderr) == (0, "")
    return dict(line.split(": ", 1) for line in outcome.stdout.splitlines())


@pytest.fixture
def ca(token):
    """The intermediate CA that the token's certificates are from."""
    directory = token.directory / "ca"
    root = x509.load_pem_x509_certificate((directory / "root.pem").read_bytes())
    certificate = x509.load_pem_x509_certificate((directory / "intermediate.pem").read_bytes())
    key = load_pem_private_key((directory / "intermediate.key").read_bytes(), None)
    return Issued(certificate, key, (), root)


class Public:
    """What a CA needs of a key."""

    def __init__(self, key):
        self.public_key = lambda: key


def certify(ca, run, label, path, **more):
    """A certificate for a key, by way of a request; written with its issuers in the wrong order."""
    request = x509.load_pem_x509_csr(run("csr", label, "--subject", f"CN={label}", "--out", "-").stdout.encode())
    issued = ca.issue(Public(request.public_key()), subject=request.subject, **more)
    path.write_bytes(to_pem([issued.certificate, ca.root, ca.certificate]))
    return issued


# --- generate


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("p256", "EC  EC_POINT 256 bits"),
        ("p384", "EC  EC_POINT 384 bits"),
        ("p521", "EC  EC_POINT 528 bits"),
        ("rsa2048", "RSA 2048 bits"),
        ("rsa3072", "RSA 3072 bits"),
        ("rsa4096", "RSA 4096 bits"),
    ],
)
def test_made(run, token, shim, kind, says):
    """A key of each type is made with one login: it signs and does nothing else, and cannot leave the token."""
    lines = said(run("generate", f"made-{kind}", "--type", kind))
    assert (lines["type"], lines["verdict"]) == (kind, CANNOT)
    assert re.fullmatch(rf"pkcs11:token={token.label};serial=\w+;object=made-{kind};id=(%\w\w){{16}}", lines["key"])
    assert (shim.logins, shim.calls["C_GenerateKeyPair"], shim.calls["C_SignInit"]) == ({1: 1}, 1, 0)
    assert shim.calls["C_OpenSession"] == shim.calls["C_CloseSession"]
    objects = re.split("(?m)^(?=[A-Z][a-z]+ .*Object)", tool(token, "--list-objects"))
    private, public = sorted(entry for entry in objects if f"label:      made-{kind}\n" in entry)
    assert private.startswith("Private Key Object; ")
    assert "Usage:      sign\n" in private
    assert "Access:     sensitive, always sensitive, never extractable, local\n" in private
    assert public.startswith(f"Public Key Object; {says}")
    assert "Usage:      verify\n" in public


def test_its_uri(run, token):
    """The URI that is shown is one to paste: `inspect` and `list` know the key, and say what it still needs."""
    key = said(run("generate", "pasted", "--type", "p256"))["key"]
    assert said(run("inspect", key))["verdict"] == CANNOT
    listed = run("list", f"pkcs11:token={token.label}").stdout
    assert "object=pasted;" in listed
    assert "the token shows no certificate for it" in listed.partition("object=pasted;")[2].splitlines()[1]


def test_id_of_the_uri(run, token):
    """An id in the URI is the new key's; a label is not needed then."""
    key = said(run("generate", f"pkcs11:token={token.label};id=%71%72", "--type", "p256"))["key"]
    assert key.endswith(";id=%71%72")
    assert "object=" not in key


@pytest.mark.parametrize("uri", ["object=p-256", "id=%03", "object=new;id=%03", "object=p-256;id=%99"])
def test_taken(run, token, shim, uri):
    """What has this label or id already is in the way, and stays; nothing is made."""
    before = tool(token, "--list-objects")
    outcome = run("generate", f"pkcs11:token={token.label};{uri}", "--type", "p256")
    outcome.failed(3, "already holds something that matches", "certificate", "--force")
    assert shim.calls["C_GenerateKeyPair"] == 0
    assert tool(token, "--list-objects") == before


def test_replaced(run, shim):
    """--force replaces a key with the certificate beside it: the old one goes after the new one was made."""
    first = said(run("generate", "again", "--type", "p256"))["key"]
    shim.forget_calls()
    outcome = run("generate", "again", "--type", "p384", "--force")
    assert outcome.stdout.count("replaced: ") == 2
    assert said(outcome)["key"] != first
    assert said(run("inspect", "again"))["type"] == "EC secp384r1"
    calls = shim.sequence
    assert calls.index("C_GenerateKeyPair") < calls.index("C_DestroyObject")


def test_a_new_one_that_cannot_be_made_replaces_nothing(run, shim):
    """Where no new key comes about, the old one is still there."""
    said(run("generate", "kept", "--type", "p256"))
    shim.rule("C_GenerateKeyPair", result=CKR_DEVICE_ERROR)
    run("generate", "kept", "--type", "p256", "--force").failed(3, "CKR_DEVICE_ERROR")
    assert shim.calls["C_DestroyObject"] == 0
    shim.clear()
    assert said(run("inspect", "kept"))["verdict"] == CANNOT


def test_an_old_one_that_stays(run, shim):
    """Where the old key cannot be removed, the error says that there are two now."""
    said(run("generate", "stays", "--type", "p256"))
    shim.rule("C_DestroyObject", result=0x1B)
    run("generate", "stays", "--type", "p256", "--force").failed(
        3, "was made", "could not be removed", "CKR_ACTION_PROHIBITED"
    )
    shim.clear()
    run("inspect", "stays").failed(3, "2 private keys match")
    # None of the two is chosen to be replaced.
    run("generate", "stays", "--type", "p256", "--force").failed(3, "several private keys", "none is replaced")


@pytest.mark.parametrize(
    ("function", "code", "says"),
    [
        ("C_OpenSession", CKR_TOKEN_WRITE_PROTECTED, "make the token writable"),
        ("C_GenerateKeyPair", CKR_TOKEN_WRITE_PROTECTED, "make the token writable"),
        ("C_GenerateKeyPair", CKR_SESSION_READ_ONLY, "make the token writable"),
        ("C_GenerateKeyPair", CKR_DEVICE_MEMORY, "the token is full"),
        ("C_GenerateKeyPair", CKR_CURVE_NOT_SUPPORTED, "choose another --type"),
        ("C_GenerateKeyPair", CKR_DEVICE_REMOVED, "put the token back in"),
    ],
)
def test_a_token_that_refuses(run, shim, function, code, says):
    """A full or read-only token, one without the curve, one that is pulled: cause and remedy, at most one login."""
    shim.rule(function, result=code)
    run("generate", "refused", "--type", "p256").failed(3, says, "CKR_")
    assert shim.calls["C_Login"] == (0 if function == "C_OpenSession" else 1)


def test_read_only(run, shim):
    """A token that says that it is read-only costs no PIN."""
    shim.rule("C_GetTokenInfo", set_flags=CKF_WRITE_PROTECTED)
    run("generate", "refused", "--type", "p256").failed(3, "is read-only (CKF_WRITE_PROTECTED)")
    assert shim.calls["C_Login"] == 0


def test_no_such_mechanism(run, shim):
    """A token that does not list the mechanism is not asked for it."""
    shim.rule("C_GetMechanismList", hide_mechanism=CKM_EC_KEY_PAIR_GEN)
    run("generate", "refused", "--type", "p256").failed(3, "does not list CKM_EC_KEY_PAIR_GEN")
    assert shim.calls["C_GenerateKeyPair"] == 0


def test_a_token_that_does_not_do_as_told(run, shim):
    """Where the token does not say that its new key is bound to it, the verdict says so, and the exit code."""
    shim.rule("C_GetAttributeValue", only=CKA_EXTRACTABLE, result=0x12)
    outcome = run("generate", "doubtful", "--type", "p256")
    assert outcome.code == 3
    assert "verdict: export cannot be ruled out: CKA_EXTRACTABLE is not given" in outcome.stdout
    assert "was made, and not as it was asked for" in outcome.stderr


def test_wrong_pin(run, shim, tmp_path):
    """A wrong PIN is sent once by each of the three commands' first run, and not again by another's."""
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text("wrong-pin")
    run("generate", "refused", "--type", "p256", pin=pin).failed(4, "the PIN was not accepted")
    run("csr", "p-256", "--subject", "CN=a", "--out", "-", pin=pin).failed(4, "rolekey pin forget")
    assert shim.logins == {1: 1}
    assert shim.calls["C_GenerateKeyPair"] == 0
    assert run("inspect", "p-256").code == 0  # the right one gives the tries back


def test_one_token(run, token, shim):
    """A URI that selects two tokens selects none: both are named, and no PIN is sent."""
    words = ("--init-token", "--slot-index", "1", "--label", "second", "--so-pin", "so horse")
    command = ["pkcs11-tool", "--module", str(token.module), *words]
    subprocess.run(command, env={**os.environ, **token.environment}, check=True, capture_output=True, timeout=60)
    run("generate", "pkcs11:object=new", "--type", "p256").failed(3, "2 tokens match pkcs11:object=new", "token=second")
    assert shim.calls["C_Login"] == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("generate", "new"), 2, "--type is missing"),
        (("generate", "new", "--type", "p224"), 2, "none of rsa2048"),
        (("generate", "pkcs11:token=rolekey-softhsm", "--type", "p256"), 2, "what the new key is to be called"),
        (("generate", "pkcs11:token=elsewhere;object=a", "--type", "p256"), 3, "no token matches"),
        (("csr", "p-256", "--out", "-"), 2, "--subject is missing or empty"),
        (("csr", "p-256", "--subject", "nonsense", "--out", "-"), 2, "--subject is no name"),
        (("csr", "p-256", "--subject", "CN=a"), 2, "--out is missing"),
        (("csr", "p-256", "--subject", "CN=a", "--san", "RID:1.2", "--out", "-"), 2, "kind of name"),
        (("csr", "p-256", "--subject", "CN=a", "--san", "IP:300.1", "--out", "-"), 2, "none of that kind"),
        (("csr", "p-256", "--subject", "CN=a", "--out", "pkcs11:object=a"), 2, "--out is a URI"),
        (("csr", "p-256", "--subject", "CN=a", "--out", "/nowhere/a"), 2, "/nowhere is no directory"),
        (("import-certificate", "p-256", "pkcs11:object=a"), 2, "FILE is a URI"),
        (("import-certificate", "p-256", "/nowhere"), 5, "cannot read"),
        (("import-certificate", "p-256"), 2, "takes KEY and FILE"),
    ],
)
def test_bad_words(run, shim, words, code, says):
    """What cannot be meant is refused before a PIN is sent."""
    run(*words).failed(code, says)
    assert shim.calls["C_Login"] == 0


# --- csr


@pytest.mark.parametrize("label", ["p-256", "p-384", "p-521", "rsa-2048", "always-auth"])
def test_request(run, shim, tmp_path, label):
    """A request takes one signature; OpenSSL agrees with it, and what it asks for is what Roles Anywhere wants."""
    path = tmp_path / "request.pem"
    names = ("--san", "DNS:web.example", "--san", "IP:192.0.2.1", "--san", "URI:spiffe://a/b", "--san", "email:a@b.c")
    outcome = run("csr", label, "--subject", "CN=web-1,O=Example", *names, "--out", str(path))
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    assert shim.signatures == 1
    assert shim.logins[1] == 1
    shown = subprocess.run(
        ["openssl", "req", "-in", str(path), "-verify", "-noout", "-text"], capture_output=True, check=True, timeout=60
    )
    assert b"verify OK" in shown.stdout + shown.stderr
    text = " ".join(shown.stdout.decode().split())
    assert "Subject: O = Example, CN = web-1 " in text
    assert "X509v3 Basic Constraints: critical CA:FALSE " in text
    assert "X509v3 Key Usage: critical Digital Signature " in text
    assert "DNS:web.example, IP Address:192.0.2.1, URI:spiffe://a/b, email:a@b.c" in text


def test_request_is_not_overwritten(run, shim, tmp_path):
    """A file that is there stays, and costs no PIN; --force replaces it. A link is no file of its own."""
    path = tmp_path / "request.pem"
    path.write_text("mine")
    words = ("csr", "p-256", "--subject", "CN=a", "--out")
    run(*words, str(path)).failed(2, "is there already")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    run(*words, str(link)).failed(2, str(link))
    assert (path.read_text(), shim.calls["C_Login"]) == ("mine", 0)
    assert run(*words, str(path), "--force").code == 0
    assert path.read_text().startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name != "shim") == ["link", "request.pem"]


def test_request_for_a_key_that_may_not_sign(run, shim):
    """A key that may not sign makes no request."""
    run("csr", "derives", "--subject", "CN=a", "--out", "-").failed(3, "CKA_SIGN is false", "made for signing")
    assert shim.signatures == 0


def test_request_without_a_public_half(run, shim):
    """Where the token shows no public half, there is nothing to put into a request."""
    run("csr", "half", "--subject", "CN=a", "--out", "-").failed(3, "no public half")
    assert shim.signatures == 0


def test_request_for_another_public_half(run, token, tmp_path):
    """A request is verified before it is written: a public key object that is not the key's gives none."""
    other = tmp_path / "other.der"
    public = tool(token, "--read-object", "--type", "pubkey", "--label", "p-256", "--output-file", str(other))
    assert load_der_public_key(other.read_bytes()), public
    private = tmp_path / "private.pem"
    private.write_bytes(key_to_pem(ec.generate_private_key(ec.SECP256R1())))
    names = ("--label", "twisted", "--id", "63")
    tool(token, "--write-object", str(private), "--type", "privkey", "--usage-sign", *names)
    tool(token, "--write-object", str(other), "--type", "pubkey", *names)
    out = tmp_path / "request.pem"
    run("csr", "twisted", "--subject", "CN=a", "--out", str(out)).failed(5, "not that of the public key")
    assert not out.exists()


def test_required(run):
    """--require-non-exportable is for requests, too: an imported key makes none."""
    words = ("--subject", "CN=a", "--out", "-", "--require-non-exportable")
    run("csr", "half", *words).failed(3, "is not used (--require-non-exportable)")
    assert run("csr", "p-256", *words).code == 0


def test_request_with_a_file(tmp_path):
    """A key file makes a request, too."""
    _, key = make_root().issue().write(tmp_path, "leaf")
    outcome = rolekey("key", "csr", str(key), "--subject", "CN=a", "--out", "-", "--timeout", GENEROUS)
    assert x509.load_pem_x509_csr(outcome.stdout.encode()).is_signature_valid


# --- import-certificate


@pytest.mark.rig("emulator")
def test_from_nothing_to_credentials(run, token, shim, ca, tmp_path):
    """Make, request, certify, import: then one URI names key, certificate and chain, and gets credentials."""
    said(run("generate", "whole", "--type", "p256"))
    issued = certify(ca, run, "whole", tmp_path / "full.pem")
    shim.forget_calls()
    outcome = run("import-certificate", "whole", str(tmp_path / "full.pem"))
    assert said(outcome)["certificate"] == "CN=whole: stored"
    assert (shim.logins, shim.signatures) == ({1: 1}, 0)
    assert "object=whole" in outcome.stdout
    listed = run("list", f"pkcs11:token={token.label}").stdout
    assert "certificate CN=whole: usable, " in listed.partition("object=whole;")[2]
    with running_emulator(token.root) as emulator:
        words = ("credential-process", "--certificate", token.uri("whole"), *emulator.arguments, "--no-cache")
        assert rolekey(*words, "--pkcs11-lib", str(token.module), environment=token.environment).credentials
    seen = tool(token, "--list-objects", "--type", "cert")
    assert seen.count("label:      whole\n") == 1
    assert issued.certificate.subject


def test_imported_twice(run, token, shim, ca, tmp_path):
    """The same certificate again is nothing to do; another one is in the way, unless it may be replaced."""
    said(run("generate", "twice", "--type", "p256"))
    certify(ca, run, "twice", tmp_path / "first.pem")
    said(run("import-certificate", "twice", str(tmp_path / "first.pem")))
    shim.forget_calls()
    lines = said(run("import-certificate", "twice", str(tmp_path / "first.pem")))
    assert lines["certificate"].endswith("it is there already")
    assert lines["issuer"].endswith("it is there already")
    assert shim.calls["C_CreateObject"] == shim.calls["C_DestroyObject"] == 0
    second = certify(ca, run, "twice", tmp_path / "second.pem", not_after=datetime.now(UTC) + timedelta(days=9))
    run("import-certificate", "twice", str(tmp_path / "second.pem")).failed(3, "already holds something", "--force")
    lines = said(run("import-certificate", "twice", str(tmp_path / "second.pem"), "--force"))
    assert lines["certificate"] == "CN=twice: stored in place of another"
    read = tmp_path / "read.der"
    tool(token, "--read-object", "--type", "cert", "--label", "twice", "--output-file", str(read))
    assert x509.load_der_x509_certificate(read.read_bytes()) == second.certificate


def test_imported_for_another_key(run, shim, ca, tmp_path):
    """A certificate of another key is refused, and so is one that is not the file's first; nothing is stored."""
    said(run("generate", "other", "--type", "p256"))
    issued = certify(ca, run, "other", tmp_path / "full.pem")
    run("import-certificate", "p-256", str(tmp_path / "full.pem")).failed(5, "does not belong to the certificate")
    (tmp_path / "turned.pem").write_bytes(to_pem([ca.certificate, issued.certificate]))
    run("import-certificate", "other", str(tmp_path / "turned.pem")).failed(5, "not the first one", "put it first")
    assert shim.calls["C_CreateObject"] == 0


def test_imported_by_proof(run, token, shim, tmp_path):
    """Where the token shows no public half, one signature proves the pair, which is said; a wrong one is refused."""
    key = load_pem_private_key((token.directory / "outside.pem").read_bytes(), None)
    root = make_root()
    wrong, right = root.issue(common_name="wrong"), root.issue(key, "half")
    (tmp_path / "wrong.pem").write_bytes(wrong.pem)
    (tmp_path / "right.pem").write_bytes(right.pem)
    run("import-certificate", "half", str(tmp_path / "wrong.pem")).failed(5, "does not belong")
    assert (shim.signatures, shim.calls["C_CreateObject"]) == (1, 0)
    lines = said(run("import-certificate", "half", str(tmp_path / "right.pem")))
    assert lines["proof"].startswith("one signature")
    assert shim.signatures == 2


@pytest.mark.parametrize(
    ("code", "says"), [(CKR_DEVICE_MEMORY, "the token is full"), (CKR_TOKEN_WRITE_PROTECTED, "make the token writable")]
)
def test_imported_into_a_full_token(run, shim, ca, tmp_path, code, says):
    """A full or read-only token takes no certificate, and loses none."""
    label = f"full-{code}"
    said(run("generate", label, "--type", "p256"))
    certify(ca, run, label, tmp_path / "full.pem")
    shim.rule("C_CreateObject", result=code)
    run("import-certificate", label, str(tmp_path / "full.pem")).failed(3, says)
    assert shim.calls["C_DestroyObject"] == 0


def test_imported_for_a_file(tmp_path):
    """A key that is in no token has nowhere to keep a certificate; the error says what to do with it."""
    certificate, key = make_root().issue().write(tmp_path, "leaf")
    outcome = rolekey("key", "import-certificate", str(key), str(certificate))
    outcome.failed(2, "is in no PKCS#11 token", "--certificate FILE")
