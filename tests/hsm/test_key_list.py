"""`rolekey key list` on tokens: what is shown with a login and without, and to whom a PIN goes."""

import os
import subprocess
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from support.pki import make_root
from support.process import GENEROUS, rolekey
from support.softhsm import OBJECT_IDS, TOKEN_LABEL

pytestmark = pytest.mark.rig("softhsm", "shim")
OTHER = "another token"
HIDDEN = "  (not logged in: whether the private keys are there is seen with --login)"


@pytest.fixture(scope="module")
def token(provisioned_token, tmp_path_factory):
    """The token with an expired certificate and a key without one, and another token beside it."""
    own = provisioned_token.copy(tmp_path_factory.mktemp("list") / "token")
    tool = ["pkcs11-tool", "--module", str(own.module)]
    user = ["--token-label", own.label, "--login", "--pin", own.user_pin]
    old = make_root().issue(common_name="old", not_before=_year(2020), not_after=_year(2021))
    renewed = make_root().issue(old.key, "renewed")
    for name, issued in (("old", old), ("renewed", renewed)):
        (own.directory / f"{name}.der").write_bytes(issued.certificate.public_bytes(Encoding.DER))
    for words in (
        [*user, "--write-object", str(own.directory / "old.der"), "--type", "cert", "--label", "old", "--id", "50"],
        [
            *user,
            "--write-object",
            str(own.directory / "renewed.der"),
            "--type",
            "cert",
            "--label",
            "renewed",
            "--id",
            "52",
        ],
        [*user, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "bare", "--id", "51", "--usage-sign"],
        ["--init-token", "--slot-index", "1", "--label", OTHER, "--so-pin", "so horse"],
        [
            "--token-label",
            OTHER,
            "--login",
            "--login-type",
            "so",
            "--so-pin",
            "so horse",
            "--init-pin",
            "--pin",
            "x" * 8,
        ],
    ):
        environment = {**os.environ, **own.environment}
        subprocess.run([*tool, *words], env=environment, check=True, capture_output=True, timeout=120)
    return own


def _year(number):
    return datetime(number, 1, 1, tzinfo=UTC)


@pytest.fixture
def shim(pkcs11_shim, token, tmp_path):
    """The tokens behind the module that counts, and goes wrong on purpose."""
    return pkcs11_shim.over(token.module, tmp_path / "shim")


@pytest.fixture
def run(token, shim):
    """Lists keys."""

    def run(*words, **variables):
        words = ("key", "list", *words, "--pkcs11-lib", str(shim.module), "--timeout", GENEROUS)
        return rolekey(*words, environment=token.environment | shim.environment | variables)

    return run


def listed(outcome):
    """For each token its lines, and of those with a URI what is said of it, by the object's label."""
    assert (outcome.code, outcome.stderr) == (0, "")
    tokens, label = {}, ""
    for line in outcome.stdout.splitlines():
        if not line.startswith(" "):
            title = line.removeprefix("token ").partition(" (serial ")[0]
            rows = tokens.setdefault(title, {})
        elif line.startswith("  pkcs11:"):
            label = line.partition(";object=")[2].partition(";")[0]
            rows[label] = [line.strip()]
        elif line.startswith("    "):
            rows[label].append(line.strip())
        else:
            rows["note"] = line
    return tokens


def test_without_a_login(run, shim):
    """Every token is shown with its certificates and public keys, days and reasons; no PIN is asked for or sent."""
    tokens = listed(run(ROLEKEY_PIN_SOURCE="file:/nowhere"))
    assert set(tokens) == {TOKEN_LABEL, OTHER}
    assert tokens[OTHER] == {"note": HIDDEN}
    rows = tokens[TOKEN_LABEL]
    assert set(rows) == {*OBJECT_IDS, "old", "renewed", "bare", "note"}
    for label in OBJECT_IDS:
        assert ": usable, " in rows[label][1]
        assert rows[label][1].endswith(" days left")
    assert "no: the certificate CN=old expired on 2021-01-01" in rows["old"][1]
    assert rows["bare"][1] == "EC secp256r1: with --certificate FILE: the token shows no certificate for it"
    assert shim.calls["C_Login"] == 0
    assert shim.calls["C_OpenSession"] == shim.calls["C_CloseSession"]


