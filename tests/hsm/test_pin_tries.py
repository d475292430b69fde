"""How many PINs a token is sent, counted in its module: one wrong one from one source, however often and by whomever.

Nothing answers at the endpoint: a run that was logged in and has signed ends with exit code 6, "Connection refused".
"""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import PinIncorrectError
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.pins import PinReader
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret
from rolekey.token_login import AcceptedPin, TokenLogin
from rolekey.tokens.modules import load_module
from support.pkcs11_shim import (
    CKU_USER,
    LOGIN_REQUIRED,
    PROTECTED_AUTHENTICATION_PATH,
    USER_PIN_COUNT_LOW,
    USER_PIN_FINAL_TRY,
    USER_PIN_LOCKED,
    USER_PIN_TO_BE_CHANGED,
)
from support.pkcs11_spy import PKCS11Calls
from support.process import Outcome, at_its_deadline, finish, patient, rolekey, running_program, start
from support.watching import wait_until

pytestmark = pytest.mark.rig("softhsm")
WRONG = "hunter2-canary"
ROLES = ("arn:aws:iam::000000000000:role/first", "arn:aws:iam::000000000000:role/second")
ARGUMENTS = (
    *("credential-process", "--endpoint", "http://127.0.0.1:1"),
    *("--trust-anchor-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a"),
    *("--profile-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p"),
)


def command(token, *more, role=ROLES[0], uri=None):
    return (*ARGUMENTS, "--role-arn", role, "--private-key", uri or token.uri("p-256", with_pin=False), *more)


def went_through(outcome):
    outcome.failed(6, "Connection refused")


@pytest.fixture
def pin_file(tmp_path):
    """A file for a PIN that nobody else may read, with a wrong one in it."""
    path = tmp_path / "pin"
    path.touch(mode=0o600)
    path.write_text(WRONG)
    return path


# --- counted by pkcs11-spy ---


class Spied:
    """Runs with pkcs11-spy, each with a log of its own, and the sum of all logs."""

    def __init__(self, spy, token, directory):
        self._spy, self._token, self._directory = spy, token, directory
        self._logs = []

    def arguments(self, *more, **options):
        return command(self._token, "--pkcs11-lib", str(self._spy.module), *more, **options)

    def environment(self):
        self._logs.append(self._directory / f"spy-{len(self._logs)}.log")
        return self._spy.environment(self._token.module, self._logs[-1])

    def run(self, *more, environment=None, **options):
        return rolekey(*self.arguments(*more, **options), environment=self.environment() | (environment or {}))

    @property
    def logins(self):
        return sum(PKCS11Calls.read(log).logins.total() for log in self._logs)


@pytest.fixture
def spied(pkcs11_spy, provisioned_token, tmp_path):
    return Spied(pkcs11_spy, provisioned_token, tmp_path)


@pytest.mark.parametrize("form", ["--pin-source", "the URI"])
def test_ten_runs_in_a_row(form, spied, provisioned_token, pin_file, tmp_path):
    """A wrong PIN in a file: ten runs for two roles, in which the runtime directory is lost, spend one try.

    The corrected file works at once.
    """
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    by_uri = provisioned_token.uri("p-256", with_pin=False) + f"?pin-source=file:{pin_file}"
    more, options = (("--pin-source", f"file:{pin_file}"), {}) if form == "--pin-source" else ((), {"uri": by_uri})

    def run(role):
        return spied.run(*more, role=role, environment={"XDG_RUNTIME_DIR": str(runtime)}, **options)

    run(ROLES[0]).failed(4, "CKR_PIN_INCORRECT", str(pin_file), "not sent again until the file changes")
    for number in range(1, 10):
        run(ROLES[number % 2]).failed(4, f"the file {pin_file} was refused", "not sent again", "rolekey pin forget")
        if number == 5:
            shutil.rmtree(runtime)
    assert spied.logins == 1
    pin_file.write_text(provisioned_token.user_pin)
    went_through(run(ROLES[0]))
    went_through(run(ROLES[1]))
    assert spied.logins == 3


