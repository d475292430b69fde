"""`rolekey doctor` at tokens: what it asks of them, and that set-ups that work are found to work."""

import json
import signal
import time

import pytest

from support.card_rig import find_opensc, find_ykcs11
from support.emulator import running_emulator
from support.pkcs11_spy import PKCS11Calls
from support.process import finish, rolekey, start

pytestmark = pytest.mark.rig("softhsm", "emulator")


@pytest.fixture(scope="module")
def emulator(provisioned_token):
    """It trusts the token's certificates."""
    with running_emulator(provisioned_token.root) as running:
        yield running


@pytest.fixture
def spied(provisioned_token, pkcs11_spy, emulator, tmp_path):
    """Runs doctor over pkcs11-spy; its findings, and the calls that the module saw."""

    def spied(label, *more):
        log = tmp_path / "spy.log"
        done = rolekey(
            *("doctor", "--json", *emulator.arguments, "--pkcs11-lib", str(pkcs11_spy.module)),
            *("--intermediates", str(provisioned_token.intermediate), *more),
            *("--private-key", provisioned_token.uri(label)),
            environment=pkcs11_spy.environment(provisioned_token.module, log),
        )
        assert done.code == 0, done.stdout
        return json.loads(done.stdout), PKCS11Calls.read(log)

    return spied


@pytest.mark.rig("pkcs11-spy")
@pytest.mark.parametrize("label", ["p-256", "always-auth"])
def test_nothing_is_spent(spied, label):
    """Without --sign there is no login and no signature, though a PIN is configured."""
    findings, calls = spied(label)
    assert {finding["check"] for finding in findings} >= {"token", "key in token", "PIN state", "PIN source"}
    assert calls.count["C_OpenSession"] == calls.count["C_CloseSession"] > 0
    assert calls.logins.total() == calls.count["C_Login"] == 0
    assert calls.count["C_SignInit"] == calls.signatures == 0


@pytest.mark.rig("pkcs11-spy")
@pytest.mark.parametrize(("label", "context_logins"), [("p-256", 0), ("always-auth", 1)])
def test_one_signature(spied, emulator, label, context_logins):
    """With --sign there is one login and one signature, and one CreateSession."""
    before = len(emulator.granted)
    findings, calls = spied(label, "--sign")
    assert findings[-1]["check"] == "signature"
    assert findings[-1]["status"] == "ok"
    assert calls.count["C_SignInit"] == calls.signatures == 1
    assert calls.logins["CKU_USER"] == 1
    assert calls.logins["CKU_CONTEXT_SPECIFIC"] == context_logins
    assert len(emulator.granted) == before + 1


@pytest.mark.rig("pkcs11-spy")
def test_no_signature_in_vain(provisioned_token, pkcs11_spy, emulator, tmp_path):
    """With --sign no PIN is sent where an earlier check has failed."""
    log = tmp_path / "spy.log"
    done = rolekey(
        *("doctor", "--sign", *emulator.arguments, "--pkcs11-lib", str(pkcs11_spy.module)),
        *("--certificate", str(provisioned_token.certificate("p-384"))),
        *("--private-key", provisioned_token.uri("p-256")),
        environment=pkcs11_spy.environment(provisioned_token.module, log),
    )
    assert done.code == 1
    assert "failed   key in token: " in done.stdout
    assert "skipped  signature: no PIN, no touch" in done.stdout
    assert PKCS11Calls.read(log).count["C_Login"] == 0


def test_pin_in_a_variable(provisioned_token, emulator):
    """A PIN in a variable is looked at, and still there for the signature."""
    done = rolekey(
        *("doctor", "--sign", *emulator.arguments, "--pkcs11-lib", str(provisioned_token.module)),
        *("--intermediates", str(provisioned_token.intermediate), "--pin-source", "env:HSM_PIN"),
        *("--private-key", provisioned_token.uri("p-256", with_pin=False)),
        environment={**provisioned_token.environment, "HSM_PIN": provisioned_token.user_pin},
    )
    assert done.code == 0, done.stdout
    assert "ok       PIN source: the PIN comes from the variable HSM_PIN" in done.stdout
    assert "ok       signature: one signature" in done.stdout


def healthy(token, *more):
    """Doctor's findings of a rig's token and its RSA key, as text."""
    with running_emulator(token.root) as emulator:
        done = rolekey(
            *("doctor", *emulator.arguments, "--pkcs11-lib", str(token.module), "--sign", *more),
            *("--trust-anchor", str(token.root), "--intermediates", str(token.intermediate)),
            *("--certificate", str(token.certificate("rsa-2048")), "--private-key", token.uri("rsa-2048")),
            environment=token.environment,
        )
    assert done.code == 0, done.stdout
    assert done.stderr == ""
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}, done.stdout
    return done.stdout


def test_healthy_softhsm(provisioned_token):
    """A token in software with everything in order: every line is ok."""
    assert "key in token: its public half is there" in healthy(provisioned_token)


@pytest.mark.parametrize(
    "find",
    [
        pytest.param(find_opensc, id="opensc", marks=pytest.mark.rig("opensc")),
        pytest.param(find_ykcs11, id="ykcs11", marks=pytest.mark.rig("ykcs11")),
    ],
)
def test_healthy_card(virtual_card, find):
    """A smart card with everything in order: every line is ok, pcscd's too."""
    assert "ok       pcscd: pcscd answers at " in healthy(virtual_card.token(find()))


def test_healthy_nss(nss_token):
    """A database of NSS with everything in order: every line is ok."""
    assert "ok       PIN source: " in healthy(nss_token, "--pkcs11-init-args", nss_token.reserved)


def test_interrupted(provisioned_token, emulator, pkcs11_shim, tmp_path):
    """Ctrl-C while a module hangs ends it with 130, after the lines that came before, and without a word more."""
    shim = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    shim.rule("C_OpenSession", hang=True)
    process = start(
        *("doctor", *emulator.arguments, "--pkcs11-lib", str(shim.module)),
        *("--private-key", provisioned_token.uri("p-256")),
        environment=provisioned_token.environment | shim.environment,
    )
    end = time.monotonic() + 60
    while not shim.calls["C_OpenSession"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130
    assert done.stderr.strip() == ""
    assert done.stdout.splitlines()[-1].startswith("ok       module: ")


def test_a_module_that_hangs(provisioned_token, emulator, pkcs11_shim, tmp_path):
    """A module that hangs costs its own checks, and hides no other."""
    shim = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    shim.rule("C_OpenSession", hang=True)
    done = rolekey(
        *("doctor", *emulator.arguments, "--pkcs11-lib", str(shim.module), "--timeout", "2"),
        *("--certificate", str(provisioned_token.certificate("p-256"))),
        *("--private-key", provisioned_token.uri("p-256")),
        environment=provisioned_token.environment | shim.environment,
    )
    assert done.code == 1
    assert "failed   token: timed out after 2 s waiting for token" in done.stdout
    assert "ok       clock: " in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()].count("failed") == 1
