"""--require-non-exportable with keys in a token: which are used, and that no other is, not even once."""

import os
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from rolekey.tokens.attributes import STRICT
from support.pki import key_to_pem, make_root
from support.process import GENEROUS, rolekey

pytestmark = pytest.mark.rig("softhsm", "shim")
FLAG = "--require-non-exportable"
ARNS = (
    *("--trust-anchor-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a"),
    *("--profile-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p"),
    *("--role-arn", "arn:aws:iam::000000000000:role/r", "--endpoint", "http://127.0.0.1:1"),
)
# The signature was made, and nobody listens at the endpoint.
SIGNED, REFUSED = 6, 3
CKR_ATTRIBUTE_TYPE_INVALID, CKR_SESSION_HANDLE_INVALID = 0x12, 0xB3


class _Public:
    """What a CA needs of a key."""

    def __init__(self, key):
        self.public_key = lambda: key


@pytest.fixture(scope="module")
def token(provisioned_token, tmp_path_factory):
    """The token with two keys more, each with its certificate in a file: one extractable, one imported."""
    own = provisioned_token.copy(tmp_path_factory.mktemp("required") / "token")
    root = make_root()
    imported = root.issue(common_name="imported")
    (own.directory / "imported.key").write_bytes(key_to_pem(imported.key))
    words = ["pkcs11-tool", "--module", str(own.module), "--token-label", own.label, "--login", "--pin", own.user_pin]

    def tool(*more):
        environment = {**os.environ, **own.environment}
        subprocess.run([*words, *more], env=environment, check=True, capture_output=True, timeout=120)

    key = str(own.directory / "imported.key")
    tool("--write-object", key, "--type", "privkey", "--label", "imported", "--id", "42", "--sensitive", "--usage-sign")
    made = ("--label", "extractable", "--id", "41")
    tool("--keypairgen", "--key-type", "EC:prime256v1", "--extractable", "--usage-sign", *made)
    der = own.directory / "extractable.der"
    tool("--read-object", "--type", "pubkey", *made, "--output-file", str(der))
    extractable = root.issue(_Public(load_der_public_key(der.read_bytes())), "extractable")
    for label, issued in (("imported", imported), ("extractable", extractable)):
        (own.directory / "certificates" / f"{label}.pem").write_bytes(issued.pem)
    return own


@pytest.fixture
def shim(pkcs11_shim, token, tmp_path):
    """The token behind the module that counts, and goes wrong on purpose."""
    return pkcs11_shim.over(token.module, tmp_path / "shim")


@pytest.fixture
def run(token, shim):
    """Asks for credentials with a key."""

    def run(label, *more, command="credential-process", **variables):
        certificate = token.certificate(label)
        words = [command, *ARNS, "--certificate", str(certificate), "--private-key", token.uri(label), *more]
        words += ["--pkcs11-lib", str(shim.module), "--timeout", GENEROUS]
        return rolekey(*words, environment=token.environment | shim.environment | variables)

    return run


@pytest.mark.parametrize("label", ["p-256", "rsa-2048", "always-auth"])
def test_used(run, shim, label):
    """A key that cannot leave the token is used as without the requirement: one login, one signature."""
    assert run(label, FLAG).code == SIGNED
    assert (shim.logins[1], shim.signatures) == (1, 1)


@pytest.mark.parametrize(
    ("label", "says"), [("extractable", "CKA_EXTRACTABLE is true"), ("imported", "CKA_LOCAL is false")]
)
@pytest.mark.parametrize("command", ["credential-process", "update --once", "serve --port 0"])
def test_refused(run, shim, label, says, command):
    """A key that is extractable, or was brought in, is refused by every command that signs, before it is used."""
    name, *more = command.split()
    outcome = run(label, FLAG, *more, command=name)
    assert outcome.code == REFUSED, outcome.stderr
    assert "is not used (--require-non-exportable): export cannot be ruled out: " in outcome.stderr
    assert says in outcome.stderr
    assert shim.calls["C_SignInit"] == 0
    shim.forget_calls()
    assert run(label).code == SIGNED  # without the requirement it is used
    assert shim.signatures == 1


@pytest.mark.parametrize("name", STRICT)
def test_not_given(run, shim, name):
    """A key of which the token does not give an attribute is refused."""
    shim.rule("C_GetAttributeValue", only=int(STRICT[name]), result=CKR_ATTRIBUTE_TYPE_INVALID)
    run("p-256", FLAG).failed(REFUSED, f"export cannot be ruled out: {name} is not given")
    assert shim.calls["C_SignInit"] == 0


def test_certificate_in_the_token(token, shim):
    """So it is where the key is found by the certificate in its token."""
    shim.rule("C_GetAttributeValue", only=int(STRICT["CKA_LOCAL"]), result=CKR_ATTRIBUTE_TYPE_INVALID)
    for option in ("--private-key", "--certificate"):
        words = ["credential-process", *ARNS, option, token.uri("p-256"), "--pkcs11-lib", str(shim.module), FLAG]
        words += ["--intermediates", str(token.intermediate), "--timeout", GENEROUS]
        outcome = rolekey(*words, environment=token.environment | shim.environment)
        outcome.failed(REFUSED, "CKA_LOCAL is not given")
    assert shim.calls["C_SignInit"] == 0


def test_looked_at_again(run, shim):
    """A key that is found again after its session was lost is looked at again, and refused without a third login."""
    shim.rule("C_SignInit", result=CKR_SESSION_HANDLE_INVALID, times=1)
    shim.rule("C_GetAttributeValue", only=int(STRICT["CKA_LOCAL"]), skip=2, result=CKR_ATTRIBUTE_TYPE_INVALID)
    run("p-256", FLAG).failed(REFUSED, "CKA_LOCAL is not given")
    assert (shim.calls["C_SignInit"], shim.signatures, shim.logins[1]) == (1, 0, 2)
    shim.clear()
    shim.rule("C_SignInit", result=CKR_SESSION_HANDLE_INVALID, times=1)
    shim.forget_calls()
    assert run("p-256", FLAG).code == SIGNED
    assert shim.signatures == 1


def test_the_certificates_are_the_keys(token):
    """Certificate and key of the two keys belong together, so that nothing else can be the reason of a refusal."""
    for label in ("imported", "extractable"):
        certificate = x509.load_pem_x509_certificate(token.certificate(label).read_bytes())
        assert certificate.subject.rfc4514_string() == f"CN={label}"
