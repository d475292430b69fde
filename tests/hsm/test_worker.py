"""worker.py: a token's module in a process of its own, under a parent that lives on."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import (
    AmbiguousMatchError,
    DeadlineError,
    KeyNotFoundError,
    PinIncorrectError,
    PinRequiredError,
    TokenOperationError,
)
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.secret import Secret
from rolekey.sigv4_x509 import verify_signature
from rolekey.worker import Worker
from support.null_parameters import with_null_parameters
from support.pkcs11_shim import CKU_CONTEXT_SPECIFIC, CKU_USER, LOGIN_REQUIRED
from support.pki import make_root
from support.process import GENEROUS, at_its_deadline, rolekey, running_program
from support.watching import is_alive, wait_until

pytestmark = pytest.mark.rig("softhsm")
ARNS = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}


@pytest.fixture
def worker():
    worker = Worker(NoInteraction())
    yield worker
    worker.close()


@pytest.fixture
def settings(provisioned_token):
    def settings(uri, **options):
        module = options.pop("pkcs11_lib", str(provisioned_token.module))
        return resolve_settings(Options(**ARNS, private_key=uri, pkcs11_lib=module, **options), {})

    return settings


def check_signature(identity, message="a message"):
    verify_signature(identity.certificate.public_key(), identity.sign(message), message.encode())


@pytest.mark.parametrize("label", ["rsa-2048", "p-384", "always-auth"])
def test_signatures(worker, settings, provisioned_token, label):
    """An identity in the child signs, again and again; the certificate is the token's, the signature verifies."""
    expected = x509.load_pem_x509_certificate(Path(provisioned_token.certificate(label)).read_bytes())
    with worker.open_identity(settings(provisioned_token.uri(label)), Deadline(30)) as identity:
        assert identity.certificate == expected
        for number in range(3):
            check_signature(identity, f"message {number}")


def test_null_parameters_come_back_as_they_are(worker, settings, tmp_path):
    """Certificates with a NULL beside ecdsa-with-SHA256 come back from the child byte for byte, and the key signs."""
    root = make_root()
    issuer = root.issue_authority()
    leaf = issuer.issue()
    certificate, private_key = leaf.write(tmp_path, "leaf")
    originals = [with_null_parameters(each.certificate, by.key) for each, by in ((leaf, issuer), (issuer, root))]
    certificate.write_bytes(originals[0])
    (tmp_path / "issuer.der").write_bytes(originals[1])
    options = {"certificate": str(certificate), "intermediates": str(tmp_path / "issuer.der")}
    with worker.open_identity(settings(str(private_key), **options), Deadline(30)) as identity:
        assert [c.public_bytes(Encoding.DER) for c in (identity.certificate, *identity.chain)] == originals
        check_signature(identity)


def test_one_child_for_many_identities(worker, settings, provisioned_token):
    """The child is started once and serves one identity after the other."""
    children = set()
    for label in ("p-256", "rsa-2048", "p-256"):
        with worker.open_identity(settings(provisioned_token.uri(label)), Deadline(30)) as identity:
            check_signature(identity)
        children.add(worker._process.pid)
    assert len(children) == 1


