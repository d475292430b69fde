"""worker.py: a token's module in a process of its own, under a parent that lives on."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import AmbiguousMatchError, DeadlineError, PinIncorrectError, PinRequiredError, TokenOperationError
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.secret import Secret
from rolekey.sigv4_x509 import verify_signature
from rolekey.worker import Worker
from support.null_parameters import with_null_parameters
from support.pki import make_root

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
        def ask(self, question):
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
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


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
        identity = worker.open_identity(chosen, Deadline(3))
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
