"""A TPM's key in the worker's child: the password of a variable is read by the parent, and kept while it is good."""

import os
import signal

import pytest

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import PinIncorrectError, PinRequiredError, TokenOperationError
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.worker import Worker
from support.contract_child import ARNS
from support.pki import make_root
from support.tpm_keys import TPMKeys

PASSWORD = "right"


@pytest.fixture(scope="module")
def made(swtpm):
    """A key file with a password."""
    return TPMKeys(swtpm, make_root()).by_openssl("EC", "group:P-256", password=PASSWORD)


@pytest.fixture
def worker():
    """A worker whose child is ended."""
    worker = Worker(NoInteraction())
    yield worker
    worker.close()


@pytest.fixture
def settings(made, swtpm, tpm, monkeypatch):
    """Settings whose password is in a variable."""

    def settings(password):
        monkeypatch.setenv("TPM_PASSWORD", password)
        options = Options(
            **ARNS,
            certificate=str(made.certificate),
            private_key=made.private_key,
            tpm_tcti=swtpm.tcti,
            pin_source="env:TPM_PASSWORD",
        )
        return resolve_settings(options, os.environ)

    tpm.reset_lockout()
    yield settings
    tpm.reset_lockout()


def test_a_password_serves_again_after_a_crash(worker, settings):
    """The password is read once, leaves the environment, signs, and signs again in the child after the first."""
    found = settings(PASSWORD)
    with worker.open_identity(found, Deadline(30)) as identity:
        identity.sign("message")
    assert "TPM_PASSWORD" not in os.environ
    identity = worker.open_identity(found, Deadline(30))
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(TokenOperationError, match="signal 9"):
        identity.sign("message")
    with worker.open_identity(found, Deadline(30)) as again:
        again.sign("message")


def test_a_refused_password_is_given_to_no_child_again(worker, settings, tpm):
    """A wrong password is counted once, whoever asks for the identity again."""
    found = settings("wrong")
    identity = worker.open_identity(found, Deadline(30))
    with pytest.raises(PinIncorrectError):
        identity.sign("message")
    for _ in range(3):
        with pytest.raises(PinRequiredError, match="may have been refused"):
            worker.open_identity(found, Deadline(30))
    assert tpm.lockout_counter() == 1
