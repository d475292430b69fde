"""`rolekey key inspect` on a token: keys of every origin, attributes that are not given, and what it costs."""

import os
import re
import subprocess

import pytest

from rolekey.exportability import RULES_EXPORT_OUT
from rolekey.tokens.attributes import STRICT
from support.pki import key_to_pem, make_key
from support.process import GENEROUS, rolekey

pytestmark = pytest.mark.rig("softhsm")
CANNOT = "this key cannot leave the token"
CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED = 0x11, 0x12, 0x30, 0x32


@pytest.fixture(scope="module")
def token(provisioned_token, tmp_path_factory):
    """The token with keys more: one that may be taken out, one that was brought in."""
    own = provisioned_token.copy(tmp_path_factory.mktemp("inspect") / "token")
    imported = own.directory / "imported.pem"
    imported.write_bytes(key_to_pem(make_key("p256")))
    words = ["pkcs11-tool", "--module", str(own.module), "--token-label", own.label, "--login", "--pin", own.user_pin]
    for more in (
        ("--keypairgen", "--key-type", "EC:prime256v1", "--label", "extractable", "--id", "41", "--extractable"),
        ("--write-object", str(imported), "--type", "privkey", "--label", "imported", "--id", "42", "--sensitive"),
        ("--keypairgen", "--key-type", "EC:prime256v1", "--label", "twin", "--id", "43", "--sensitive"),
        ("--keypairgen", "--key-type", "EC:prime256v1", "--label", "twin", "--id", "44", "--sensitive"),
    ):
        environment = {**os.environ, **own.environment}
        subprocess.run([*words, *more], env=environment, check=True, capture_output=True, timeout=120)
    return own


@pytest.fixture
def inspect(token):
    """Inspects a key."""

    def inspect(label, *more, module=None, **variables):
        words = ["key", "inspect", token.uri(label), "--timeout", GENEROUS]
        words += ["--pkcs11-lib", str(module or token.module), *more]
        return rolekey(*words, environment={**token.environment, **variables})

    return inspect


def said(outcome):
    """The lines of a success, by name."""
    assert (outcome.code, outcome.stderr) == (0, "")
    return dict(line.split(": ", 1) for line in outcome.stdout.splitlines())


@pytest.mark.parametrize(
    ("label", "kind"), [("p-256", "EC secp256r1"), ("rsa-2048", "RSA 2048"), ("always-auth", "EC secp256r1")]
)
def test_made_in_the_token(inspect, label, kind):
    """A key that was made in the token, and may not be taken out, cannot leave it; all is said that this rests on."""
    lines = said(inspect(label))
    assert list(lines) == ["key", "type", "in", *RULES_EXPORT_OUT["token"], "CKA_ALWAYS_AUTHENTICATE", "verdict"]
    for name, value in RULES_EXPORT_OUT["token"].items():
        assert lines[name] == str(value).lower()
    assert lines["CKA_ALWAYS_AUTHENTICATE"] == str(label == "always-auth").lower()
    assert (lines["type"], lines["verdict"]) == (kind, CANNOT)


def test_uri_to_paste(inspect, token):
    """The URI that is shown selects this key, and holds no PIN."""
    lines = said(inspect("p-256"))
    assert re.fullmatch(rf"pkcs11:token={token.label};serial=[0-9a-f]+;object=p-256;id=%03", lines["key"])
    words = ["key", "inspect", lines["key"], "--pin-source", f"file:{token.pin_file}", "--timeout", GENEROUS]
    again = rolekey(*words, "--pkcs11-lib", str(token.module), environment=token.environment)
    assert said(again) == lines


def test_extractable(inspect):
    """A key that may be taken out: the verdict names CKA_EXTRACTABLE, and the past that follows from it."""
    expected = "export cannot be ruled out: CKA_EXTRACTABLE is true, CKA_NEVER_EXTRACTABLE is false"
    assert said(inspect("extractable"))["verdict"] == expected


def test_imported(inspect):
    """A key that was brought in may not be taken out now; the verdict says that it was not made here."""
    lines = said(inspect("imported"))
    assert (lines["CKA_EXTRACTABLE"], lines["CKA_SENSITIVE"]) == ("false", "true")
    assert lines["verdict"].startswith("export cannot be ruled out: ")
    assert lines["verdict"].endswith("CKA_NEVER_EXTRACTABLE is false, CKA_LOCAL is false")


