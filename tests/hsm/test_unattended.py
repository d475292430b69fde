"""How long a command waits where nobody sits: as the most impatient SDK does, unless the token may want a person."""

import pytest

from support.emulator import running_emulator
from support.pkcs11_shim import PROTECTED_AUTHENTICATION_PATH
from support.process import finish, rolekey, start

pytestmark = pytest.mark.rig("softhsm", "shim", "emulator")
REMOVABLE_DEVICE = 0x2
GROWN = "deadline: 50 s, since a person may be needed"


@pytest.fixture
def shimmed(pkcs11_shim, provisioned_token, tmp_path):
    return pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")


@pytest.fixture
def words(shimmed, provisioned_token):
    """A command line, up to the key."""
    with running_emulator(provisioned_token.root) as emulator:
        yield (
            *("credential-process", *emulator.arguments, "--pkcs11-lib", str(shimmed.module)),
            *("--intermediates", str(provisioned_token.intermediate), "--private-key"),
        )


@pytest.fixture
def trace(words, shimmed, provisioned_token):
    """Runs with --debug, and gives what was said."""

    def trace(*more, label="p-256"):
        uri = provisioned_token.uri(label)
        return rolekey(*words, uri, "--debug", *more, environment=shimmed.environment, is_patient=False).stderr

    return trace


def test_token_that_wants_nobody(trace):
    """SoftHSM has 4.5 s: nobody can touch it."""
    stderr = trace()
    assert "status 201" in stderr
    assert "deadline:" not in stderr


def test_card(trace, shimmed):
    """A token in a reader has 50 s: a card does not announce that it wants a touch."""
    shimmed.rule("C_GetSlotInfo", set_flags=REMOVABLE_DEVICE)
    assert GROWN in trace()


def test_pin_pad(trace, shimmed):
    """So has one with a PIN pad."""
    shimmed.rule("C_GetTokenInfo", set_flags=PROTECTED_AUTHENTICATION_PATH)
    assert GROWN in trace()


def test_key_that_asks_at_each_signature(trace):
    """So has a key that wants a PIN for each signature."""
    assert GROWN in trace(label="always-auth")


@pytest.mark.parametrize("seconds", ["30", "60"])
def test_time_that_was_given(seconds, trace, shimmed):
    """What --timeout says stays as it is."""
    shimmed.rule("C_GetSlotInfo", set_flags=REMOVABLE_DEVICE)
    stderr = trace("--timeout", seconds)
    assert "status 201" in stderr
    assert "deadline:" not in stderr


def test_token_that_hangs(words, shimmed, provisioned_token):
    """A token that wants nobody and hangs ends the command after 4.5 s; nobody is told to wait longer."""
    shimmed.rule("C_Sign", hang=True, only=1)
    outcome = rolekey(*words, provisioned_token.uri("p-256"), environment=shimmed.environment, is_patient=False)
    outcome.failed(6, "timed out after 4.5 s waiting for the signature of token rolekey-softhsm")


def test_finger_that_comes_late(words, shimmed, provisioned_token):
    """A card that is touched after five seconds gives credentials, to who asked it and to who waited for that."""
    shimmed.rule("C_GetSlotInfo", set_flags=REMOVABLE_DEVICE)
    shimmed.rule("C_Sign", sleep_ms=6000, only=1)
    words = [*words, provisioned_token.uri("p-256")]
    processes = [start(*words, environment=shimmed.environment, is_patient=False) for _ in range(3)]
    outcomes = [finish(process) for process in processes]
    assert len({outcome.credentials["AccessKeyId"] for outcome in outcomes}) == 1