def test_ten_runs_at_once(spied, pin_file):
    """So do ten that start at once, and do not learn from one another through the cache."""
    more = ("--pin-source", f"file:{pin_file}", "--no-cache", "--timeout", "50")
    words = [spied.arguments(*more, role=ROLES[number % 2]) for number in range(10)]
    processes = [start(*line, environment=spied.environment()) for line in words]
    outcomes = [finish(process, timeout=120) for process in processes]
    # SoftHSM notes a wrong PIN in its token's file; who looks at that moment may see no token, and has sent nothing.
    blind = [line for line, outcome in zip(words, outcomes, strict=True) if "no token matches" in outcome.stderr]
    outcomes = [outcome for outcome in outcomes if "no token matches" not in outcome.stderr]
    outcomes += [rolekey(*line, environment=spied.environment()) for line in blind]
    assert len(outcomes) == 10
    for outcome in outcomes:
        outcome.failed(4)
    assert sum("CKR_PIN_INCORRECT" in outcome.stderr for outcome in outcomes) == 1
    assert spied.logins == 1


def test_source_without_times(spied, provisioned_token, tmp_path):
    """A variable, a credential and a pin-value stay refused, corrected or not, until `rolekey pin forget` is run."""
    (tmp_path / "credentials").mkdir()
    credential = tmp_path / "credentials" / "hsm"
    plain = provisioned_token.uri("p-256", with_pin=False)

    def runs(pin):
        credential.unlink(missing_ok=True)
        credential.write_text(pin)
        yield spied.run("--pin-source", "env:HSM_PIN", environment={"HSM_PIN": pin})
        directory = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
        yield spied.run("--pin-source", "systemd:hsm", environment=directory)
        yield spied.run(uri=f"{plain}?pin-value={pin}")

    for outcome in runs(WRONG):
        outcome.failed(4, "CKR_PIN_INCORRECT")
        assert WRONG not in outcome.stderr
        assert "until the file changes" not in outcome.stderr
    for pin in (WRONG, provisioned_token.user_pin):
        for outcome in runs(pin):
            outcome.failed(4, "was refused", "rolekey pin forget")
    assert spied.logins == 3
    assert rolekey("pin", "list").stdout.count("refused") == 3
    (words,) = set(re.findall(r"`rolekey (pin forget '.*')`", outcome.stderr))
    assert rolekey(*words.replace("'", "").split(" ")).stdout == "forgotten: 3\n"
    for outcome in runs(provisioned_token.user_pin):
        went_through(outcome)
    assert rolekey("pin", "list").stdout == ""


def test_descriptor(spied, provisioned_token, pin_file):
    """So does a descriptor; one that is not open is an error before any of ours gets its number."""

    def run():
        with pin_file.open() as file:
            words = spied.arguments("--pin-source", f"fd:{file.fileno()}")
            done = subprocess.run(
                [sys.executable, "-m", "rolekey", *patient(words)],
                env={**os.environ, **spied.environment()},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                pass_fds=[file.fileno()],
                start_new_session=True,
            )
        return Outcome(done.returncode, done.stdout, done.stderr)

    run().failed(4, "CKR_PIN_INCORRECT")
    run().failed(4, "was refused")
    assert spied.logins == 1
    assert rolekey("pin", "forget", "--all").stdout == "forgotten: 1\n"
    pin_file.write_text(provisioned_token.user_pin)
    went_through(run())
    spied.run("--pin-source", "fd:77").failed(4, "file descriptor 77", "is not open")
    assert spied.logins == 2


def test_another_source(spied, provisioned_token, pin_file, tmp_path):
    """A refused source keeps no other from being used; a link to it is no other."""
    spied.run("--pin-source", f"file:{pin_file}").failed(4, "CKR_PIN_INCORRECT")
    (tmp_path / "link").symlink_to(pin_file)
    spied.run("--pin-source", f"file:{tmp_path}/link").failed(4, "was refused")
    assert spied.logins == 1
    went_through(spied.run("--pin-source", f"file:{provisioned_token.pin_file}"))


