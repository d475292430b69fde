"""The same keys of a TPM through its PKCS#11 module; tests/contract has the signatures."""

import pytest

from support.emulator import running_emulator
from support.process import rolekey

pytestmark = pytest.mark.rig("tpm2-pkcs11", "emulator")


@pytest.fixture
def run(tpm2_pkcs11_token):
    """Runs credential-process with one of the token's keys."""
    token, _ = tpm2_pkcs11_token

    def run(label, emulator, *more):
        return rolekey(
            *("credential-process", *emulator.arguments, "--pkcs11-lib", str(token.module)),
            *("--private-key", token.uri(label, with_pin=False), "--certificate", str(token.certificate(label))),
            *("--intermediates", str(token.intermediate), *more),
            environment=token.environment,
        )

    return run


@pytest.fixture
def wrong_pin(tmp_path):
    path = tmp_path / "wrong-pin"
    path.touch(mode=0o600)
    path.write_text("another-pin")
    return path


def test_credentials(tpm2_pkcs11_token, run):
    """Every key gets credentials, and nothing but them is printed; nothing stays loaded in the TPM."""
    token, tpm = tpm2_pkcs11_token
    with running_emulator(token.root) as emulator:
        for label in token.selectors:
            outcome = run(label, emulator, "--pin-source", f"file:{token.pin_file}")
            assert outcome.credentials["SessionToken"]
            assert outcome.stderr == ""
            tpm.assert_clean()


def test_wrong_pins_are_counted_once_and_quietly(tpm2_pkcs11_token, run, wrong_pin):
    """A wrong PIN in ten runs raises the TPM's counter by one; what the module says of it is seen with --debug only."""
    token, tpm = tpm2_pkcs11_token
    before = tpm.lockout_counter()
    with running_emulator(token.root) as emulator:
        first = run("p-256", emulator, "--pin-source", f"file:{wrong_pin}", "--debug")
        assert "Esys_Unseal" in first.stderr
        for _ in range(9):
            outcome = run("p-256", emulator, "--pin-source", f"file:{wrong_pin}")
            outcome.failed(4, "PIN")
            assert [line.split()[1] for line in outcome.stderr.splitlines()] == ["error:", "hint:"]
        assert tpm.lockout_counter() == before + 1
        tpm.reset_lockout()
        assert tpm.lockout_counter() == 0


def test_silent_from_the_first_wrong_pin(tpm2_pkcs11_token, run, wrong_pin):
    """The first run with a wrong PIN says two lines of its own and nothing else."""
    token, tpm = tpm2_pkcs11_token
    with running_emulator(token.root) as emulator:
        outcome = run("p-256", emulator, "--pin-source", f"file:{wrong_pin}")
    assert outcome.code == 4
    assert outcome.stdout == ""
    assert [line.split()[1] for line in outcome.stderr.splitlines()] == ["error:", "hint:"]
    assert tpm.lockout_counter() == 1


def test_lockout(tpm2_pkcs11_token, run, wrong_pin):
    """A TPM in lockout is a locked PIN even with the right one, which works again when both have forgotten it."""
    token, tpm = tpm2_pkcs11_token
    tpm.run("tpm2_dictionarylockout", "--setup-parameters", "--max-tries=1", "--recovery-time=600")
    right = ("--pin-source", f"file:{token.pin_file}")
    with running_emulator(token.root) as emulator:
        run("p-256", emulator, "--pin-source", f"file:{wrong_pin}").failed(4, "CKR_PIN_INCORRECT")
        run("p-256", emulator, *right).failed(4, "the PIN is locked (CKR_PIN_LOCKED)", "rolekey pin forget")
        tpm.reset_lockout()
        # The module does not say whether this PIN or the one before locked it.
        run("p-256", emulator, *right).failed(4, "it is not sent again")
        assert rolekey("pin", "forget", token.uri("p-256", with_pin=False)).code == 0
        assert run("p-256", emulator, *right).credentials["SessionToken"]
