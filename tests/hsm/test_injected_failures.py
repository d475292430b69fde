"""Every return code of PKCS#11 v2.40, a vendor's, and a hang, injected into each function that a run needs.

What must come of it stands in EXPECTED: for each function the class for every code, and the codes with another one.
"ok" means that credentials come out all the same.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rolekey import errors
from rolekey.cli.ending import EXIT_CODES, exit_code
from support.pkcs11_shim import CKU_CONTEXT_SPECIFIC
from support.process import GENEROUS, rolekey, running_program

pytestmark = pytest.mark.rig("softhsm", "shim")
TESTS = Path(__file__).parents[1]

CODES = {
    "CANCEL": 0x1, "HOST_MEMORY": 0x2, "SLOT_ID_INVALID": 0x3, "GENERAL_ERROR": 0x5, "FUNCTION_FAILED": 0x6,
    "ARGUMENTS_BAD": 0x7, "NO_EVENT": 0x8, "NEED_TO_CREATE_THREADS": 0x9, "CANT_LOCK": 0xA,
    "ATTRIBUTE_READ_ONLY": 0x10, "ATTRIBUTE_SENSITIVE": 0x11, "ATTRIBUTE_TYPE_INVALID": 0x12,
    "ATTRIBUTE_VALUE_INVALID": 0x13, "ACTION_PROHIBITED": 0x1B, "DATA_INVALID": 0x20, "DATA_LEN_RANGE": 0x21,
    "DEVICE_ERROR": 0x30, "DEVICE_MEMORY": 0x31, "DEVICE_REMOVED": 0x32, "ENCRYPTED_DATA_INVALID": 0x40,
    "ENCRYPTED_DATA_LEN_RANGE": 0x41, "FUNCTION_CANCELED": 0x50, "FUNCTION_NOT_PARALLEL": 0x51,
    "FUNCTION_NOT_SUPPORTED": 0x54, "KEY_HANDLE_INVALID": 0x60, "KEY_SIZE_RANGE": 0x62,
    "KEY_TYPE_INCONSISTENT": 0x63, "KEY_NOT_NEEDED": 0x64, "KEY_CHANGED": 0x65, "KEY_NEEDED": 0x66,
    "KEY_INDIGESTIBLE": 0x67, "KEY_FUNCTION_NOT_PERMITTED": 0x68, "KEY_NOT_WRAPPABLE": 0x69,
    "KEY_UNEXTRACTABLE": 0x6A, "MECHANISM_INVALID": 0x70, "MECHANISM_PARAM_INVALID": 0x71,
    "OBJECT_HANDLE_INVALID": 0x82, "OPERATION_ACTIVE": 0x90, "OPERATION_NOT_INITIALIZED": 0x91,
    "PIN_INCORRECT": 0xA0, "PIN_INVALID": 0xA1, "PIN_LEN_RANGE": 0xA2, "PIN_EXPIRED": 0xA3, "PIN_LOCKED": 0xA4,
    "SESSION_CLOSED": 0xB0, "SESSION_COUNT": 0xB1, "SESSION_HANDLE_INVALID": 0xB3,
    "SESSION_PARALLEL_NOT_SUPPORTED": 0xB4, "SESSION_READ_ONLY": 0xB5, "SESSION_EXISTS": 0xB6,
    "SESSION_READ_ONLY_EXISTS": 0xB7, "SESSION_READ_WRITE_SO_EXISTS": 0xB8, "SIGNATURE_INVALID": 0xC0,
    "SIGNATURE_LEN_RANGE": 0xC1, "TEMPLATE_INCOMPLETE": 0xD0, "TEMPLATE_INCONSISTENT": 0xD1,
    "TOKEN_NOT_PRESENT": 0xE0, "TOKEN_NOT_RECOGNIZED": 0xE1, "TOKEN_WRITE_PROTECTED": 0xE2,
    "UNWRAPPING_KEY_HANDLE_INVALID": 0xF0, "UNWRAPPING_KEY_SIZE_RANGE": 0xF1,
    "UNWRAPPING_KEY_TYPE_INCONSISTENT": 0xF2, "USER_ALREADY_LOGGED_IN": 0x100, "USER_NOT_LOGGED_IN": 0x101,
    "USER_PIN_NOT_INITIALIZED": 0x102, "USER_TYPE_INVALID": 0x103, "USER_ANOTHER_ALREADY_LOGGED_IN": 0x104,
    "USER_TOO_MANY_TYPES": 0x105, "WRAPPED_KEY_INVALID": 0x110, "WRAPPED_KEY_LEN_RANGE": 0x112,
    "WRAPPING_KEY_HANDLE_INVALID": 0x113, "WRAPPING_KEY_SIZE_RANGE": 0x114, "WRAPPING_KEY_TYPE_INCONSISTENT": 0x115,
    "RANDOM_SEED_NOT_SUPPORTED": 0x120, "RANDOM_NO_RNG": 0x121, "DOMAIN_PARAMS_INVALID": 0x130,
    "CURVE_NOT_SUPPORTED": 0x140, "BUFFER_TOO_SMALL": 0x150, "SAVED_STATE_INVALID": 0x160,
    "INFORMATION_SENSITIVE": 0x170, "STATE_UNSAVEABLE": 0x180, "CRYPTOKI_NOT_INITIALIZED": 0x190,
    "CRYPTOKI_ALREADY_INITIALIZED": 0x191, "MUTEX_BAD": 0x1A0, "MUTEX_NOT_LOCKED": 0x1A1, "NEW_PIN_MODE": 0x1B0,
    "NEXT_OTP": 0x1B1, "EXCEEDED_MAX_ITERATIONS": 0x1B5, "FIPS_SELF_TEST_FAILED": 0x1B6,
    "LIBRARY_LOAD_FAILED": 0x1B7, "PIN_TOO_WEAK": 0x1B8, "PUBLIC_KEY_INVALID": 0x1B9, "FUNCTION_REJECTED": 0x200,
    "VENDOR_DEFINED": 0x80000000, "0x80001234": 0x80001234,
}  # fmt: skip
GONE = dict.fromkeys(("DEVICE_REMOVED", "TOKEN_NOT_PRESENT", "TOKEN_NOT_RECOGNIZED"), "TokenNotFoundError")
BUSY = dict.fromkeys(("DEVICE_MEMORY", "SESSION_COUNT"), "TokenStateError")
UNFIT = dict.fromkeys(
    ("KEY_TYPE_INCONSISTENT", "KEY_FUNCTION_NOT_PERMITTED", "MECHANISM_INVALID"), "UnsupportedKeyError"
)
LOGIN = {"USER_NOT_LOGGED_IN": "PinRequiredError"}
OTHER = {**GONE, **BUSY, **UNFIT, **LOGIN}
PIN = {
    "PIN_INCORRECT": "PinIncorrectError",
    "PIN_INVALID": "PinIncorrectError",
    "PIN_LEN_RANGE": "PinIncorrectError",
    "PIN_EXPIRED": "PinNotUsableError",
    "USER_PIN_NOT_INITIALIZED": "PinNotUsableError",
    "PIN_LOCKED": "PinLockedError",
}
# These three say that an attribute is not to be had: an object without attributes is not the one that is looked for.
NO_ATTRIBUTE = dict.fromkeys(("ATTRIBUTE_SENSITIVE", "ATTRIBUTE_TYPE_INVALID", "FUNCTION_FAILED"), "KeyNotFoundError")
# Found out by the next call: a module that is not initialised though it says so, an operation that was not begun.
NAMED_OTHERWISE = {("C_Initialize", "CRYPTOKI_ALREADY_INITIALIZED"), ("C_SignInit", "BUFFER_TOO_SMALL")}
EXPECTED = {
    "C_Initialize": ("ModuleError", {}),
    "C_GetSlotInfo": ("ok", {}),
    "C_GetTokenInfo": ("TokenNotFoundError", {}),
    "C_GetMechanismList": ("ok", {}),
    "C_OpenSession": ("TokenOperationError", OTHER),
    "C_Login": ("TokenOperationError", {**OTHER, **PIN}),
    "C_FindObjectsInit": ("TokenOperationError", OTHER),
    "C_FindObjects": ("TokenOperationError", OTHER),
    "C_GetAttributeValue": ("TokenOperationError", {**OTHER, **NO_ATTRIBUTE}),
    "C_SignInit": ("TokenOperationError", OTHER),
    "C_Sign": ("TokenOperationError", OTHER),
    "C_CloseSession": ("ok", {}),
    "C_Finalize": ("ok", {}),
}


@pytest.fixture(scope="module")
def inject(provisioned_token, pkcs11_shim, tmp_path_factory):
    directory = tmp_path_factory.mktemp("injection")
    shimmed = pkcs11_shim.over(provisioned_token.module, directory / "shim")
    environment = {**os.environ, **shimmed.environment, **provisioned_token.environment}
    environment |= {"PYTHONPATH": str(TESTS), "XDG_STATE_HOME": str(directory / "state")}
    words = [sys.executable, "-m", "support.injection", *map(str, (shimmed.module, shimmed.wrapped, shimmed.directory))]
    with running_program(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:

        def inject(function, code, detail=None, label="p-256"):
            child.stdin.write(json.dumps([function, code, detail, provisioned_token.uri(label)]) + "\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline())

        yield inject
        child.stdin.close()
        child.wait(60)


@pytest.mark.parametrize("function", EXPECTED)
def test_every_return_code(inject, function):
    """Each code from this function gives the class of the table and its name in the text, and costs one PIN try."""
    default, others = EXPECTED[function]
    found, tries = {}, {}
    for name, code in CODES.items():
        result = inject(function, code)
        found[name], tries[name] = result["class"], result["logins"]
        if result["class"] not in ("ok", "KeyNotFoundError") and (function, name) not in NAMED_OTHERWISE:
            assert name in result["text"] or f"0x{code:08X}" in result["text"], result
    assert found == {name: others.get(name, default) for name in CODES}
    # An accepted PIN is sent once more after a recovery; one of which that is not known never.
    allowed = 1 if function == "C_Login" else 2
    assert max(tries.values()) <= allowed


# What is tried again after these is the whole: the token was away, and nobody looked at the PIN.
RECOVERED = {
    *("DEVICE_ERROR", "DEVICE_REMOVED", "OPERATION_ACTIVE", "SESSION_CLOSED", "SESSION_HANDLE_INVALID"),
    "TOKEN_NOT_PRESENT",
}


@pytest.mark.parametrize("function", ["C_SignInit", "C_Login", "C_Sign"])
def test_every_return_code_around_a_context_login(inject, function):
    """With a key that wants the PIN at each signature each code has the class and name that it has with others.

    After an answer to the context login that does not clear the PIN, nothing is sent again.
    """
    default, others = EXPECTED[function]
    found, tries = {}, {}
    for name, code in CODES.items():
        result = inject(function, code, CKU_CONTEXT_SPECIFIC if function == "C_Login" else None, "always-auth")
        found[name], tries[name] = result["class"], result["logins"]
        assert name in result["text"] or f"0x{code:08X}" in result["text"], result
    assert found == {name: others.get(name, default) for name in CODES}
    if function == "C_Login":
        assert tries == {name: 4 if name in RECOVERED else 2 for name in CODES}
    assert max(tries.values()) <= 4


def test_the_table_speaks_of_real_classes():
    """Every class of the table exists and has an exit code of 3 or 4."""
    for default, others in EXPECTED.values():
        for name in {default, *others.values()} - {"ok"}:
            kind = getattr(errors, name)
            assert exit_code(kind.__new__(kind)) in (EXIT_CODES[errors.SignerError], EXIT_CODES[errors.PinError])
    assert len(CODES) == 95


def run(provisioned_token, shimmed, tmp_path, *more, seconds=GENEROUS):
    return rolekey(
        "credential-process",
        *("--trust-anchor-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a"),
        *("--profile-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p"),
        *("--role-arn", "arn:aws:iam::000000000000:role/r"),
        *("--endpoint", "http://127.0.0.1:1", "--timeout", seconds, "--pkcs11-lib", str(shimmed.module)),
        *("--private-key", provisioned_token.uri("p-256"), *more),
        environment={**shimmed.environment, "XDG_STATE_HOME": str(tmp_path / "state")},
    )


@pytest.mark.parametrize("function", [f for f in EXPECTED if f not in ("C_CloseSession", "C_Finalize")])
def test_a_hang(provisioned_token, pkcs11_shim, tmp_path, function):
    """A function that never returns ends the run at --timeout with DeadlineError, and the process with it."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    shimmed.rule(function, hang=True)
    run(provisioned_token, shimmed, tmp_path, seconds="1.5").failed(6, "timed out after 1.5 s waiting for")
    assert shimmed.calls["C_Login"] <= 1