def state_home(place, tmp_path):
    """A state directory that cannot be used."""
    (tmp_path / "file").touch()
    if place == "foreign":
        (tmp_path / "foreign" / "rolekey").mkdir(parents=True)
        (tmp_path / "foreign" / "rolekey").chmod(0o777)
    return {"XDG_STATE_HOME": place if place.startswith("/") else str(tmp_path / place.removeprefix("a "))}


@pytest.mark.parametrize(
    ("place", "runtime"),
    [
        ("/dev/null", {"XDG_RUNTIME_DIR": "/dev/null"}),
        ("a file", {"XDG_RUNTIME_DIR": "relative"}),
        ("a file", {"XDG_RUNTIME_DIR": "/nowhere"}),
        ("foreign", {}),
    ],
)
def test_no_record_no_try(place, runtime, spied, provisioned_token, tmp_path):
    """Where no record can be kept a PIN that nobody types is not sent, not even a right one.

    A state directory that others can write to is not replaced by another place.
    """
    pin = f"file:{provisioned_token.pin_file}"
    outcome = spied.run("--pin-source", pin, environment=state_home(place, tmp_path) | runtime)
    outcome.failed(4, "is not sent: no record of refused PINs can be kept", "XDG_STATE_HOME")
    assert spied.logins == 0


@pytest.mark.parametrize("place", ["/dev/null", "a file"])
def test_record_in_the_runtime_directory(place, spied, provisioned_token, pin_file, tmp_path):
    """Where only the runtime directory can be written the record is there: a wrong PIN is one try, a right one works.

    What was noted there counts when the state directory can be written again.
    """
    state = state_home(place, tmp_path)
    for environment in (state, state, {}):
        spied.run("--pin-source", f"file:{pin_file}", environment=environment).failed(4)
    assert spied.logins == 1
    assert rolekey("pin", "list", environment=state).stdout.count("refused") == 1
    pin_file.write_text(provisioned_token.user_pin)
    went_through(spied.run("--pin-source", f"file:{pin_file}", environment=state))
    assert rolekey("pin", "list", environment=state).stdout == ""
    assert spied.logins == 2


# --- what the token says, made up by the shim ---


@pytest.fixture
def shimmed(pkcs11_shim, provisioned_token, tmp_path):
    return pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")


@pytest.fixture
def run(shimmed, provisioned_token):
    def run(*more, environment=None, **options):
        words = command(provisioned_token, "--pkcs11-lib", str(shimmed.module), *more, **options)
        return rolekey(*words, environment=shimmed.environment | (environment or {}))

    return run


@pytest.fixture
def right(provisioned_token, tmp_path):
    """--pin-source with the right PIN, in a file that may be changed."""
    path = tmp_path / "right"
    path.touch(mode=0o600)
    path.write_text(provisioned_token.user_pin)
    return ("--pin-source", f"file:{path}")


REFUSED = {0xA0: "CKR_PIN_INCORRECT", 0xA1: "CKR_PIN_INVALID", 0xA2: "CKR_PIN_LEN_RANGE", 0xA4: "CKR_PIN_LOCKED"}
UNCLEAR = (0x5, 0x6, 0x54, 0x80001234)
UNASKED = (0x30, 0x31, 0x32, 0x90, 0xA3, 0xB1, 0xB3, 0xE0, 0xE1, 0x102)


@pytest.mark.parametrize("code", [*REFUSED, *UNCLEAR])
def test_answer_after_which_the_pin_is_not_sent_again(code, shimmed, run, right):
    """A refusal, and a code that does not tell whether the PIN was refused, keep the source from being sent again."""
    shimmed.rule("C_Login", result=code)
    outcome = run(*right)
    outcome.failed(4 if code in REFUSED else 3, "rolekey pin forget", REFUSED.get(code, ""))
    assert shimmed.logins == {CKU_USER: 1}
    shimmed.clear()
    run(*right).failed(4, "was refused" if code in REFUSED else "may have been refused")
    assert shimmed.logins == {CKU_USER: 1}
    os.utime(right[1].removeprefix("file:"))
    went_through(run(*right))


