"""The fault-injecting module (support/pkcs11_shim.py) does what its rules say, and nothing without them."""

import json
import os
import signal
import subprocess
import sys

import pytest

from support import pkcs11_shim as flags

# What a program sees of the first token, by python-pkcs11 alone: every step's result or the exception's name.
LOOK = """
import json, sys
import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

seen = {}

def step(name, function):
    try:
        seen[name] = function()
    except (pkcs11.PKCS11Error, AttributeError) as error:
        seen[name] = type(error).__name__ + str(error)

library = pkcs11.lib(sys.argv[1])
seen["description"] = library.library_description
slot = library.get_slots(token_present=True)[0]
seen["slot"] = slot.slot_description
step("token", lambda: [slot.get_token().label, slot.get_token().serial.decode(), int(slot.get_token().flags)])
step("mechanisms", lambda: sorted(int(m) for m in slot.get_mechanisms()))
token = slot.get_token()
session = None

def login():
    global session
    session = token.open(user_pin=sys.argv[2])

step("login", login)
step("login again", login)

def sign():
    key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label="p-256")
    return key.sign(bytes(32), mechanism=Mechanism.ECDSA).hex()

step("sign", sign)
step("sign again", sign)
print("SEEN" + json.dumps(seen))
"""


@pytest.fixture
def shim(pkcs11_shim, provisioned_token, tmp_path):
    """The shim over SoftHSM."""
    return pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")


@pytest.fixture
def run(shim, provisioned_token):
    """Runs LOOK through the shim, to the end."""

    def run_look(timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", LOOK, str(shim.module), provisioned_token.user_pin],
            env={**os.environ, **provisioned_token.environment, **shim.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    return run_look


@pytest.fixture
def look(run):
    """Runs LOOK, and gives what it saw."""

    def seen():
        done = run()
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.partition("SEEN")[2])

    return seen


def test_without_rules_nothing_changes(look, shim, provisioned_token):
    """Everything is passed on, and every call is counted."""
    seen = look()
    assert seen["token"][0] == provisioned_token.label
    assert len(seen["sign"]) == 128
    assert shim.calls["C_Initialize"] == 1
    assert shim.calls["C_Login"] == 2
    assert shim.logins == {flags.CKU_USER: 2}
    assert shim.signatures == 2
    shim.forget_calls()
    assert shim.calls.total() == 0


@pytest.mark.parametrize(
    ("function", "step"),
    [
        ("C_GetTokenInfo", "token"),
        ("C_GetMechanismList", "mechanisms"),
        ("C_OpenSession", "login"),
        ("C_Login", "login"),
        ("C_FindObjectsInit", "sign"),
        ("C_FindObjects", "sign"),
        ("C_SignInit", "sign"),
        ("C_Sign", "sign"),
    ],
)
def test_a_code_once(look, shim, function, step):
    """The chosen function answers the chosen code so many times, and then works."""
    shim.rule(function, result=0x30, times=1)
    seen = look()
    assert seen[step] == "DeviceError"
    if step == "sign" and function != "C_Sign":
        assert len(seen["sign again"]) == 128


@pytest.mark.parametrize(
    "function",
    [
        *("C_Initialize", "C_GetInfo", "C_GetSlotList", "C_GetSlotInfo", "C_GetTokenInfo", "C_OpenSession"),
        *("C_FindObjectsFinal", "C_GetAttributeValue"),
    ],
)
def test_a_vendors_code_for_ever(run, shim, function):
    """A code that no standard knows reaches the program, from functions that it cannot do without."""
    shim.rule(function, result=0x80001234)
    done = run()
    assert "0x80001234" in (done.stdout + done.stderr).lower()
    assert shim.calls[function] >= 1


def test_a_code_after_the_call(look, shim):
    """The real module did its work and the program hears of a failure: the login is there, and not known."""
    shim.rule("C_Login", result=0xA0, after=True, times=1)
    seen = look()
    assert seen["login"] == "PinIncorrect"
    assert seen["login again"] == "UserAlreadyLoggedIn"


def test_only_one_slot(look, shim):
    """A rule for another slot does not apply, neither to a call with a slot nor to one with a session."""
    for function in ("C_GetTokenInfo", "C_Sign"):
        shim.rule(function, result=0x30, slot=0x7FFF)
    seen = look()
    assert len(seen["sign"]) == 128


def test_only_one_detail(look, shim):
    """The signature fails and the question after its length does not; another mechanism is not concerned."""
    shim.rule("C_SignInit", result=0x70, only=0x1)
    shim.rule("C_Sign", result=0x32, only=1, after=True, skip=1)
    seen = look()
    assert len(seen["sign"]) == 128
    assert seen["sign again"] == "DeviceRemoved"


def test_nasty_labels(look, shim):
    """Any bytes can stand in the texts of library, slot and token."""
    shim.rule("C_GetTokenInfo", label=b"\x1b[31mred\n\x00end", serial=b"\x07bell")
    shim.rule("C_GetSlotInfo", label=b"a\x1b]0;slot\x07")
    shim.rule("C_GetInfo", label=b"library\nof doom")
    seen = look()
    assert seen["token"][:2] == ["\x1b[31mred\n\x00end", "\x07bell"]
    assert seen["slot"].startswith("a\x1b]0;slot\x07")
    assert seen["description"].startswith("library\nof doom")


def test_flags(look, shim):
    """Flags are set and cleared on top of the token's own."""
    shim.rule("C_GetTokenInfo", set_flags=flags.USER_PIN_FINAL_TRY, clear_flags=flags.LOGIN_REQUIRED)
    token_flags = look()["token"][2]
    assert token_flags & flags.USER_PIN_FINAL_TRY
    assert not token_flags & flags.LOGIN_REQUIRED


def test_mechanisms(look, shim):
    """A mechanism disappears from the list, and another one appears in it."""
    before = look()["mechanisms"]
    shim.rule("C_GetMechanismList", hide_mechanism=0x1041, add_mechanism=0x4021)
    after = look()["mechanisms"]
    assert set(before) - set(after) == {0x1041}
    assert set(after) - set(before) == {0x4021}


def test_chatter(run, shim):
    """The module writes on the program's own descriptors."""
    shim.rule("C_OpenSession", stdout=b"token says hello\n", times=1)
    shim.rule("C_OpenSession", stderr=b"debug: open\n", times=1)
    done = run()
    assert done.stdout.count("token says hello") == 1
    assert done.stderr.count("debug: open") == 1


def test_sleep(look, shim):
    """A slow call ends with its result."""
    shim.rule("C_Sign", sleep_ms=50, only=1)
    assert len(look()["sign"]) == 128


def test_crash(run, shim):
    """The process dies inside the module."""
    shim.rule("C_SignInit", crash=True)
    assert run().returncode == -signal.SIGABRT


def test_hang(run, shim):
    """A call that never returns."""
    shim.rule("C_SignInit", hang=True)
    with pytest.raises(subprocess.TimeoutExpired):
        run(timeout=3)
    assert shim.calls["C_SignInit"] == 1


def test_rules_change_while_a_process_runs(run, shim):
    """Without rules again, the next call goes through."""
    shim.rule("C_Initialize", result=0x5)
    assert run().returncode != 0
    shim.clear()
    assert run().returncode == 0