@pytest.fixture
def shim(pkcs11_shim, token, tmp_path):
    """The token behind the module that goes wrong on purpose."""
    return pkcs11_shim.over(token.module, tmp_path / "shim")


@pytest.mark.parametrize("code", [CKR_ATTRIBUTE_TYPE_INVALID, CKR_ATTRIBUTE_SENSITIVE], ids=hex)
@pytest.mark.parametrize("name", STRICT)
def test_not_given(inspect, shim, name, code):
    """What the token does not give does not rule export out."""
    shim.rule("C_GetAttributeValue", only=int(STRICT[name]), result=code)
    lines = said(inspect("p-256", module=shim.module, **shim.environment))
    assert lines[name] == "not given"
    assert lines["verdict"] == f"export cannot be ruled out: {name} is not given"


@pytest.mark.parametrize(("code", "says"), [(CKR_DEVICE_ERROR, "CKR_DEVICE_ERROR"), (CKR_DEVICE_REMOVED, "REMOVED")])
def test_a_token_that_fails(inspect, shim, code, says):
    """A token that fails while it is asked is an error, and no verdict."""
    shim.rule("C_GetAttributeValue", only=int(STRICT["CKA_LOCAL"]), result=code)
    inspect("p-256", module=shim.module, **shim.environment).failed(3, says, "read the attributes of the key p-256")


def test_what_it_costs(inspect, shim):
    """One login, no signature, also for a key that asks for the PIN at each; sessions are closed."""
    said(inspect("always-auth", module=shim.module, **shim.environment))
    assert shim.logins == {1: 1}
    assert shim.calls["C_SignInit"] == shim.signatures == 0
    assert shim.calls["C_OpenSession"] == shim.calls["C_CloseSession"]


def test_none_and_two(inspect, token):
    """No key of that name, or two: the error says which there are, and no attribute is shown."""
    inspect("nowhere").failed(3, "holds no private key that matches", "name one with KEY: pkcs11:")
    inspect("twin").failed(3, "2 private keys match", "id=%43", "id=%44")
    words = ("key", "inspect", "pkcs11:token=elsewhere", "--pkcs11-lib", str(token.module))
    rolekey(*words, environment=token.environment).failed(3, "no token matches pkcs11:token=elsewhere")


def test_pins_are_guarded(inspect, token, tmp_path, shim):
    """A wrong PIN is sent once: the next run refuses its source, as for a signature."""
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text("wrong-pin")

    def run():
        uri = token.uri("p-256", with_pin=False)
        words = ["key", "inspect", uri, "--pin-source", f"file:{pin}", "--timeout", GENEROUS]
        return rolekey(*words, "--pkcs11-lib", str(shim.module), environment=token.environment | shim.environment)

    run().failed(4, "the PIN was not accepted")
    run().failed(4, "rolekey pin forget")
    assert shim.logins == {1: 1}
    said(inspect("p-256"))  # the right one gives the tries back


def test_nobody_to_ask(token):
    """Without a source and a terminal the error says what to configure; what it is for is not made up."""
    words = ("key", "inspect", token.uri("p-256", with_pin=False), "--pkcs11-lib", str(token.module))
    rolekey(*words, environment=token.environment).failed(4, "needs a PIN", "--pin-source")


def test_variables(token):
    """The variables that name module and PIN for other commands do so here; an option counts before them."""
    variables = {"ROLEKEY_PKCS11_LIB": str(token.module), "ROLEKEY_PIN_SOURCE": f"file:{token.pin_file}"}
    words = ("key", "inspect", token.uri("p-256", with_pin=False), "--timeout", GENEROUS)
    assert said(rolekey(*words, environment=token.environment | variables))["verdict"] == CANNOT
    variables |= {"ROLEKEY_CERTIFICATE": "handle:0x81000001"}  # of another key: not looked at
    assert said(rolekey(*words, environment=token.environment | variables))["verdict"] == CANNOT
    rolekey(*words, "--pkcs11-lib", "/nowhere.so", environment=token.environment | variables).failed(3, "/nowhere.so")