@pytest.mark.parametrize("code", UNASKED)
def test_answer_that_says_nothing_of_the_pin(code, shimmed, run, right):
    """A token that was not reached, or never looked at the PIN, holds nothing against it; this run sends it once."""
    shimmed.rule("C_Login", result=code)
    outcome = run(*right)
    outcome.failed(outcome.code)
    assert outcome.code in (3, 4)
    assert shimmed.logins == {CKU_USER: 1}
    shimmed.clear()
    went_through(run(*right))


def test_lost_try_tells(shimmed, run, right, pin_file):
    """Where a try was lost the PIN was refused, whatever the code says."""
    went_through(run(*right))  # no try is lost any more
    shimmed.forget_calls()
    shimmed.rule("C_Login", result=0x30, after=True)
    run("--pin-source", f"file:{pin_file}").failed(3, "CKR_DEVICE_ERROR", "rolekey pin forget")
    shimmed.clear()
    run("--pin-source", f"file:{pin_file}").failed(4, "was refused")
    assert shimmed.logins == {CKU_USER: 1}


def test_killed_while_the_token_looks_at_the_pin(shimmed, right, provisioned_token, run):
    """After a kill in C_Login the try may have been counted: the source is not sent again until it changed."""
    shimmed.rule("C_Login", hang=True)
    words = command(provisioned_token, "--pkcs11-lib", str(shimmed.module), *right)
    process = start(*words, environment=shimmed.environment)
    wait_until(lambda: shimmed.logins)
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    shimmed.clear()
    assert rolekey("pin", "list").stdout.count("  trying  ") == 1
    run(*right).failed(4, "may have been refused (the answer is not known)")
    assert shimmed.logins == {CKU_USER: 1}
    os.utime(right[1].removeprefix("file:"))
    went_through(run(*right))


def test_login_that_hangs(shimmed, run, right):
    """A login that hangs ends with the deadline, and is not tried again."""
    shimmed.rule("C_Login", hang=True)
    outcome = at_its_deadline(lambda seconds: run(*right, "--timeout", seconds), lambda: shimmed.logins)
    outcome.failed(6, "the login of token")
    run(*right).failed(4, "may have been refused")
    assert shimmed.logins == {CKU_USER: 1}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (USER_PIN_LOCKED, ("is locked", "PUK or SO PIN")),
        (USER_PIN_FINAL_TRY, ("one try of the PIN", "it is not spent", "--use-last-try")),
        (USER_PIN_TO_BE_CHANGED, ("has to be changed", "set a PIN of your own")),
    ],
)
def test_state_in_which_no_pin_is_sent(flags, words, shimmed, run, right):
    """A locked PIN, the last try and a PIN that has to be changed: each has its own words, and no PIN is sent."""
    shimmed.rule("C_GetTokenInfo", set_flags=flags)
    run(*right).failed(4, *words)
    assert shimmed.logins == {}


def test_user_pin_never_set(shimmed, run, right):
    """So has a user PIN that was never set."""
    shimmed.rule("C_GetTokenInfo", clear_flags=0x8)
    run(*right).failed(4, "was never set", "security officer")
    assert shimmed.logins == {}


def test_last_try(shimmed, run, right):
    """The last try is spent where --use-last-try says so."""
    shimmed.rule("C_GetTokenInfo", set_flags=USER_PIN_FINAL_TRY | USER_PIN_COUNT_LOW)
    went_through(run(*right, "--use-last-try"))
    assert shimmed.logins == {CKU_USER: 1}


@pytest.mark.parametrize(("limits", "sent"), [((4, 255), 1), ((50, 60), 0), ((1, 3), 0), ((0, 0), 1), ((9, 2), 1)])
def test_length_limits(limits, sent, shimmed, run, right):
    """A PIN outside the token's limits is not sent; limits that are none, or contradict each other, do not count."""
    shimmed.rule("C_GetTokenInfo", shortest_pin=limits[0], longest_pin=limits[1])
    outcome = run(*right)
    assert shimmed.logins.total() == sent
    if sent:
        went_through(outcome)
    else:
        outcome.failed(4, "not of a length that token", f"takes {limits[0]} to {limits[1]} bytes")
        assert rolekey("pin", "list").stdout == ""


