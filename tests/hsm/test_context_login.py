"""Keys that want the PIN at each signature: what is sent, counted in the module, and what is held against its source.

Nothing answers at the endpoint: a run that was logged in and has signed ends with exit code 6, "Connection refused".
"""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import PinIncorrectError
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.secret import Secret
from rolekey.sigv4_x509 import verify_signature
from rolekey.worker import Worker
from support.p11_kit_rig import find_p11_kit, running_p11_kit_server
from support.pkcs11_shim import (
    CKU_CONTEXT_SPECIFIC,
    CKU_USER,
    PROTECTED_AUTHENTICATION_PATH,
    USER_PIN_FINAL_TRY,
)
from support.process import at_its_deadline, finish, rolekey, start
from support.softhsm import ProvisionedToken
from support.watching import wait_until

pytestmark = pytest.mark.rig("softhsm", "shim")
ARNS = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}
ARGUMENTS = [word for name, arn in ARNS.items() for word in ("--" + name.replace("_", "-"), arn)]
CKR_USER_NOT_LOGGED_IN = 0x101
REFUSED = {0xA0: "CKR_PIN_INCORRECT", 0xA1: "CKR_PIN_INVALID", 0xA2: "CKR_PIN_LEN_RANGE", 0xA4: "CKR_PIN_LOCKED"}
UNCLEAR = (0x5, 0x6, 0x54, 0x80001234)
# Of the codes after which the PIN was not looked at: those after which this run does not try again.
UNASKED = (0x31, 0x91, 0xA3, 0xB1, 0x102)


def went_through(outcome):
    outcome.failed(6, "Connection refused")


@pytest.fixture
def shimmed(pkcs11_shim, provisioned_token, tmp_path):
    return pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")


@pytest.fixture
def pin_file(provisioned_token, tmp_path):
    """The right PIN, in a file that may be changed."""
    path = tmp_path / "right"
    path.touch(mode=0o600)
    path.write_text(provisioned_token.user_pin)
    return path


@pytest.fixture
def words(shimmed, provisioned_token, pin_file):
    """The command line for a key."""

    def words(*more, label="always-auth", source=True):
        key = provisioned_token.uri(label, with_pin=False)
        pin = ("--pin-source", f"file:{pin_file}") if source else ()
        module = ("--pkcs11-lib", str(shimmed.module))
        return (
            "credential-process",
            *ARGUMENTS,
            "--endpoint",
            "http://127.0.0.1:1",
            *module,
            "--private-key",
            key,
            *pin,
            *more,
        )

    return words


@pytest.fixture
def run(shimmed, words):
    return lambda *more, **options: rolekey(*words(*more, **options), environment=shimmed.environment)


# --- what is sent ---


def test_nothing_stands_between(shimmed, run):
    """C_SignInit, one context login and one C_Sign follow each other; nothing is held against the PIN."""
    went_through(run())
    calls = shimmed.sequence
    at = calls.index("C_SignInit")
    assert calls[at : at + 3] == ["C_SignInit", "C_Login", "C_Sign"]
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}
    assert (shimmed.calls["C_SignInit"], shimmed.calls["C_Sign"]) == (1, 1)
    assert rolekey("pin", "list").stdout == ""


def test_ten_runs(shimmed, run, pin_file):
    """A PIN that is good for the token and refused for the key: ten runs spend one try; the corrected file works."""
    shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=0xA0)
    run().failed(4, "login for the key always-auth", "CKR_PIN_INCORRECT", str(pin_file), "until the file changes")
    for _ in range(9):
        run().failed(4, f"the file {pin_file} was refused", "not sent again", "rolekey pin forget")
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}
    assert shimmed.calls["C_Sign"] == 0
    shimmed.clear()
    os.utime(pin_file)
    went_through(run())


@pytest.mark.parametrize("code", [*REFUSED, *UNCLEAR])
def test_answer_after_which_the_pin_is_not_sent_again(code, shimmed, run):
    """A refused context login, and one of which that is not known, is held against the PIN's source."""
    shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=code)
    run().failed(4 if code in REFUSED else 3, "rolekey pin forget", REFUSED.get(code, ""))
    shimmed.clear()
    run().failed(4, "was refused" if code in REFUSED else "may have been refused")
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}


