"""One CreateSession after the other, for a process that lives long.

Certificate and key are looked for anew each time. What a person entered is kept in memory, and used again as long as
it is accepted. A key in a token, a TPM or a certificate store is used in a process of its own (worker.py), which is
ended after each time: until the next one it would hold memory, a PIN and perhaps a card.
"""

import dataclasses
import os
import stat
import threading
from pathlib import Path

from rolekey.config import Settings
from rolekey.credentials import Fetched
from rolekey.deadline import ATTENDED_SECONDS, Deadline
from rolekey.errors import ServiceError
from rolekey.fetch import fetch, person_for
from rolekey.forks import renew_after_fork
from rolekey.interaction import AskUntil
from rolekey.pin_source import PinSource
from rolekey.pins import KeptPin
from rolekey.secret import Secret
from rolekey.worker import Worker

_MAX_KEY_FILE = 1 << 20


class Unlocked:
    """What has opened keys, for all Fetchers of a process: one PIN that was entered or read serves each of them."""

    def __init__(self) -> None:
        self.answers: dict[str, Secret] = {}
        self.pins: dict[PinSource, KeptPin] = {}
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """As Renewable.renew() says."""
        # One question at a time, whose answer the next one may be waiting for.
        self.lock = threading.Lock()


class Fetcher:
    """Asks for credentials again and again; one call at a time.

    Args:
        settings: what is asked, of whom, with which key.
        ask_until: makes who is asked until a deadline; nobody is where the settings say so.
        attended: whether that is somebody.
        apart: also a key in a file is used in a process of its own.
        unlocked: shared with others; its own if not given.
    """

    def __init__(
        self,
        settings: Settings,
        ask_until: AskUntil,
        *,
        attended: bool = True,
        apart: bool = False,
        unlocked: Unlocked | None = None,
    ) -> None:
        unlocked = unlocked or Unlocked()
        self._settings = settings if attended else without_questions(settings)
        self._attended = attended
        self._apart = apart
        self._answers = KeptAnswers(person_for(settings, ask_until), unlocked)
        self._worker = Worker(self._answers, unlocked.pins)

    def claim(self) -> None:
        """Take a PIN out of its variable before a process is started that would have it, too."""
        self._worker.claim(self._settings)

    def deadline(self) -> Deadline:
        """One for the next call. Nobody stops waiting for this process after a few seconds, as an SDK for a command."""
        deadline = Deadline(self._settings.timeout or ATTENDED_SECONDS)
        deadline.attended = self._attended
        return deadline

    def __call__(self, deadline: Deadline | None = None) -> Fetched:
        """One CreateSession.

        Args:
            deadline: for all of it, in place of deadline().

        Raises:
            RolekeyError: as fetch.fetch() and Worker.fetch() say.
        """
        deadline = deadline or self.deadline()
        with self._answers.until(deadline):
            if not self._apart and is_in_files(self._settings):
                return fetch(self._settings, self._answers, deadline)
            try:
                return self._worker.fetch(self._settings, deadline)
            finally:
                # It would die with the thread that started it, which may be anybody's.
                self._worker.close()

    def close(self) -> None:
        """End the key's process, whoever waits for it."""
        self._worker.close()


def without_questions(settings: Settings) -> Settings:
    """The same, but that no provider of a key in a certificate store asks for its PIN in a window of its own.

    Args:
        settings: of a program in which nobody is asked.
    """
    if settings.store is None:
        return settings
    return dataclasses.replace(settings, pin_source=PinSource("none", ""))


def is_in_files(settings: Settings) -> bool:
    """Whether certificate and key are in files, and nobody else's library is needed to sign.

    Args:
        settings: name them.
    """
    if not isinstance(settings.certificate, Path) or not isinstance(settings.private_key, Path):
        return False
    try:
        if not stat.S_ISREG(os.stat(settings.private_key).st_mode):  # noqa: PTH116 - a pipe must not be opened
            return True
        with settings.private_key.open("rb") as file:
            content = file.read(_MAX_KEY_FILE)
    except OSError:
        return True  # said by whoever reads it
    from rolekey.tss2_key import is_tss2  # noqa: PLC0415 - not for a key in a token

    return not is_tss2(content)


class KeptAnswers:
    """What a person has entered is used again as long as it is accepted.

    Args:
        ask_until: makes who is asked until a deadline.
        unlocked: has the answers.
    """

    def __init__(self, ask_until: AskUntil, unlocked: Unlocked) -> None:
        self._ask_until = ask_until
        self._deadline = Deadline(0)
        self._unlocked = unlocked
        self._used: set[str] = set()

    def until(self, deadline: Deadline) -> "KeptAnswers":
        """For one CreateSession, as a context.

        Args:
            deadline: how long an answer may take.
        """
        self._deadline = deadline
        return self

    def __enter__(self) -> None:
        """Nothing is forgotten yet."""
        self._used.clear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _at: object) -> None:
        # A service that refuses comes after a signature, and so after a PIN that was accepted.
        if error is not None and not isinstance(error, ServiceError):
            for opens in self._used:
                self._unlocked.answers.pop(opens, None)

    def ask(self, question: str, opens: str) -> Secret | None:
        """The answer that was given before, or a new one, as Interaction.ask() says."""
        with self._unlocked.lock:
            answer = self._unlocked.answers.get(opens) or self._ask_until(self._deadline).ask(question, opens)
            if answer is not None:
                self._unlocked.answers[opens] = answer
                self._used.add(opens)
            return answer

    def remind(self, text: str) -> None:
        """As Interaction.remind()."""
        self._ask_until(self._deadline).remind(text)