def test_token_without_login(shimmed, run, tmp_path):
    """A token that does not want a login gets none, and its PIN is not even looked for."""
    shimmed.rule("C_GetTokenInfo", clear_flags=LOGIN_REQUIRED)
    outcome = run("--pin-source", f"file:{tmp_path}/nonexistent")
    outcome.failed(3)
    assert "nonexistent" not in outcome.stderr
    assert shimmed.logins == {}


def test_pin_pad(shimmed, run, right):
    """A token with a PIN pad asks for the PIN itself: C_Login without one. A source that is named comes first."""
    shimmed.rule("C_GetTokenInfo", set_flags=PROTECTED_AUTHENTICATION_PATH)
    went_through(run(*right))
    shimmed.forget_calls()
    # SoftHSM has no pad and says so, after the call.
    run().failed(3, "CKR_ARGUMENTS_BAD")
    assert shimmed.logins == {CKU_USER: 1}
    assert rolekey("pin", "list").stdout == ""
    run("--pin-source", "none").failed(4, "--pin-source is none")


def test_no_source(run, shimmed):
    """Without source, pad, terminal and display the error comes at once and lists what was looked for."""
    outcome = run(environment={"DISPLAY": "", "WAYLAND_DISPLAY": ""})
    outcome.failed(4, "--pin-source", "pin-source in the URI", "no PIN pad", "no terminal", "no display", "file:PATH")
    assert shimmed.logins == {}


# --- people ---

LEADER = """
import fcntl, os, subprocess, sys, termios
fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR), termios.TIOCSCTTY, 0)
sys.exit(subprocess.run(sys.argv[2:]).returncode)
"""