@pytest.mark.parametrize("code", UNASKED)
def test_answer_that_says_nothing_of_the_pin(code, shimmed, run):
    """A context login in which nobody looked at the PIN holds nothing against it."""
    shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=code)
    outcome = run()
    outcome.failed(outcome.code)
    assert outcome.code in (3, 4)
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}
    assert rolekey("pin", "list").stdout == ""
    shimmed.clear()
    went_through(run())


def test_token_that_was_away_at_the_context_login(shimmed, run):
    """A token that goes away at the context login is looked for again, once, with both logins."""
    shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=0x30, times=1)
    went_through(run())
    assert shimmed.logins == {CKU_USER: 2, CKU_CONTEXT_SPECIFIC: 2}


def test_lost_try_tells(shimmed, run):
    """Where a try was lost the PIN was refused, whatever the code says."""
    went_through(run(label="p-256"))  # no try is lost any more
    shimmed.forget_calls()
    shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=0x31)
    # From the context login on, the token says that few tries are left.
    before = count_before(shimmed, run, "C_Login")
    shimmed.rule("C_GetTokenInfo", set_flags=0x10000, skip=before)
    run().failed(3, "CKR_DEVICE_MEMORY", "rolekey pin forget")
    shimmed.clear()
    run().failed(4, "was refused")


def count_before(shimmed, run, function):
    """How often C_GetTokenInfo is called before the last call of a function."""
    shimmed.forget_calls()
    run().failed(3)
    calls = shimmed.sequence
    shimmed.forget_calls()
    last = len(calls) - 1 - calls[::-1].index(function)
    return calls[:last].count("C_GetTokenInfo")


def test_last_try(shimmed, run):
    """A context login that would spend the last try is not begun."""
    shimmed.rule("C_SignInit", result=0x70)  # as far as one comes
    before = count_before(shimmed, run, "C_SignInit")
    shimmed.clear()
    shimmed.rule("C_GetTokenInfo", set_flags=USER_PIN_FINAL_TRY, skip=before - 1)
    run().failed(4, "one try of the PIN", "--use-last-try")
    assert shimmed.logins == {CKU_USER: 1}
    assert shimmed.calls["C_SignInit"] == 0
    shimmed.forget_calls()
    went_through(run("--use-last-try"))
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}


# --- what else may fail ---


@pytest.mark.parametrize("code", [0x6, 0x20, 0x50, 0x54, 0x70, 0x200, 0x80001234])
@pytest.mark.parametrize("function", ["C_SignInit", "C_Sign"])
def test_signature_that_fails(function, code, shimmed, run):
    """A signature that fails by itself says nothing of the PIN: the next run sends it again."""
    shimmed.rule(function, result=code)
    run().failed(3)
    assert shimmed.logins == {CKU_USER: 1} | ({CKU_CONTEXT_SPECIFIC: 1} if function == "C_Sign" else {})
    assert rolekey("pin", "list").stdout == ""
    shimmed.clear()
    went_through(run())


def test_finger_that_never_comes(shimmed, run):
    """A token that waits for a touch until the time is over has accepted the PIN, which the next run sends again."""
    shimmed.rule("C_Sign", hang=True)

    def attempt(seconds):
        rolekey("pin", "forget", "--all")  # of an attempt whose time was over during the login
        shimmed.forget_calls()
        return run("--timeout", seconds)

    at_its_deadline(attempt, lambda: "C_Sign" in shimmed.sequence).failed(6, "the signature of token")
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}
    assert rolekey("pin", "list").stdout == ""
    shimmed.clear()
    went_through(run())


