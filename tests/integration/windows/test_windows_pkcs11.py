"""A key in a PKCS#11 token on Windows: our DLL, whose token signs, behind the real python-pkcs11."""

import json
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509

from rolekey.sigv4_x509 import verify_signature
from support.watching import wait_until
from support.windows_token import LABEL, PIN, SERIAL, compile_dll

TOKEN = f"pkcs11:token={quote(LABEL)}"
OPENSC = "Program Files/OpenSC Project/OpenSC/pkcs11/opensc-pkcs11.dll"


@pytest.fixture
def rolekey(windows, token):
    """Run rolekey with the token's PIN in a file."""

    def run(*words, module=token.module, pin=True, directory=None, **variables):
        named = ["--pkcs11-lib", module] if module else []
        source = ["--pin-source", f"file:{windows.path(token.pin_file)}"] if pin else []
        environment = token.environment | variables
        return windows.run("rolekey", *words, *named, *source, environment=environment, directory=directory)

    return run


@pytest.fixture
def credentials(rolekey, emulator):
    """Ask for credentials with a key of the token."""

    def ask(key="ec", **more):
        uri = key if key.startswith("pkcs11:") else f"{TOKEN};object={key}"
        return rolekey("credential-process", *emulator.arguments, "--private-key", uri, **more)

    return ask


def accepted(done, emulator):
    """Whether a run gave the last credentials that the emulator granted, and said nothing."""
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)["AccessKeyId"] == emulator.granted[-1]


def refused(done, code, *words):
    """A run ended with one line of cause and one of remedy, which say these words."""
    assert (done.returncode, done.stdout) == (code, "")
    cause, remedy = done.stderr.splitlines()
    assert cause.startswith("rolekey: error: ")
    assert remedy.startswith("rolekey: hint: ")
    for word in words:
        assert word in done.stderr
    assert PIN not in done.stderr


@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_credentials(credentials, token, emulator, key):
    """A key of either type gets credentials: the module starts once, one login, one signature; then the cache."""
    first = credentials(key)
    assert accepted(first, emulator)
    assert [line.split()[0] for line in token.log] == ["C_Initialize", "C_Login", "C_Sign"]
    assert token.log[-1] == f"C_Sign {key} {51 if key == 'rsa' else 32} bytes"
    assert credentials(key).stdout == first.stdout
    assert token.signatures == 1


def test_a_pin_at_each_signature(credentials, token, emulator):
    """CKA_ALWAYS_AUTHENTICATE: the PIN for the session, the PIN for the signature, one signature."""
    assert accepted(credentials("always"), emulator)
    assert token.logins == ["right user=1", "right user=2"]
    assert token.signatures == 1


@pytest.mark.parametrize(("words", "reserved"), [((), "-"), (("--pkcs11-init-args", "configdir='x'"), "configdir='x'")])
def test_what_the_module_is_started_with(rolekey, token, emulator, words, reserved):
    """C_Initialize: the system's locks, and --pkcs11-init-args' string, each where a module on Windows reads it."""
    key = ("--private-key", f"{TOKEN};object=ec")
    assert accepted(rolekey("credential-process", *emulator.arguments, *key, *words), emulator)
    assert token.log[0] == f"C_Initialize flags=2 reserved={reserved}"


def test_layout(windows):
    """Windows' structures have no padding, and a CK_ULONG of 32 bits."""
    code = (
        "import ctypes; from rolekey.tokens import structures as s; "
        "print([ctypes.sizeof(getattr(s, n)) for n in "
        "('FunctionList', 'InitializeArguments', 'SlotInfo', 'TokenInfo', 'Mechanism')])"
    )
    done = windows.run("python", "-c", code)
    assert (done.stdout.strip(), done.stderr) == ("[546, 44, 104, 160, 16]", "")


def test_a_slot_that_fails(credentials, token, emulator):
    """A slot that answers nothing does not hide the token in the next one."""
    token.add_bad_slot()
    assert accepted(credentials(), emulator)


