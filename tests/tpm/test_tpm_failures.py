"""TPMs that are full, busy, slow, gone or out of reach: what becomes of the signature, and that nothing is left."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import (
    ConfigurationError,
    DeadlineError,
    KeyNotFoundError,
    SignerError,
    TokenNotFoundError,
    TokenOperationError,
    TokenStateError,
)
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from rolekey.signers.tpm_return_codes import FAILURES
from rolekey.signers.tpm_tcti import TPMAddress, open_tcti
from support.contract_child import ARNS
from support.pki import make_root
from support.process import at_its_deadline, finish, running_program, start
from support.swtpm import running_swtpm
from support.tpm_identity import identity_of, options_of, password_file
from support.tpm_keys import TPMKeys
from support.tpm_proxy import (
    CREATE_PRIMARY,
    FLUSH_CONTEXT,
    LOAD,
    READ_PUBLIC,
    SIGN,
    START_AUTH_SESSION,
    answering,
    holding_back,
    proxy_of,
    vanishing,
)
from support.watching import wait_until

HANDLE = 0x81010001


@pytest.fixture(scope="module")
def keys(swtpm):
    """What makes keys in the module's TPM."""
    return TPMKeys(swtpm, make_root())


@pytest.fixture(scope="module")
def made(keys):
    """A key file."""
    return keys.by_openssl("EC", "group:P-256")


@pytest.fixture(scope="module")
def kept(keys):
    """A key that the TPM keeps."""
    return keys.by_tools(handle=HANDLE)


@pytest.fixture
def proxy(tpm, tmp_path):
    """A socket in front of the TPM."""
    with proxy_of(tpm, tmp_path) as proxy:
        yield proxy


def test_one_signature_is_one_command(tpm, made, proxy):
    """One signature is one TPM2_Sign, and what it loads is unloaded; without a password nothing else is asked."""
    with identity_of(tpm, made) as identity:
        identity.sign("text")  # of the first signature since it was switched on, the TPM may say RETRY
    with identity_of(tpm, made, tpm_tcti=str(proxy.path)) as identity:
        assert not proxy.commands
        identity.sign("text")
    assert (proxy.commands[CREATE_PRIMARY], proxy.commands[LOAD], proxy.commands[SIGN]) == (1, 1, 1)
    assert proxy.commands[FLUSH_CONTEXT] == 2
    assert set(proxy.commands) == {CREATE_PRIMARY, LOAD, SIGN, FLUSH_CONTEXT}


@pytest.mark.parametrize("code", [0x922, 0x908, 0x90A], ids=["RETRY", "YIELDED", "TESTING"])
@pytest.mark.parametrize("command", [CREATE_PRIMARY, LOAD, SIGN, FLUSH_CONTEXT], ids=hex)
def test_a_busy_tpm_is_asked_again(tpm, made, proxy, command, code):
    """A TPM that says that it is busy is asked until it is not."""
    proxy.script(command, answering(code), times=15)
    with identity_of(tpm, made, tpm_tcti=str(proxy.path)) as identity:
        identity.sign("text")
    assert proxy.commands[command] > 15


def test_a_busy_tpm_is_not_asked_for_ever(tpm, made, proxy):
    """When the time is over, the error says that the TPM was busy."""
    proxy.script(SIGN, answering(0x922), times=10_000)
    with (
        identity_of(tpm, made, seconds=3, tpm_tcti=str(proxy.path)) as identity,
        pytest.raises(TokenOperationError, match=r"TPM_RC_RETRY \(0x922\)"),
    ):
        identity.sign("text")


def fill(tpm):
    """Take the three places for objects, as another program would."""
    for number in range(3):
        tpm.run("tpm2_createprimary", "--hierarchy", "n", "--key-context", f"filler-{number}")


