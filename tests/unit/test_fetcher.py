"""One CreateSession after the other: who is asked, and where the key is used."""

import os
from datetime import UTC, datetime

import pytest

from rolekey import errors, fetcher
from rolekey.config import resolve_settings
from rolekey.credentials import Credentials, Fetched
from rolekey.emulator.configuration import DEFAULT_PROFILE_ARN, DEFAULT_ROLE_ARN, DEFAULT_TRUST_ANCHOR_ARN
from rolekey.errors import RolekeyError
from rolekey.fetcher import Fetcher, is_in_files
from rolekey.options import Options
from rolekey.secret import Secret

ARNS = {
    "trust_anchor_arn": DEFAULT_TRUST_ANCHOR_ARN,
    "profile_arn": DEFAULT_PROFILE_ARN,
    "role_arn": DEFAULT_ROLE_ARN,
}
DOWN = errors.TransportError("down", hint="wait")


def error(kind: type[RolekeyError]) -> RolekeyError:
    return kind("x", hint="y")


def settings_of(**more: str):
    return resolve_settings(Options(**ARNS, **more), {})


class Person:
    """Answers, and counts."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.questions: list[str] = []
        self.reminders: list[str] = []

    def ask(self, question: str) -> Secret | None:
        self.questions.append(question)
        return Secret(self._answers.pop(0)) if self._answers else None

    def remind(self, text: str) -> None:
        self.reminders.append(text)


def fetcher_of(person: Person, outcomes: list[RolekeyError | None], monkeypatch: pytest.MonkeyPatch, **more: str):
    """A Fetcher of which each attempt asks two questions, and what it was answered."""
    heard: list[list[str | None]] = []

    def attempt(_settings: object, interaction: Person, _deadline: object) -> Fetched:
        answers = [interaction.ask("PIN: "), interaction.ask("Passphrase: ")]
        heard.append([answer.reveal() if answer else None for answer in answers])
        interaction.remind("touch")
        if failure := outcomes.pop(0):
            raise failure
        return Fetched(Credentials("ASIA", "secret", "token", datetime.now(UTC)))

    monkeypatch.setattr(fetcher, "fetch", attempt)
    return Fetcher(settings_of(**more), lambda _deadline: person), heard


def test_a_person_is_asked_once(monkeypatch):
    """What was entered is used again for each refresh, also after the network failed."""
    person = Person("1234", "secret")
    fetch, heard = fetcher_of(person, [None, DOWN, None], monkeypatch, private_key="key.pem")
    fetch()
    with pytest.raises(errors.TransportError):
        fetch()
    fetch()
    assert heard == [["1234", "secret"]] * 3
    assert person.questions == ["PIN: ", "Passphrase: "]
    assert person.reminders == ["touch"] * 3


@pytest.mark.parametrize(
    "failure", [error(errors.PinIncorrectError), error(errors.TokenOperationError), error(errors.DeadlineError)]
)
def test_an_answer_that_may_be_wrong_is_forgotten(failure, monkeypatch):
    """What may have been refused is not sent to a token again: the next attempt asks anew."""
    person = Person("wrong", "a", "right", "b")
    fetch, heard = fetcher_of(person, [failure, None, None], monkeypatch, private_key="key.pem")
    with pytest.raises(type(failure)):
        fetch()
    fetch()
    fetch()
    assert heard == [["wrong", "a"], ["right", "b"], ["right", "b"]]


def test_nobody_to_be_asked(monkeypatch):
    """Where nobody answers, or nobody is to be asked, there is no answer, and none is remembered."""
    fetch, heard = fetcher_of(Person(), [None, None], monkeypatch, private_key="key.pem")
    fetch()
    fetch()
    silent = Person("1234")
    more = {"private_key": "key.pem", "pin_source": "none"}
    fetch, heard_of_silent = fetcher_of(silent, [None], monkeypatch, **more)
    fetch()
    assert heard + heard_of_silent == [[None, None]] * 3
    assert silent.questions == []


# --- where the key is used ---


@pytest.mark.parametrize(
    ("certificate", "private_key", "content", "in_files"),
    [
        ("a.pem", "a.key", b"-----BEGIN PRIVATE KEY-----\n", True),
        ("a.pem", "missing.key", None, True),
        ("a.pem", "a.key", b"-----BEGIN TSS2 PRIVATE KEY-----\n", False),
        ("a.pem", "handle:0x81010001", None, False),
        ("a.pem", "pkcs11:object=a", None, False),
        ("pkcs11:object=a", "a.key", b"-----BEGIN PRIVATE KEY-----\n", False),
    ],
)
def test_what_is_in_files(certificate, private_key, content, in_files, tmp_path, monkeypatch):
    """Only where certificate and key are both in files, and the key is not a TPM's, is it used in this process."""
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / private_key).write_bytes(content)
    assert is_in_files(settings_of(certificate=certificate, private_key=private_key)) is in_files


def test_a_pipe_is_left_alone(tmp_path):
    """A key that can be read once is not read to find out what it is."""
    os.mkfifo(tmp_path / "pipe")
    assert is_in_files(settings_of(certificate="a.pem", private_key=str(tmp_path / "pipe")))


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 50), (7.0, 7)])
@pytest.mark.parametrize("attended", [False, True])
def test_deadline(timeout, seconds, attended):
    """A program that waits for itself has as long as a person needs; whether there is one is said as it is."""
    settings = resolve_settings(Options(**ARNS, private_key="key.pem", timeout=timeout), {})
    deadline = Fetcher(settings, lambda _deadline: None, attended=attended).deadline()
    assert (deadline.seconds, deadline.attended) == (seconds, attended)