@pytest.fixture
def installed(windows, dll):
    """The module where OpenSC's installer puts its own."""
    path = windows.place / "prefix/drive_c" / OPENSC
    path.parent.mkdir(parents=True)
    shutil.copy(dll, path)
    yield path
    shutil.rmtree(path.parents[2])


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("query", ["", "?module-name=opensc"])
def test_a_module_that_is_found(credentials, emulator, query):
    """A module in Program Files is found where nothing names one, and by its name in the URI."""
    assert accepted(credentials(f"{TOKEN};object=ec{query}", module=None), emulator)


def test_no_module(credentials):
    """Where none is installed and none is named the error says both."""
    refused(credentials(module=None), 3, "no PKCS#11 module is named, and no usual one is installed", "--pkcs11-lib")


@pytest.mark.parametrize("slash", ["\\", "/"])
def test_a_path_of_any_letters(credentials, windows, token, tmp_path, emulator, slash):
    """Blanks and umlauts in a path, and either slash, in an option and in a URI."""
    path = tmp_path / "Prüf stand" / "Modul ä.dll"
    path.parent.mkdir()
    shutil.copy(token.module, path)
    named = windows.path(path).replace("\\", slash)
    assert accepted(credentials(module=named), emulator)
    uri = f"{TOKEN};object=rsa?module-path={quote(named)}"
    assert accepted(credentials(uri, module=None), emulator)
    assert len(emulator.granted) == 2


def test_a_directory(credentials, windows, token, emulator):
    """RFC 7512: module-path may be a folder, in which module-name says which."""
    uri = f"{TOKEN};object=ec?module-path={quote(windows.path(token.module.parent))}&module-name=token"
    assert accepted(credentials(uri, module=None), emulator)


def test_a_relative_path_in_a_uri(credentials):
    """A module-path without a drive is refused before anything is loaded."""
    refused(credentials(f"{TOKEN}?module-path=/token.dll"), 2, "not absolute", "module-path=C:/...")


# --- what may not be loaded ---


def test_a_dll_in_the_working_directory(credentials, token):
    """A bare name loads nothing out of the working directory, where anybody may have put a file."""
    done = credentials(module=token.module.name, directory=token.module.parent)
    refused(done, 3, "no PKCS#11 module token.dll is where modules are looked for", "whole path")
    assert token.log == []


NEIGHBOUR = "__declspec(dllexport) unsigned neighbour(void) { return 5; }\n"
NEEDY = """
__declspec(dllimport) unsigned neighbour(void);
__declspec(dllexport) unsigned C_GetFunctionList(void **list);
unsigned C_GetFunctionList(void **list) { *list = 0; return neighbour(); }
"""


def test_a_dll_that_needs_another(credentials, tmp_path):
    """What a module needs is loaded from the module's folder, and not from the working directory."""
    module, elsewhere = tmp_path / "a module" / "needy.dll", tmp_path / "elsewhere"
    module.parent.mkdir()
    elsewhere.mkdir()
    for name, text in (("neighbour", NEIGHBOUR), ("needy", NEEDY)):
        (tmp_path / f"{name}.c").write_text(text, encoding="ascii")
    compile_dll(tmp_path / "neighbour.c", elsewhere / "neighbour.dll")
    compile_dll(tmp_path / "needy.c", module, elsewhere / "neighbour.dll")
    refused(credentials(module=module, directory=elsewhere), 3, "a DLL that it needs is missing", "in its own folder")
    shutil.copy(elsewhere / "neighbour.dll", module.parent)
    refused(credentials(module=module, directory=elsewhere), 3, "needy.dll cannot be loaded: CKR_GENERAL_ERROR")


def test_a_dll_that_is_not_there(credentials, tmp_path):
    """A missing file is called one, with the path that was written."""
    done = credentials(module=tmp_path / "no module.dll")
    refused(done, 3, "no module.dll cannot be loaded: there is no such file", "--pkcs11-lib")


def test_a_dll_for_another_processor(credentials, token, tmp_path):
    """A module of 32 bits: both sides are named."""
    content = bytearray(token.module.read_bytes())
    (header,) = struct.unpack_from("<I", content, 0x3C)
    struct.pack_into("<H", content, header + 4, 0x14C)
    struct.pack_into("<H", content, header + 24, 0x10B)
    (tmp_path / "module.dll").write_bytes(content)
    done = credentials(module=tmp_path / "module.dll")
    refused(done, 3, "is built for i386 (32 bit), and this Python for x86-64 (64 bit)", "run rolekey with a Python")