def test_a_full_tpm_is_waited_for(tpm, made):
    """Where others fill the TPM, the signature waits for them to go."""
    fill(tpm)
    timer = threading.Timer(0.5, tpm.flush)
    timer.start()
    with identity_of(tpm, made) as identity:
        identity.sign("text")
    timer.join()


def test_a_tpm_that_stays_full(tpm, made):
    """Where they do not go, the error says what is full and how to make room."""
    fill(tpm)
    with (
        identity_of(tpm, made, seconds=3) as identity,
        pytest.raises(TokenStateError, match=r"TPM_RC_OBJECT_MEMORY \(0x902\)") as caught,
    ):
        identity.sign("text")
    assert "tpm2_flushcontext" in caught.value.hint
    tpm.flush()


def test_the_deadline(tpm, made, proxy):
    """A TPM that does not answer ends at the deadline; what it loaded is unloaded when it answers after all."""
    with holding_back() as (behaviour, reached, go):
        proxy.script(LOAD, behaviour)
        allowed = 0.0

        def let_go():
            if reached.wait(60):
                time.sleep(allowed + 0.5)
                go.set()

        def attempt(seconds):
            nonlocal allowed
            allowed = float(seconds)
            with (
                identity_of(tpm, made, seconds=allowed, tpm_tcti=str(proxy.path)) as identity,
                pytest.raises(DeadlineError, match="the signature of the TPM key"),
            ):
                identity.sign("text")

        threading.Thread(target=let_go, daemon=True).start()
        at_its_deadline(attempt, reached.is_set)
        assert reached.is_set()
    assert proxy.commands[SIGN] == 0


def interrupted(tpm, proxy, made, command, number, *more):
    """Send the command a signal while the TPM's answer to something is held back; how it ends, and what it says."""
    arns = [word for name, arn in ARNS.items() for word in (f"--{name.replace('_', '-')}", arn)]
    words = [*arns, "--endpoint", "http://127.0.0.1:1", "--tpm-tcti", str(proxy.path), *more]
    words += ["--certificate", str(made.certificate), "--private-key", made.private_key]
    with holding_back() as (behaviour, reached, go):
        proxy.script(command, behaviour)
        process = start("credential-process", *words)
        assert reached.wait(60)
        assert tpm.loaded()
        process.send_signal(number)
        threading.Timer(0.3, go.set).start()
        outcome = finish(process)
    tpm.assert_clean()
    return outcome.code, outcome.stdout, outcome.stderr.strip()


@pytest.mark.parametrize("command", [CREATE_PRIMARY, LOAD, SIGN], ids=hex)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_leaves_nothing_behind(tpm, made, proxy, command, number, code):
    """A process that is ended by a signal while its key is loaded unloads it, and ends with the usual code."""
    assert interrupted(tpm, proxy, made, command, number) == (code, "", "")


@pytest.mark.parametrize("command", [START_AUTH_SESSION, LOAD, SIGN], ids=hex)
def test_a_signal_is_no_wrong_password(tpm, keys, proxy, command, tmp_path):
    """So it does with its sessions, and the password that was being used is sent again by the next run."""
    made = keys.by_tools(password="secret")
    source = password_file(tmp_path, "secret")
    assert interrupted(tpm, proxy, made, command, signal.SIGTERM, "--pin-source", source) == (143, "", "")
    with identity_of(tpm, made, pin_source=source) as identity:
        identity.sign("text")
    assert tpm.lockout_counter() == 0


@pytest.mark.parametrize("command", [CREATE_PRIMARY, LOAD, SIGN], ids=hex)
def test_a_tpm_that_goes_away(tmp_path, command):
    """A TPM that is switched off during a command is an error with its address; switched on, it signs again."""
    with running_swtpm(tmp_path) as tpm, proxy_of(tpm, tmp_path) as proxy:
        made = TPMKeys(tpm, make_root()).by_openssl("EC", "group:P-256")

        def switch_off(_command, _ask):
            tpm.stop()

        proxy.script(command, switch_off)
        identity = identity_of(tpm, made, tpm_tcti=str(proxy.path))
        with pytest.raises(TokenNotFoundError, match=str(proxy.path)):
            identity.sign("text")
        tpm.start()
        identity.sign("text")
        tpm.assert_clean()