@pytest.mark.parametrize("function", ["C_SignInit", "C_Login"])
def test_killed_before_the_answer(function, shimmed, run, words):
    """From before C_SignInit until the token has answered the login the source is noted: the try may be spent."""
    shimmed.rule(function, hang=True, only=CKU_CONTEXT_SPECIFIC if function == "C_Login" else None)
    process = start(*words(), environment=shimmed.environment)
    wait_until(lambda: shimmed.sequence[-1:] == [function] and "C_SignInit" in shimmed.sequence)
    assert rolekey("pin", "list").stdout.count("  trying  ") == 1
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    shimmed.clear()
    run().failed(4, "may have been refused (the answer is not known)")
    assert shimmed.logins[CKU_CONTEXT_SPECIFIC] == (1 if function == "C_Login" else 0)


# --- keys that do not say that they want it ---


def test_key_that_does_not_say_so(shimmed, run):
    """A key without CKA_ALWAYS_AUTHENTICATE that cannot sign for want of a login gets one context login."""
    shimmed.rule("C_Sign", only=1, result=CKR_USER_NOT_LOGGED_IN, after=True, times=1)
    shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=0)  # SoftHSM knows no such key
    went_through(run(label="p-256"))
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}
    assert shimmed.calls["C_SignInit"] == 2
    assert rolekey("pin", "list").stdout == ""


def test_key_that_does_not_say_so_and_refuses(shimmed, run):
    """There, too, a refused PIN is not sent again: neither in this run nor in the next."""
    shimmed.rule("C_Sign", only=1, result=CKR_USER_NOT_LOGGED_IN, after=True)
    shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=0xA0)
    run(label="p-256").failed(4, "login for the key p-256", "CKR_PIN_INCORRECT", "rolekey pin forget")
    run(label="p-256").failed(4, "was refused")
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}


# --- in one process ---


class Person:
    """Somebody who can be told things, and has a PIN."""

    def __init__(self, pin=None):
        self.told = []
        self._pin = pin

    def ask(self, _question, _opens):
        return self._pin

    def remind(self, text):
        self.told.append(text)


@pytest.fixture
def open_identity(shimmed, provisioned_token, monkeypatch):
    """Opens identities in a child process, which has the shim."""
    for name, value in shimmed.environment.items():
        monkeypatch.setenv(name, value)
    workers = []

    def open_identity(person=None, *, label="always-auth", **options):
        workers.append(Worker(person or NoInteraction()))
        key = provisioned_token.uri(label, with_pin=False)
        settings = resolve_settings(Options(**ARNS, private_key=key, pkcs11_lib=str(shimmed.module), **options), {})
        return workers[-1].open_identity(settings, Deadline(60))

    yield open_identity
    for worker in workers:
        worker.close()


@pytest.mark.parametrize("label", ["always-auth", "p-256"])
def test_refused_once_in_a_process(label, shimmed, open_identity, pin_file):
    """A process whose PIN was refused at a signature sends it no more, though the record is lost."""
    shimmed.rule("C_Sign", only=1, result=CKR_USER_NOT_LOGGED_IN, after=True)
    shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=0xA0)
    identity = open_identity(label=label, pin_source=f"file:{pin_file}")
    with pytest.raises(PinIncorrectError, match="CKR_PIN_INCORRECT") as caught:
        identity.sign("message")
    assert caught.value.tries == "unknown"
    assert rolekey("pin", "forget", "--all").stdout == "forgotten: 1\n"
    for _ in range(3):
        with pytest.raises(PinIncorrectError, match="not sent any more"):
            identity.sign("message")
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}


def test_many_signatures(shimmed, open_identity, pin_file):
    """Each signature has its own context login, and all of them one user login."""
    identity = open_identity(pin_source=f"file:{pin_file}")
    for number in range(5):
        message = f"message {number}"
        verify_signature(identity.certificate.public_key(), identity.sign(message), message.encode())
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 5}
    assert shimmed.signatures == 5
    assert rolekey("pin", "list").stdout == ""


# --- people ---


def test_typed_pin_is_not_recorded(shimmed, open_identity, provisioned_token):
    """A typed PIN that the key refuses is not held against anybody; the next run asks again."""
    shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=0xA0)
    for _ in range(2):
        identity = open_identity(Person(Secret(provisioned_token.user_pin)))
        with pytest.raises(PinIncorrectError):
            identity.sign("message")
    assert shimmed.logins == {CKU_USER: 2, CKU_CONTEXT_SPECIFIC: 2}
    assert rolekey("pin", "list").stdout == ""