def test_the_parent_loads_no_module(provisioned_token):
    """The parent that uses a worker never loads python-pkcs11 or the module."""
    uri = provisioned_token.uri("p-256")
    code = (
        "import sys\n"
        "from rolekey.config import resolve_settings\n"
        "from rolekey.options import Options\n"
        "from rolekey.deadline import Deadline\n"
        "from rolekey.interaction import NoInteraction\n"
        "from rolekey.worker import Worker\n"
        f"options = Options(**{ARNS!r}, private_key={uri!r}, pkcs11_lib={str(provisioned_token.module)!r})\n"
        "worker = Worker(NoInteraction())\n"
        "with worker.open_identity(resolve_settings(options, {}), Deadline(30)) as identity:\n"
        "    identity.sign('message')\n"
        "worker.close()\n"
        "assert 'pkcs11' not in sys.modules\n"
        "assert 'softhsm' not in open('/proc/self/maps').read()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_pin_travels_over_the_pipe_only(worker, settings, provisioned_token):
    """A PIN in the settings is neither in the child's argv nor in its environment."""
    uri = provisioned_token.uri("p-256", with_pin=False) + f"?pin-value={provisioned_token.user_pin}"
    with worker.open_identity(settings(uri), Deadline(30)) as identity:
        check_signature(identity)
        child = Path(f"/proc/{worker._process.pid}")
        assert b"rolekey.worker" in (child / "cmdline").read_bytes()
        for name in ("cmdline", "environ"):
            assert provisioned_token.user_pin.encode() not in (child / name).read_bytes()


def test_questions_reach_the_parent(settings, provisioned_token):
    """A PIN that no source gives is asked for in the parent, whose answer the child uses."""
    asked = []

    class Person:
        def ask(self, question, _opens):
            asked.append(question)
            return Secret(provisioned_token.user_pin)

        def remind(self, text):
            raise AssertionError(text)

    worker = Worker(Person())
    try:
        uri = provisioned_token.uri("p-256", with_pin=False)
        with worker.open_identity(settings(uri), Deadline(30)) as identity:
            check_signature(identity)
    finally:
        worker.close()
    assert len(asked) == 1
    assert provisioned_token.label in asked[0]


def test_errors_keep_their_class(worker, settings, provisioned_token):
    """What fails in the child fails in the parent with the same class, words and fields; the child lives on."""
    base = provisioned_token.uri("p-256", with_pin=False)
    with pytest.raises(PinIncorrectError, match="CKR_PIN_INCORRECT"):
        worker.open_identity(settings(base + "?pin-value=0000"), Deadline(30))
    with pytest.raises(PinRequiredError):
        worker.open_identity(settings(base), Deadline(30))
    with pytest.raises(AmbiguousMatchError) as caught:
        worker.open_identity(settings(f"pkcs11:token={provisioned_token.label}"), Deadline(30))
    assert len(caught.value.candidates) == 6
    with worker.open_identity(settings(provisioned_token.uri("p-256")), Deadline(30)) as identity:
        check_signature(identity)


def test_a_child_that_was_killed(worker, settings, provisioned_token):
    """After the child's death one call fails with that cause, and the next identity is opened in a new child."""
    uri = provisioned_token.uri("p-256")
    identity = worker.open_identity(settings(uri), Deadline(30))
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(TokenOperationError, match="signal 9"):
        identity.sign("message")
    with worker.open_identity(settings(uri), Deadline(30)) as again:
        check_signature(again)


def test_the_child_ends_with_its_parent(provisioned_token):
    """A parent that is killed leaves no child behind."""
    uri = provisioned_token.uri("p-256")
    code = (
        "import time\n"
        "from rolekey.config import resolve_settings\n"
        "from rolekey.options import Options\n"
        "from rolekey.deadline import Deadline\n"
        "from rolekey.interaction import NoInteraction\n"
        "from rolekey.worker import Worker\n"
        f"options = Options(**{ARNS!r}, private_key={uri!r}, pkcs11_lib={str(provisioned_token.module)!r})\n"
        "worker = Worker(NoInteraction())\n"
        "worker.open_identity(resolve_settings(options, {}), Deadline(30))\n"
        "print(worker._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with running_program([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.kill()
    wait_until(lambda: not is_alive(child))


def _sign_in_forked_child(worker, settings):
    with worker.open_identity(settings, Deadline(30)) as identity:
        check_signature(identity)


def test_after_a_fork(settings, provisioned_token):
    """A forked process with a worker of its own signs, and the parent's worker goes on."""
    chosen = settings(provisioned_token.uri("p-256"))
    worker = Worker(NoInteraction())
    try:
        with worker.open_identity(chosen, Deadline(30)) as identity:
            check_signature(identity)
            context = multiprocessing.get_context("fork")
            child = context.Process(target=_sign_in_forked_child, args=(Worker(NoInteraction()), chosen))
            child.start()
            child.join(60)
            assert child.exitcode == 0
            check_signature(identity, "after the fork")
    finally:
        worker.close()


# --- sources that are the parent's ---


@pytest.fixture(params=["fd", "env"])
def source(request, monkeypatch):
    """Puts a PIN into a pipe or a variable; gives what --pin-source calls it."""
    readers = []

    def source(pin):
        if request.param == "env":
            monkeypatch.setenv("ROLEKEY_TEST_PIN", pin)
            return "env:ROLEKEY_TEST_PIN"
        reading, writing = os.pipe()
        readers.append(reading)
        os.write(writing, pin.encode())
        os.close(writing)
        return f"fd:{reading}"

    yield source
    for reading in readers:
        os.close(reading)


@pytest.fixture
def shimmed(provisioned_token, pkcs11_shim, tmp_path, monkeypatch):
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    for name, value in shimmed.environment.items():
        monkeypatch.setenv(name, value)
    return shimmed


@pytest.fixture
def open_with(worker, settings, provisioned_token, shimmed):
    """Opens an identity through the shim with the PIN of a source."""

    def open_with(pin_source, label="p-256"):
        uri = provisioned_token.uri(label, with_pin=False)
        chosen = settings(uri, pin_source=pin_source, pkcs11_lib=str(shimmed.module))
        return worker.open_identity(chosen, Deadline(30))

    return open_with


def traces(process, pin):
    """Where a process shows a PIN to whoever may look."""
    places = [Path(f"/proc/{process.pid}/{name}") for name in ("cmdline", "environ")]
    return [str(place) for place in places if pin.encode() in place.read_bytes()]


@pytest.mark.rig("shim")
def test_source_of_the_parent(worker, open_with, source, shimmed, provisioned_token):
    """A descriptor or variable of the parent logs in, and again for each further identity, also after a crash."""
    text = source(provisioned_token.user_pin)
    for _ in range(2):
        with open_with(text) as identity:
            check_signature(identity)
            assert traces(worker._process, provisioned_token.user_pin) == []
    assert "ROLEKEY_TEST_PIN" not in os.environ
    identity = open_with(text)
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(TokenOperationError, match="signal 9"):
        identity.sign("message")
    with open_with(text, "always-auth") as again:
        check_signature(again)
    assert shimmed.logins == {CKU_USER: 4, CKU_CONTEXT_SPECIFIC: 1}


@pytest.mark.rig("shim")
def test_child_that_was_started_before(worker, open_with, source, provisioned_token):
    """A child that has inherited the variable is replaced by one without it."""
    text = source(provisioned_token.user_pin)
    with open_with(f"file:{provisioned_token.pin_file}") as identity:
        check_signature(identity)
    with open_with(text) as identity:
        check_signature(identity)
        assert traces(worker._process, provisioned_token.user_pin) == []


@pytest.mark.rig("shim")
def test_source_that_is_not_needed(open_with, source, shimmed, provisioned_token):
    """The source is not read for a token that wants no login."""
    shimmed.rule("C_GetTokenInfo", clear_flags=LOGIN_REQUIRED)
    text = source(provisioned_token.user_pin)
    with pytest.raises(KeyNotFoundError):
        open_with(text)
    if text.startswith("fd:"):
        assert os.read(int(text.removeprefix("fd:")), 100) == provisioned_token.user_pin.encode()


@pytest.mark.rig("shim")
def test_source_that_gives_no_pin(open_with, shimmed):
    """What is wrong with the source is found in the parent, and said as it is elsewhere."""
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(PinRequiredError, match=f"file descriptor {reading}: Bad file descriptor"):
        open_with(f"fd:{reading}")
    with pytest.raises(PinRequiredError, match="the variable ROLEKEY_TEST_PIN, which --pin-source names, is not set"):
        open_with("env:ROLEKEY_TEST_PIN")
    assert shimmed.logins == {}


@pytest.mark.rig("shim")
def test_refused_pin_of_the_parent(open_with, source, shimmed):
    """A PIN that was refused is recorded under its source, and sent no more by this parent, recorded or not."""
    text = source("0000")
    with pytest.raises(PinIncorrectError, match="CKR_PIN_INCORRECT"):
        open_with(text)
    name = "the variable ROLEKEY_TEST_PIN" if text.startswith("env:") else f"file descriptor {text[3:]}"
    assert f"  {name}  refused  " in rolekey("pin", "list").stdout
    for _ in range(2):
        with pytest.raises(PinRequiredError, match=f"the PIN from {name} may have been refused and is not sent again"):
            open_with(text)
        assert rolekey("pin", "forget", "--all").code == 0
    assert shimmed.logins == {CKU_USER: 1}


@pytest.mark.rig("shim")
@pytest.mark.parametrize("login", [CKU_USER, CKU_CONTEXT_SPECIFIC])
@pytest.mark.parametrize(
    ("fault", "error"),
    [({"hang": True}, DeadlineError), ({"crash": True}, TokenOperationError)],
    ids=["hangs", "crashes"],
)
def test_pin_whose_answer_is_not_known(worker, settings, shimmed, source, provisioned_token, login, fault, error):
    """A PIN after which the module hung or crashed is sent no more by this parent, though the record is lost."""
    shimmed.rule("C_Login", only=login, **fault)
    uri = provisioned_token.uri("always-auth", with_pin=False)
    chosen = settings(uri, pin_source=source(provisioned_token.user_pin), pkcs11_lib=str(shimmed.module))

    def attempt(seconds):
        shimmed.forget_calls()
        with pytest.raises(error):
            worker.open_identity(chosen, Deadline(float(seconds))).sign("message")

    if error is DeadlineError:
        at_its_deadline(attempt, lambda: shimmed.logins[login])
    else:
        attempt(GENEROUS)
    shimmed.clear()
    assert rolekey("pin", "forget", "--all").stdout == "forgotten: 1\n"
    with pytest.raises(PinRequiredError, match="may have been refused"):
        worker.open_identity(chosen, Deadline(30))
    assert shimmed.logins == {CKU_USER: 1} | ({login: 1} if login == CKU_CONTEXT_SPECIFIC else {})


@pytest.mark.rig("shim")
def test_pin_that_nobody_looked_at(open_with, source, shimmed, provisioned_token):
    """A PIN that was sent to a token which did not look at it is sent again."""
    shimmed.rule("C_Login", result=0x30)
    text = source(provisioned_token.user_pin)
    with pytest.raises(TokenOperationError, match="CKR_DEVICE_ERROR"):
        open_with(text)
    shimmed.clear()
    with open_with(text) as identity:
        check_signature(identity)
    assert shimmed.logins == {CKU_USER: 2}


# --- modules that go wrong ---


@pytest.mark.rig("shim")
@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ({"hang": True}, DeadlineError, "waiting for"),
        ({"crash": True}, TokenOperationError, "signal 6"),
    ],
    ids=["hangs", "crashes"],
)
def test_a_module_that_fails_hard(settings, provisioned_token, pkcs11_shim, tmp_path, monkeypatch, fault, error, words):
    """A module that hangs or crashes costs one call and the child; the next identity is opened in a new one."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    for name, value in shimmed.environment.items():
        monkeypatch.setenv(name, value)
    chosen = settings(provisioned_token.uri("p-256"), pkcs11_lib=str(shimmed.module))
    worker = Worker(NoInteraction())
    try:
        deadline = Deadline(30)
        identity = worker.open_identity(chosen, deadline)
        deadline._end -= 29 if error is DeadlineError else 0
        child = worker._process
        shimmed.rule("C_Sign", **fault)
        with pytest.raises(error, match=words):
            identity.sign("message")
        assert child.poll() is not None
        shimmed.clear()
        with worker.open_identity(chosen, Deadline(30)) as again:
            check_signature(again)
    finally:
        worker.close()


@pytest.mark.rig("shim")
def test_a_module_that_chatters(settings, provisioned_token, pkcs11_shim, tmp_path, monkeypatch, capfd):
    """What a module writes on stdout, where the answers travel, and on stderr reaches nobody."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    for name, value in shimmed.environment.items():
        monkeypatch.setenv(name, value)
    for function in ("C_Initialize", "C_Login", "C_Sign"):
        shimmed.rule(function, stdout=b"chatter\n", stderr=b"chatter\n")
    worker = Worker(NoInteraction())
    try:
        chosen = settings(provisioned_token.uri("p-256"), pkcs11_lib=str(shimmed.module))
        with worker.open_identity(chosen, Deadline(30)) as identity:
            check_signature(identity)
    finally:
        worker.close()
    assert capfd.readouterr() == ("", "")
