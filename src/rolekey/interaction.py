"""The person at this machine, as far as the library knows one."""

from collections.abc import Callable
from typing import Protocol

from rolekey.deadline import Deadline
from rolekey.secret import Secret


class Interaction(Protocol):
    """A way to ask the person at this machine."""

    def ask(self, question: str) -> Secret | None:
        """Ask for a secret without echo.

        Args:
            question: one line, printable.

        Returns:
            The answer without its line end, or None where nobody can be asked.
        """

    def remind(self, text: str) -> None:
        """Tell that something waits for the person, where they can be told; nothing is expected back.

        Args:
            text: one line, printable.
        """


class NoInteraction:
    """Nobody is asked or told."""

    def ask(self, question: str) -> Secret | None:  # noqa: ARG002 - nobody hears it
        """None, always."""
        return None

    def remind(self, text: str) -> None:
        """Nobody hears it."""


# Makes who is asked until a deadline.
AskUntil = Callable[[Deadline], Interaction]