def test_a_text(credentials, tmp_path):
    """A file that is no DLL is said to be none."""
    (tmp_path / "module.dll").write_text("a text\n" * 100, encoding="ascii")
    refused(credentials(module=tmp_path / "module.dll"), 3, "cannot be loaded: it is no DLL")


def test_a_dll_that_is_no_module(credentials):
    """One of Windows' own DLLs is loaded and not taken for a module."""
    done = credentials(module=r"C:\windows\system32\ws2_32.dll")
    refused(done, 3, "it is no PKCS#11 module, since it has no C_GetFunctionList")


# --- the PIN ---


def test_a_pin_in_a_variable(credentials, token, emulator):
    """--pin-source env:."""
    done = credentials("ec", pin=False, THE_PIN=PIN, ROLEKEY_PIN_SOURCE="env:THE_PIN")
    assert accepted(done, emulator)
    assert token.logins == ["right user=1"]


def test_a_wrong_pin(rolekey, windows, token, emulator):
    """A wrong PIN is sent once: exit 4, and no other process sends it again; the right one then counts."""
    wrong = token.write_pin("0000-wrong")
    words = ("credential-process", *emulator.arguments, "--private-key", f"{TOKEN};object=ec")
    source = ("--pin-source", f"file:{windows.path(wrong)}")
    refused(rolekey(*words, *source, pin=False), 4, "the PIN was not accepted (CKR_PIN_INCORRECT)", "few tries")
    refused(rolekey(*words, *source, pin=False), 4)
    assert token.logins == ["wrong"]
    assert accepted(rolekey(*words), emulator)
    assert token.logins == ["wrong", "right user=1"]


def test_a_pin_that_is_too_short(rolekey, windows, token, emulator):
    """CK_TOKEN_INFO's limits are read right: a PIN that the token could not have is not sent."""
    short = token.write_pin("123")
    words = ("credential-process", *emulator.arguments, "--private-key", f"{TOKEN};object=ec")
    refused(rolekey(*words, "--pin-source", f"file:{windows.path(short)}", pin=False), 4)
    assert token.logins == []


def test_the_token_is_away(credentials, token, emulator):
    """A token that was pulled out: exit 3, and nothing is signed; put back, it signs."""
    token.remove()
    refused(credentials(), 3, "no token matches")
    assert token.signatures == 0
    token.put_back()
    assert accepted(credentials(), emulator)


# --- the life of a key ---


def test_list(rolekey, credentials, emulator):
    """`key list` shows every key with a URI that names the module too, and works as it is."""
    done = rolekey("key", "list", "--login")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"token {LABEL} (serial {SERIAL})" in done.stdout
    uris = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("pkcs11:")]
    assert [f"object={name};" in uri for name, uri in zip(("rsa", "ec", "always"), uris, strict=True)] == [True] * 3
    assert accepted(credentials(uris[1], module=None), emulator)


@pytest.mark.rig("openssl")
@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_csr(rolekey, windows, holders, token, tmp_path, key):
    """A signing request is the key's, and OpenSSL verifies it; one signature."""
    out = tmp_path / "request.pem"
    done = rolekey("key", "csr", f"{TOKEN};object={key}", "--subject", "CN=web-1", "--out", windows.path(out))
    assert (done.returncode, done.stderr) == (0, "")
    request = x509.load_pem_x509_csr(out.read_bytes())
    assert request.public_key() == holders[key].key.public_key()
    verified = subprocess.run(["openssl", "req", "-verify", "-noout", "-in", out], capture_output=True, check=True)
    assert b"OK" in verified.stdout + verified.stderr
    assert token.signatures == 1


def test_inspect(rolekey):
    """What the token says of a key's origin is read."""
    done = rolekey("key", "inspect", f"{TOKEN};object=ec")
    assert (done.returncode, done.stderr) == (0, "")
    assert "type: EC secp256r1" in done.stdout
    assert "verdict: this key cannot leave the token" in done.stdout