@pytest.mark.parametrize("function", ["C_CloseSession", "C_Finalize"])
def test_a_hang_at_the_end(provisioned_token, pkcs11_shim, tmp_path, function):
    """A module that hangs while it closes holds up neither the answer nor the process."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    # The first session is the search's, before the login.
    shimmed.rule(function, hang=True, skip=1 if function == "C_CloseSession" else None)
    run(provisioned_token, shimmed, tmp_path).failed(6, "Connection refused")


@pytest.mark.parametrize("function", ["C_Initialize", "C_Login", "C_Sign"])
def test_chatter(provisioned_token, pkcs11_shim, tmp_path, function):
    """What a module writes on stdout and stderr reaches nobody."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    shimmed.rule(function, stdout=b"chatter on stdout\n", stderr=b"chatter on stderr\n")
    outcome = run(provisioned_token, shimmed, tmp_path)
    outcome.failed(6, "Connection refused")
    assert "chatter" not in outcome.stderr


def test_a_search_that_fails_leaves_no_traceback(provisioned_token, pkcs11_shim, tmp_path):
    """python-pkcs11's complaint about a search that could not be ended does not reach stderr."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    shimmed.rule("C_FindObjectsInit", result=CODES["GENERAL_ERROR"])
    run(provisioned_token, shimmed, tmp_path).failed(3, "CKR_GENERAL_ERROR")


@pytest.mark.parametrize("result", ["SESSION_HANDLE_INVALID", "DEVICE_REMOVED", "DEVICE_ERROR", "OPERATION_ACTIVE"])
@pytest.mark.parametrize("function", ["C_SignInit", "C_Sign"])
def test_one_recovery(provisioned_token, pkcs11_shim, tmp_path, function, result):
    """A failure that passes costs one recovery, with the PIN that was accepted, and the run goes on."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    shimmed.rule(function, result=CODES[result], times=1)
    run(provisioned_token, shimmed, tmp_path).failed(6, "Connection refused")
    assert shimmed.logins == {1: 2}


def test_one_broken_slot_hides_no_other(provisioned_token, pkcs11_shim, tmp_path):
    """A slot whose information or token cannot be had is left out; the other slots serve."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    for function in ("C_GetSlotInfo", "C_GetTokenInfo"):
        # SoftHSM's second slot holds the token that is not initialised; its number is the highest.
        shimmed.rule(function, result=CODES["DEVICE_ERROR"], skip=1, times=1)
    run(provisioned_token, shimmed, tmp_path).failed(6, "Connection refused")


@pytest.mark.parametrize("label", [b"evil\x1b[31m\x07label", b"two\nlines", b"nul\0s"])
def test_labels_that_a_terminal_would_obey(provisioned_token, pkcs11_shim, tmp_path, label):
    """A token's label reaches stderr without anything that a terminal obeys, also with --debug."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    shimmed.rule("C_GetTokenInfo", label=label)
    outcome = run(provisioned_token, shimmed, tmp_path, "--debug")
    assert outcome.code == 3
    assert all(c.isprintable() or c == "\n" for c in outcome.stderr)
    assert [line for line in outcome.stderr.splitlines() if not line.startswith("rolekey: ")] == []
