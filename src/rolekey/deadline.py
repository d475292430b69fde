"""One deadline for everything that a command waits for: token, network, retries."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Self, TypeVar

from rolekey.errors import DeadlineError

T = TypeVar("T")
log = logging.getLogger(__name__)

# A person at a terminal or window, and the longest that an SDK waits for one; the Rust SDK gives up after 5 s.
ATTENDED_SECONDS = 50.0
UNATTENDED_SECONDS = 4.5


class Deadline:
    """A point in time after which nothing is waited for.

    Args:
        seconds: how long from now, in seconds.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds
        self._may_grow = False

    @classmethod
    def of(cls, seconds: float | None, *, attended: bool) -> Self:
        """The deadline of one command.

        Args:
            seconds: what the user allows, or None.
            attended: somebody can be asked. Otherwise the default is what the most impatient SDK waits, until
                expect_person() says more.
        """
        if seconds is not None:
            return cls(seconds)
        deadline = cls(ATTENDED_SECONDS if attended else UNATTENDED_SECONDS)
        deadline._may_grow = True
        return deadline

    def expect_person(self) -> None:
        """A person may have to do something (touch a token, use its PIN pad): a default deadline grows to theirs."""
        if self._may_grow and self.seconds < ATTENDED_SECONDS:
            log.debug("deadline: %g s, since the token may want to be touched", ATTENDED_SECONDS)
            self._end += ATTENDED_SECONDS - self.seconds
            self.seconds = ATTENDED_SECONDS

    def remaining(self) -> float:
        """Seconds left; 0.0 when it has passed."""
        return max(0.0, self._end - self._clock())

    def run(self, what: str, function: Callable[[], T], *, slow: tuple[float, Callable[[], None]] | None = None) -> T:
        """Call a function that may block for ever, and stop waiting for it when the time is over.

        The function runs in a daemon thread: a socket that drips, a resolver or a PKCS#11 module that hangs keeps
        neither the caller nor, later, the process. What it does after the deadline is ignored.

        Args:
            what: what is being waited for, for the error's text.
            function: takes nothing; its result or exception becomes this call's.
            slow: seconds after which a second function is called once, while the first goes on.

        Raises:
            DeadlineError: the time was over first.
        """
        outcome: queue.SimpleQueue[tuple[bool, T | BaseException]] = queue.SimpleQueue()

        def work() -> None:
            try:
                outcome.put((True, function()))
            except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
                outcome.put((False, error))

        remaining = self.remaining()
        if remaining > 0:
            threading.Thread(target=work, name=f"rolekey: {what}", daemon=True).start()
        if slow is not None and slow[0] < remaining:
            try:
                return self._result(*outcome.get(timeout=slow[0]))
            except queue.Empty:
                slow[1]()
        try:
            finished = outcome.get(timeout=self.remaining() if remaining > 0 else 0)
        except queue.Empty:
            raise DeadlineError(
                f"timed out after {self.seconds:g} s waiting for {what}",
                hint="see what holds it up with --debug, or allow more with --timeout SECONDS",
            ) from None
        return self._result(*finished)

    @staticmethod
    def _result(succeeded: bool, value: T | BaseException) -> T:  # noqa: FBT001 - the two halves of a queue's entry
        if succeeded:
            return value  # type: ignore[return-value]  # the flag says which of the two it is
        assert isinstance(value, BaseException)  # noqa: S101 - for the type checker
        raise value
