"""The guard around a PIN: what is noted before and after it is sent, and when it is not sent at all."""

import dataclasses
from pathlib import Path

import pytest

from rolekey.deadline import Deadline
from rolekey.errors import (
    DeadlineError,
    PinIncorrectError,
    PinNotUsableError,
    SignerError,
    TokenOperationError,
)
from rolekey.pin_guard import PinGuard, PinTarget
from rolekey.pin_record import PinRecord, TokenName, all_entries
from rolekey.pin_source import PinSource

NAME = TokenName("a label", "1234", "a maker", "a model")
TARGET = PinTarget(NAME, "token a label (serial 1234)", "pkcs11:token=a%20label;serial=1234", lambda: "low")
FILE = PinSource("file", "/etc/pin", (1, 2, 4, 1000, 2000))
VARIABLE = PinSource("env", "HSM_PIN")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "state" / "rolekey"


@pytest.fixture
def noted(directory):
    return lambda: [entry.state for entry in all_entries(directory)[0]]


def failing(error):
    def send():
        raise error

    return send


def never():
    pytest.fail("it was called")


def unjudged(error):
    pytest.fail(f"{error} was judged")


def test_accepted(directory, noted):
    """While a PIN is being sent its source is noted as "trying"; one that was accepted leaves nothing behind."""
    seen = []

    def send():
        seen.extend(noted())
        return "the result"

    guard = PinGuard(directory, TARGET, FILE, Deadline(10))
    for _ in range(2):
        assert guard.attempt(send, unjudged) == "the result"
    assert seen == ["trying", "trying"]
    assert noted() == []


@pytest.mark.parametrize("source", [FILE, VARIABLE], ids=str)
@pytest.mark.parametrize(
    ("judged", "said"),
    [("refused", "was refused"), ("unclear", "may have been refused (the answer is not known)")],
)
def test_not_sent_again(source, judged, said, directory, noted):
    """A PIN that was or may have been refused is not sent again; both errors say how to have it sent."""
    error = TokenOperationError("it failed", hint="none")
    with pytest.raises(TokenOperationError, match="it failed") as caught:
        PinGuard(directory, TARGET, source, Deadline(10)).attempt(failing(error), lambda _: judged)
    assert noted() == [judged]
    forget = "you run `rolekey pin forget 'pkcs11:token=a%20label;serial=1234'`"
    until = ("until the file changes, or until " if source is FILE else "until ") + forget
    assert caught.value.hint == f"correct {source}; the PIN is not sent again {until}"
    with pytest.raises(PinIncorrectError) as again:
        PinGuard(directory, TARGET, source, Deadline(10)).attempt(never, unjudged, ready=never)
    assert again.value.message.startswith(f"the PIN from {source} {said} by token a label (serial 1234) at 2")
    assert again.value.hint == f"correct it; it is not sent {until}"
    assert again.value.tries == "low"


def test_not_looked_at(directory, noted):
    """Nothing is held against a PIN that was not looked at, and the error keeps its own hint."""
    error = TokenOperationError("it failed", hint="its own")
    guard = PinGuard(directory, TARGET, FILE, Deadline(10))
    with pytest.raises(TokenOperationError) as caught:
        guard.attempt(failing(error), lambda _: "unasked")
    assert caught.value.hint == "its own"
    assert noted() == []
    assert guard.attempt(lambda: 1, unjudged) == 1


def test_process_that_ends_while_it_sends(directory, noted):
    """What is no answer (the process is being ended) leaves "trying" behind, which keeps the PIN from being sent."""
    guard = PinGuard(directory, TARGET, FILE, Deadline(10))
    with pytest.raises(KeyboardInterrupt):
        guard.attempt(failing(KeyboardInterrupt()), unjudged)
    assert noted() == ["trying"]
    with pytest.raises(PinIncorrectError, match="may have been refused"):
        guard.attempt(never, unjudged)


def test_not_ready(directory, noted):
    """What is found out while the lock is held stops the PIN before anything is noted of it."""
    guard = PinGuard(directory, TARGET, FILE, Deadline(10))
    with pytest.raises(SignerError, match="locked"):
        guard.attempt(never, unjudged, ready=failing(SignerError("locked", hint="none")))
    assert noted() == []


def test_no_time_left(directory, noted):
    """A PIN for which nobody waits any more is not sent."""
    now = [0.0]
    deadline = Deadline(10, clock=lambda: now[0])

    def ready():
        now[0] = 11.0

    with pytest.raises(DeadlineError, match="no time is left for the login of token a label"):
        PinGuard(directory, TARGET, FILE, deadline).attempt(never, unjudged, ready=ready)
    assert noted() == []


def test_lock_is_held(directory):
    """Nobody else sends a PIN to the same target meanwhile."""
    with PinRecord(directory, NAME).locked(Deadline(10)), pytest.raises(DeadlineError, match="another login"):
        PinGuard(directory, TARGET, FILE, Deadline(0.1)).attempt(never, unjudged)


def test_typed(directory, noted):
    """A typed PIN is neither noted nor held back, and is sent where no record can be kept."""
    for place in (directory, None, Path("/dev/null/x")):
        guard = PinGuard(place, TARGET, PinSource("prompt"), Deadline(10))
        for _ in range(2):
            with pytest.raises(PinIncorrectError, match="refused") as caught:
                guard.attempt(failing(PinIncorrectError("refused", hint="its own")), lambda _: "refused")
            assert caught.value.hint == "its own"
    assert noted() == []


def test_no_record_no_try():
    """Where no record can be kept, a PIN that nobody types is not sent."""
    with pytest.raises(PinNotUsableError, match="the PIN from the file /etc/pin is not sent: no record") as caught:
        PinGuard(None, TARGET, FILE, Deadline(10)).attempt(never, unjudged)
    assert "XDG_STATE_HOME" in caught.value.hint


def test_record_that_cannot_be_written_any_more(directory, noted):
    """A result that cannot be written leaves "trying", which counts as much as a refusal."""

    def send():
        (record,) = (directory / "pins").glob("*.json")
        record.chmod(0o666)
        raise PinIncorrectError("refused", hint="none")

    with pytest.raises(PinIncorrectError):
        PinGuard(directory, TARGET, FILE, Deadline(10)).attempt(send, lambda _: "refused")
    (record,) = (directory / "pins").glob("*.json")
    record.chmod(0o600)
    assert noted() == ["trying"]


def test_word_of_the_target(directory):
    """What is sent is called by the target's own word."""
    target = dataclasses.replace(TARGET, secret="password", text="the TPM key a label")
    guard = PinGuard(directory, target, VARIABLE, Deadline(10))
    with pytest.raises(SignerError) as caught:
        guard.attempt(failing(SignerError("no", hint="none")), lambda _: "refused")
    assert "; the password is not sent again until" in caught.value.hint
    with pytest.raises(PinIncorrectError, match="the password from the variable HSM_PIN was refused by the TPM key a"):
        guard.attempt(never, unjudged)