def test_doctor(rolekey, windows, token, emulator):
    """Every check passes, the signature among them; without --sign no PIN is sent."""
    words = ("doctor", *emulator.arguments, "--private-key", f"{TOKEN};object=ec")
    assert rolekey(*words).returncode == 0
    assert token.logins == []
    done = rolekey(*words, "--sign")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"ok       module: {windows.path(token.module)} is loaded and initialised" in done.stdout
    assert "ok       signature: one signature, and credentials" in done.stdout
    assert token.signatures == 1


# --- programs that live long: the token's process ---

BOTO3 = """
import os, sys, rolekey
session = rolekey.boto3_session(rolekey.Options(**eval(os.environ["OPTIONS"])), use_cache=False)
print(session.get_credentials().get_frozen_credentials().access_key)
print("pkcs11" in sys.modules, "THE_PIN" in os.environ)
"""

WORKER = """
import os, sys
from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import RolekeyError
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.worker import Worker

worker = Worker(NoInteraction())
settings = resolve_settings(Options(**eval(os.environ["OPTIONS"])), os.environ)

def sign():
    try:
        return worker.open_identity(settings, Deadline(600)).sign("a message").hex()
    except RolekeyError as error:
        return f"{type(error).__name__}: {error.message}"
"""

RETURNING = """
print(sign(), flush=True)
open(os.environ["TOKEN_OUT"], "w").close()
print(sign(), flush=True)
os.unlink(os.environ["TOKEN_OUT"])
print(sign(), flush=True)
worker._process.kill()
print(sign(), flush=True)
print(sign(), flush=True)
worker.close()
"""

# It leaves when it is told that the token waits for a finger: later the token's process says nothing any more.
LEAVING = """
class Leaving(NoInteraction):
    def remind(self, text):
        print("leaving", flush=True)
        os._exit(0)

worker = Worker(Leaving())
sign()
"""


@pytest.fixture
def program(windows, token, emulator):
    """Run a program of Python's that knows the options in OPTIONS."""

    def run(text):
        options = {
            "endpoint": emulator.url,
            "trust_anchor_arn": emulator.trust_anchor_arn,
            "profile_arn": emulator.profile_arn,
            "role_arn": emulator.role_arn,
            "private_key": f"{TOKEN};object=ec",
            "pkcs11_lib": windows.path(token.module),
            "pin_source": "env:THE_PIN",
        }
        path = token.directory / "program.py"
        path.write_text(text, encoding="utf-8")
        return windows.run("python", path, environment=token.environment | {"OPTIONS": repr(options), "THE_PIN": PIN})

    return run


def test_boto3(program, token, emulator):
    """boto3_session() signs in a process of the token's own, which has the PIN alone."""
    done = program(BOTO3)
    assert (done.stderr, done.stdout.splitlines()) == ("", [emulator.granted[0], "False False"])
    assert token.signatures == 1


def test_the_tokens_process(program, holders):
    """A token that is pulled out and put back, and a process that was ended: each is said, and the next try works."""
    done = program(WORKER + RETURNING)
    assert done.stderr == ""
    first, away, again, ended, last = done.stdout.splitlines()
    assert away.startswith("TokenNotFoundError: ")
    assert ended.startswith("TokenOperationError: the process that uses the token ended (exit code 1)")
    for signature in (first, again, last):
        verify_signature(holders["ec"].key.public_key(), bytes.fromhex(signature), b"a message")


def test_a_module_that_hangs(program, windows, token):
    """A module that never returns from a signature does not outlive its program."""
    token.be_stuck()
    done = program(WORKER + LEAVING)
    assert (done.returncode, done.stdout.strip()) == (0, "leaving")
    assert token.signatures == 1
    wait_until(lambda: not list(_token_processes(windows)))


def _token_processes(windows):
    """The processes of tokens that run in this Wine."""
    python = windows.path(windows.place).encode()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            words = process.read_bytes()
            if words.startswith(python) and b"rolekey.worker_child" in words:
                yield process.parent.name