def test_a_lost_connection(tpm, kept, proxy):
    """A connection that breaks while the handle is looked up is an error, and no traceback of a library."""
    proxy.script(READ_PUBLIC, vanishing)
    with pytest.raises(TokenNotFoundError, match="is gone"):
        identity_of(tpm, kept, no_tpm_key_password=True, tpm_tcti=str(proxy.path))


@pytest.mark.parametrize("code", sorted({*FAILURES, 0x084, 0x099, 0x14C, 0x901, 0x9FF}), ids=hex)
def test_every_code_is_an_error_of_ours(tpm, made, proxy, code):
    """Each return code that the table has, and some that it has not, is a SignerError with the code in it."""
    proxy.script(LOAD, answering(code | (0x900 if code & 0x080 else 0)), times=10_000)
    with (
        identity_of(tpm, made, seconds=2, tpm_tcti=str(proxy.path)) as identity,
        pytest.raises(SignerError, match=r"load the TPM key .*: the TPM answered TPM_RC") as caught,
    ):
        identity.sign("text")
    assert f"{code | (0x900 if code & 0x080 else 0):#x}"[-3:] in str(caught.value)
    kind, hint = FAILURES.get(code, (TokenOperationError, caught.value.hint))
    assert (type(caught.value), caught.value.hint) == (kind, hint)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x80\x01",
        b"\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00",
        b"\xff" * 10,
        b"\x80\x01\xff\xff\xff\xff" + bytes(4),
    ],
    ids=lambda answer: answer.hex() or "nothing",
)
def test_answers_that_are_none(tpm, made, proxy, answer):
    """What is no answer of a TPM is an error, not a traceback."""
    proxy.script(SIGN, lambda _command, _ask: answer)
    with identity_of(tpm, made, tpm_tcti=str(proxy.path)) as identity, pytest.raises(SignerError):
        identity.sign("text")


# --- where there is no TPM ---


@pytest.mark.parametrize(
    ("tcti", "error"),
    [
        ("swtpm:host=127.0.0.1,port=1", TokenNotFoundError),
        ("device:/dev/no-such-tpm", TokenNotFoundError),
        ("device:/dev/null", SignerError),
        ("no-such-tcti", TokenNotFoundError),
        ("no-such-tcti:with=configuration", TokenNotFoundError),
        ("/dev/no-such-tpm", TokenNotFoundError),
        ("/etc/passwd", ConfigurationError),
        ("swtpm:nonsense", TokenNotFoundError),
    ],
)
def test_no_tpm(tpm, made, tcti, error):
    """Where no TPM answers the error names the place."""
    with pytest.raises(error) as caught, identity_of(tpm, made, tpm_tcti=tcti) as identity:
        identity.sign("text")
    assert tcti.removeprefix("device:") in str(caught.value)
    assert caught.value.hint


def test_the_default_is_the_managed_device(monkeypatch, tmp_path):
    """Without a word from the user it is /dev/tpmrm0; /dev/tpm0 is only named in a hint."""
    managed, raw = tmp_path / "tpmrm0", tmp_path / "tpm0"
    monkeypatch.setattr("rolekey.signers.tpm_tcti.MANAGED_DEVICE", managed)
    monkeypatch.setattr("rolekey.signers.tpm_tcti.RAW_DEVICE", raw)
    with pytest.raises(TokenNotFoundError, match="tpmrm0 does not exist"):
        TPMAddress.choose(None, None)
    raw.touch()
    with pytest.raises(TokenNotFoundError) as caught:
        TPMAddress.choose(None, None)
    assert f"--tpm-tcti device:{raw}" in caught.value.hint
    managed.touch()
    assert TPMAddress.choose(None, None) == TPMAddress("device", str(managed))


