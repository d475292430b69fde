"""One CreateSession after the other, for a process that lives long.

Certificate and key are looked for anew each time. What a person entered is kept in memory, and used again as long as
it is accepted. A key in a token or TPM is used in a process of its own (worker.py), which is ended after each time:
until the next one it would hold memory, a PIN and perhaps a card.
"""

import os
import stat
from pathlib import Path

from rolekey.config import Settings
from rolekey.credentials import Fetched
from rolekey.deadline import ATTENDED_SECONDS, Deadline
from rolekey.errors import ServiceError
from rolekey.fetch import fetch, person_for
from rolekey.interaction import AskUntil
from rolekey.secret import Secret
from rolekey.worker import Worker

_MAX_KEY_FILE = 1 << 20


class Fetcher:
    """Asks for credentials again and again; one call at a time.

    Args:
        settings: what is asked, of whom, with which key.
        ask_until: makes who is asked until a deadline; nobody is where the settings say so.
        attended: whether that is somebody.
        apart: also a key in a file is used in a process of its own.
    """

    def __init__(self, settings: Settings, ask_until: AskUntil, *, attended: bool = True, apart: bool = False) -> None:
        self._settings = settings
        self._attended = attended
        self._apart = apart
        self._answers = KeptAnswers(person_for(settings, ask_until))
        self._worker = Worker(self._answers)

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
    """

    def __init__(self, ask_until: AskUntil) -> None:
        self._ask_until = ask_until
        self._deadline = Deadline(0)
        self._answers: dict[str, Secret] = {}

    def until(self, deadline: Deadline) -> "KeptAnswers":
        """For one CreateSession, as a context.

        Args:
            deadline: how long an answer may take.
        """
        self._deadline = deadline
        return self

    def __enter__(self) -> None:
        """Nothing is forgotten yet."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _at: object) -> None:
        # A service that refuses comes after a signature, and so after a PIN that was accepted.
        if error is not None and not isinstance(error, ServiceError):
            self._answers.clear()

    def ask(self, question: str) -> Secret | None:
        """The answer that was given before, or a new one, as Interaction.ask() says."""
        if question not in self._answers:
            answer = self._ask_until(self._deadline).ask(question)
            if answer is None:
                return None
            self._answers[question] = answer
        return self._answers[question]

    def remind(self, text: str) -> None:
        """As Interaction.remind()."""
        self._ask_until(self._deadline).remind(text)
