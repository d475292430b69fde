"""A TPM key in rolekey.worker's process: its password is the parent's, and is read there once."""

import pytest

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import PinIncorrectError, PinRequiredError
from rolekey.interaction import NoInteraction
from rolekey.worker import Worker
from support.pki import make_root
from support.tpm_identity import options_of
from support.tpm_keys import TPMKeys


@pytest.fixture(scope="module")
def made(swtpm):
    """A key file with a password."""
    return TPMKeys(swtpm, make_root()).by_openssl("EC", "group:P-256", password="secret")


@pytest.fixture
def worker():
    """The process, ended with the test."""
    worker = Worker(NoInteraction())
    yield worker
    worker.close()


def settings_of(tpm, made):
    """The key's password is in a variable."""
    return resolve_settings(options_of(tpm, made, pin_source="env:TPM_PASSWORD"), {})


def test_a_password_of_the_parent(tpm, made, worker, monkeypatch):
    """The password from the parent's variable opens the key in every child, also when one has ended."""
    monkeypatch.setenv("TPM_PASSWORD", "secret")
    for _ in range(2):
        for _ in range(2):
            with worker.open_identity(settings_of(tpm, made), Deadline(60)) as identity:
                identity.sign("text")
        worker.close()
    assert tpm.lockout_counter() == 0


def test_a_wrong_password_of_the_parent(tpm, made, worker, monkeypatch):
    """A wrong one is sent once, whatever is tried then."""
    monkeypatch.setenv("TPM_PASSWORD", "wrong")
    with worker.open_identity(settings_of(tpm, made), Deadline(60)) as identity:
        for _ in range(2):
            with pytest.raises(PinIncorrectError):
                identity.sign("text")
    with pytest.raises(PinRequiredError, match="may have been refused"):
        worker.open_identity(settings_of(tpm, made), Deadline(60))
    assert tpm.lockout_counter() == 1