def test_where_the_tpm_is(tpm, made, proxy):
    """TPM_DEVICE may be a socket, as for the official helper; TPM2TOOLS_TCTI and then --tpm-tcti decide before it."""
    assert TPMAddress.choose(None, str(proxy.path)) == TPMAddress("socket", str(proxy.path))
    assert TPMAddress.choose(None, "/dev/null") == TPMAddress("device", "/dev/null")
    assert TPMAddress.choose("tabrmd", str(proxy.path)) == TPMAddress("tabrmd")
    with identity_of(tpm, made, tpm_tcti=tpm.tcti) as identity:
        identity.sign("text")
    assert not proxy.commands


@contextmanager
def unprivileged() -> Iterator[None]:
    """What root may do, nobody may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def device():
    """A character device that this process may change: the end of a terminal."""
    master, slave = os.openpty()
    yield slave, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_a_device_of_others(device):
    """A device without permission names the group that owns it."""
    descriptor, path = device
    os.fchmod(descriptor, 0)
    with unprivileged(), pytest.raises(TokenNotFoundError, match="Permission denied") as caught, opened(path):
        pass
    assert "add yourself to the group" in caught.value.hint


def test_a_device_that_is_taken(device):
    """A device that another program holds names the one that can be shared."""
    descriptor, path = device
    os.fchmod(descriptor, 0o666)
    fcntl.ioctl(descriptor, termios.TIOCEXCL)
    with unprivileged(), pytest.raises(TokenStateError, match="resource busy") as caught, opened(path):
        pass
    assert "/dev/tpmrm0" in caught.value.hint


@contextmanager
def opened(path):
    """The device as a TPM."""
    with open_tcti(TPMAddress("device", path)):
        yield


def test_a_socket_of_swtpm(tpm, made, tmp_path):
    """The socket that swtpm itself opens, as the official helper's users have it in TPM_DEVICE, is a TPM."""
    path = tmp_path / "socket"
    words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={tmp_path}", "--server", f"type=unixio,path={path}"]
    words += ["--ctrl", f"type=unixio,path={tmp_path / 'control'}", "--flags", "not-need-init,startup-clear"]
    with running_program([*words, "--pid", f"file={tmp_path / 'pid'}"]) as process:
        wait_until(lambda: (tmp_path / "pid").exists() or process.poll() is not None)
        assert process.poll() is None
        # A key of another TPM: this one sees it, and does not know it.
        settings = resolve_settings(options_of(tpm, made, tpm_tcti=None), {"TPM_DEVICE": str(path)})
        with open_identity(settings, NoInteraction(), Deadline(60)) as identity, pytest.raises(KeyNotFoundError):
            identity.sign("text")


def test_no_key_at_the_handle(tpm, kept):
    """A handle with nothing behind it is named, with the command that lists those in use."""
    with pytest.raises(KeyNotFoundError, match=r"handle:0x810abcde.*TPM_RC_HANDLE") as caught:
        identity_of(tpm, kept, private_key="handle:810abcde")
    assert "handles-persistent" in caught.value.hint


def test_without_the_extra(tpm, made):
    """Without tpm2-pytss the error names the extra and what Debian needs for it; other keys do not need it."""
    script = (
        "import sys; sys.modules['tpm2_pytss'] = None\nfrom rolekey.cli.main import run\nsys.exit(run(sys.argv[1:]))"
    )
    arns = [word for name, arn in ARNS.items() for word in (f"--{name.replace('_', '-')}", arn)]
    for key in (made.private_key, "handle:0x81010001"):
        words = [*arns, "--certificate", str(made.certificate), "--private-key", key, "--tpm-tcti", tpm.tcti]
        done = subprocess.run(
            [sys.executable, "-c", script, "credential-process", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "pip install 'rolekey[tpm]'" in done.stderr
        assert "libtss2-dev" in done.stderr