def use_pad(shimmed, pin):
    shimmed.rule("C_GetTokenInfo", set_flags=PROTECTED_AUTHENTICATION_PATH)
    shimmed.rule("C_Login", pad_pin=pin)


def test_pin_pad(shimmed, open_identity, provisioned_token):
    """With a PIN pad both logins are C_Login without a PIN, and the person is told before each."""
    use_pad(shimmed, provisioned_token.user_pin)
    person = Person()
    identity = open_identity(person)
    told = f"Use the token's PIN pad: token {provisioned_token.label} (serial "
    assert [text.startswith(told) for text in person.told] == [True]
    for number in (2, 3):
        verify_signature(identity.certificate.public_key(), identity.sign("message"), b"message")
        assert [text.startswith(told) for text in person.told] == [True] * number
    assert shimmed.logins == shimmed.pad_logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 2}
    calls = [name for name in shimmed.sequence if name != "C_Login(NULL)"]
    at = calls.index("C_SignInit")
    assert calls[at : at + 3] == ["C_SignInit", "C_Login", "C_Sign"]


def test_pin_pad_of_the_command(shimmed, run, provisioned_token):
    """The command needs no source of a PIN then, and records nothing."""
    use_pad(shimmed, provisioned_token.user_pin)
    went_through(run(source=False))
    assert shimmed.pad_logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}
    assert rolekey("pin", "list").stdout == ""


def test_wrong_pin_on_the_pad(shimmed, open_identity, run, provisioned_token):
    """A wrong entry ends the run with what the token says; the next run has the pad ask again."""
    use_pad(shimmed, "0000")
    for _ in range(2):
        run(source=False).failed(4, "CKR_PIN_INCORRECT")
    assert shimmed.pad_logins == {CKU_USER: 2}
    shimmed.clear()
    use_pad(shimmed, provisioned_token.user_pin)
    identity = open_identity(Person())
    use_pad(shimmed, "0000")
    with pytest.raises(PinIncorrectError, match="CKR_PIN_INCORRECT") as caught:
        identity.sign("message")
    assert caught.value.tries == "low"
    assert shimmed.pad_logins == {CKU_USER: 3, CKU_CONTEXT_SPECIFIC: 1}
    assert rolekey("pin", "list").stdout == ""


def test_source_before_the_pad(shimmed, run):
    """A source that is named comes before the pad, for both logins."""
    use_pad(shimmed, "0000")
    went_through(run())
    assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}
    assert shimmed.pad_logins == {}


# --- p11-kit's client, whose sessions python-pkcs11 alone reaches ---


@dataclass(frozen=True)
class ServedThroughShim(ProvisionedToken):
    """The token, whose module the server has through the shim."""

    shimmed: Path

    @property
    def module(self):
        return self.shimmed


@pytest.mark.rig("p11-kit")
def test_refused_behind_p11_kit(shimmed, words, provisioned_token, monkeypatch):
    """There, too, a refused context login is held against the source; a PIN pad is refused before it is used."""
    for name, value in shimmed.environment.items():
        monkeypatch.setenv(name, value)
    with running_p11_kit_server(ServedThroughShim(provisioned_token.directory, shimmed.module)) as server:
        token = server.token(find_p11_kit())

        def run(**options):
            command = list(words(**options))
            command[command.index("--pkcs11-lib") + 1] = str(token.module)
            return rolekey(*command, environment=token.environment)

        went_through(run())
        shimmed.forget_calls()
        shimmed.rule("C_Login", only=CKU_CONTEXT_SPECIFIC, result=0xA0)
        run().failed(4, "CKR_PIN_INCORRECT", "rolekey pin forget")
        run().failed(4, "was refused")
        assert shimmed.logins == {CKU_USER: 1, CKU_CONTEXT_SPECIFIC: 1}
        use_pad(shimmed, provisioned_token.user_pin)
        run(source=False).failed(3, "PIN pad", "p11-kit's client", "--pkcs11-lib")
        assert shimmed.pad_logins == {CKU_USER: 1}