def test_with_a_login(run, token, shim):
    """After a login each private key has its row; what has none says so. One login, no signature."""
    tokens = listed(run(f"pkcs11:token={TOKEN_LABEL}", "--pin-source", f"file:{token.pin_file}"))
    assert set(tokens) == {TOKEN_LABEL}
    rows = tokens[TOKEN_LABEL]
    assert set(rows) == {*OBJECT_IDS, "old", "renewed", "bare"}
    assert rows["bare"][1].endswith("the token shows no certificate for it")
    assert "expired" in rows["old"][1]
    assert rows["renewed"][1].endswith("no: its private key is not in this token")
    assert (shim.logins, shim.calls["C_SignInit"]) == ({1: 1}, 0)


def test_uris_to_paste(run, token, shim):
    """A URI that is shown selects the key for the next command, without any option for the module."""
    uri = listed(run())[TOKEN_LABEL]["p-256"][0]
    assert uri.endswith(f"?module-path={shim.module}")
    words = ("key", "inspect", uri, "--pin-source", f"file:{token.pin_file}", "--timeout", GENEROUS)
    outcome = rolekey(*words, environment=token.environment | shim.environment)
    assert outcome.stdout.endswith("verdict: this key cannot leave the token\n")


@pytest.mark.parametrize("how", ["option", "variable", "uri"])
def test_one_pin_is_for_one_token(run, token, shim, how):
    """A PIN that is configured is sent to no token where it could be meant for two: both are named."""
    source = f"file:{token.pin_file}"
    words, variables = {
        "option": (["--pin-source", source], {}),
        "variable": (["--login"], {"ROLEKEY_PIN_SOURCE": source}),
        "uri": ([f"pkcs11:model=SoftHSM%20v2?pin-source={source}"], {}),
    }[how]
    run(*words, **variables).failed(3, "2 tokens would be sent it", TOKEN_LABEL, "another%20token")
    assert shim.calls["C_Login"] == 0


def test_inspect_needs_one_token(token, shim):
    """`rolekey key inspect` logs in to no token where a URI selects two, whatever they show: both are named."""
    uri = f"pkcs11:object=p-256?pin-source=file:{token.pin_file}"
    words = ("key", "inspect", uri, "--pkcs11-lib", str(shim.module), "--timeout", GENEROUS)
    outcome = rolekey(*words, environment=token.environment | shim.environment)
    outcome.failed(3, "2 tokens match pkcs11:object=p-256", "name one with KEY: ", TOKEN_LABEL, "another%20token")
    assert shim.calls["C_Login"] == 0


def test_nobody_to_ask(run, shim):
    """--login without a source and a terminal is refused, and nothing is sent."""
    run("--login").failed(4, "needs a PIN")
    assert shim.calls["C_Login"] == 0


def test_no_such_token(run):
    """A URI that selects no token is an error."""
    run("pkcs11:token=elsewhere").failed(3, "no token matches pkcs11:token=elsewhere")


def test_a_token_that_fails(run, shim):
    """A token that cannot be read hides no other: its own line says what it answered."""
    shim.rule("C_OpenSession", result=0x30, times=1)
    outcome = run()
    tokens = listed(outcome)
    assert set(tokens) == {TOKEN_LABEL, OTHER}
    assert outcome.stdout.count("  (token ") == outcome.stdout.count("CKR_DEVICE_ERROR)") == 1
    assert outcome.stdout.count(HIDDEN) == 1


def test_a_token_that_hangs(run, shim):
    """A token that hangs has its line after a while, and hides no other."""
    shim.rule("C_OpenSession", hang=True, times=1)
    outcome = run()
    assert set(listed(outcome)) == {TOKEN_LABEL, OTHER}
    assert outcome.stdout.count("  (timed out after 10 s waiting for token ") == 1
    assert outcome.stdout.count(HIDDEN) == 1


def test_a_renewed_certificate(run, token):
    """Of two certificates for one key each has its row, also where the key is not in the token."""
    shown = run("--pkcs11-lib", str(token.module)).stdout
    assert shown.count("certificate CN=old: no: the certificate CN=old expired") == 1
    assert shown.count("certificate CN=renewed: usable, ") == 1


def test_every_module_that_is_found(token):
    """Without a module's name every usual one is looked at; one that cannot be used is named, and is no failure."""
    outcome = rolekey("key", "list", "--timeout", GENEROUS, environment=token.environment)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.count(f"token {TOKEN_LABEL} (serial ") == 1
    assert "object=p-256" in outcome.stdout