@contextmanager
def terminal(words, environment):
    """Runs rolekey on a terminal of its own; gives the process and the terminal's other end."""
    mine, other = os.openpty()
    try:
        with running_program(
            [sys.executable, "-c", LEADER, os.ttyname(other), sys.executable, "-m", "rolekey", *words],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            yield process, mine
    finally:
        os.close(mine)
        os.close(other)


def type_pin(words, environment, pin):
    """Answers the question; gives what the terminal showed, and the end."""
    shown = ""
    with terminal(words, environment) as (process, mine):
        while not shown.endswith(": "):
            assert select.select([mine], [], [], 60)[0], shown
            shown += os.read(mine, 4096).decode()
        os.write(mine, pin.encode() + b"\n")
        output = process.communicate(timeout=60)
    return shown, Outcome(process.returncode, *output)


@pytest.mark.parametrize(
    ("flags", "tries"),
    [
        (0, ""),
        (USER_PIN_COUNT_LOW, " (few tries are left)"),
        (USER_PIN_COUNT_LOW | USER_PIN_FINAL_TRY, " (THE LAST TRY)"),
    ],
)
@pytest.mark.parametrize("place", ["a place", "no place"])
def test_question(flags, tries, place, shimmed, provisioned_token):
    """The question names token, serial number, key and role, and says when few tries are left, or the last.

    Who types a PIN needs no place for a record.
    """
    (token,) = [t for t in load_module(str(provisioned_token.module)).tokens() if t.label == provisioned_token.label]
    shimmed.rule("C_GetTokenInfo", set_flags=flags, clear_flags=USER_PIN_COUNT_LOW if not flags else None)
    more = ("--use-last-try",) if flags & USER_PIN_FINAL_TRY else ()
    state = {} if place == "a place" else {"XDG_STATE_HOME": "/dev/null"}
    words = command(provisioned_token, "--pkcs11-lib", str(shimmed.module), *more)
    shown, outcome = type_pin(words, shimmed.environment | state, provisioned_token.user_pin)
    assert shown == f"PIN of token rolekey-softhsm (serial {token.serial}), key p-256{tries} for role first: "
    went_through(outcome)


def test_label_on_the_terminal(shimmed, provisioned_token):
    """What a token calls itself is shown with nothing that a terminal would obey."""
    shimmed.rule("C_GetTokenInfo", label=b"\x1b]0;evil\x07\r\n\x9b31mx".ljust(32), serial=b"\x1b[2J".ljust(16))
    uri = "pkcs11:object=p-256"
    words = command(provisioned_token, "--pkcs11-lib", str(shimmed.module), uri=uri)
    shown, outcome = type_pin(words, shimmed.environment, provisioned_token.user_pin)
    assert shown.isprintable()
    assert r"PIN of token \x1b]0;evil\x07" in shown
    went_through(outcome)


def test_typed_pins_are_not_recorded(shimmed, provisioned_token):
    """A person decides about the next try: each wrong PIN that is typed ends its run, and the next one asks again."""
    words = command(provisioned_token, "--pkcs11-lib", str(shimmed.module), "--pin-source", "prompt")
    for _ in range(2):
        shown, outcome = type_pin(words, shimmed.environment, WRONG)
        outcome.failed(4, "CKR_PIN_INCORRECT")
        assert WRONG not in shown + outcome.stderr
    assert shimmed.logins == {CKU_USER: 2}
    assert rolekey("pin", "list").stdout == ""
    went_through(type_pin(words, shimmed.environment, provisioned_token.user_pin)[1])


def test_pinentry(run, shimmed, provisioned_token, tmp_path):
    """Without a terminal and with a display the PIN is asked for in pinentry's window; cancelling ends the run."""
    program = tmp_path / "pinentry"
    program.write_text(
        "#!/bin/sh\necho OK\nwhile read -r line; do\n"
        '  case "$line" in GETPIN) echo "$FAKE_ANSWER"; [ "$FAKE_ANSWER" = "ERR 83886179" ] || echo OK;; '
        f'*) echo "$line" >> {tmp_path}/said; echo OK;; esac\ndone\n'
    )
    program.chmod(0o700)
    window = {"DISPLAY": ":0", "PINENTRY": str(program)}
    went_through(run(environment=window | {"FAKE_ANSWER": f"D {provisioned_token.user_pin}"}))
    assert "SETDESC PIN of token rolekey-softhsm (serial " in (tmp_path / "said").read_text()
    shimmed.forget_calls()
    run(environment=window | {"FAKE_ANSWER": "ERR 83886179"}).failed(4, "was cancelled")
    run("--pin-source", "none", environment=window).failed(4, "--pin-source is none")
    assert shimmed.logins == {}


# --- after a recovery ---


def accepted_pin(provisioned_token, pin_file):
    pin_file.write_text(provisioned_token.user_pin)
    options = Options(
        trust_anchor_arn=ARGUMENTS[4],
        profile_arn=ARGUMENTS[6],
        role_arn=ROLES[0],
        private_key="pkcs11:",
        pin_source=f"file:{pin_file}",
    )
    login = TokenLogin(resolve_settings(options, {}), (PKCS11URI.parse("pkcs11:"),), NoInteraction(), Deadline(60))
    module = load_module(str(provisioned_token.module))
    (token,) = [token for token in module.tokens() if token.label == provisioned_token.label]
    opened = login.open(token, "any")
    opened.session.close()
    assert opened.accepted is not None
    assert opened.accepted.secret == Secret(provisioned_token.user_pin)
    return token, opened.accepted


def test_accepted_pin_serves_again(provisioned_token, pin_file):
    """A PIN that was accepted logs in again after each recovery, although its source is gone."""
    token, accepted = accepted_pin(provisioned_token, pin_file)
    pin_file.unlink()
    for _ in range(3):
        with closing(accepted.open(token)) as session:
            assert session.private_keys()


class RefusingToken:
    """A token that refuses every PIN, and counts them."""

    tries = "low"

    def __init__(self):
        self.sent = 0

    def open(self, _pin):
        self.sent += 1
        raise PinIncorrectError("refused", hint="none")


def test_accepted_pin_that_is_refused():
    """Once it is refused it is not sent any more."""
    token = RefusingToken()
    accepted = AcceptedPin(Secret("1234"), lambda _token, send, _asked: send(), PinReader(None))
    for words in ("refused", "not sent any more"):
        assert accepted.usable == (words == "refused")
        with pytest.raises(PinIncorrectError, match=words):
            accepted.open(token)
    assert token.sent == 1
