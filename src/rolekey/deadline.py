"""One deadline for everything that a command waits for: token, network, retries."""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from rolekey.errors import DeadlineError

T = TypeVar("T")
log = logging.getLogger(__name__)

# A person at a terminal or window, and the longest that an SDK waits for one; the Rust SDK gives up after 5 s.
# On Windows a thread that waits does not hear Ctrl-C.
_LONGEST_WAIT = 0.1 if sys.platform == "win32" else threading.TIMEOUT_MAX
ATTENDED_SECONDS = 50.0
UNATTENDED_SECONDS = 4.5


class Deadline:
    """A point in time after which nothing is waited for.

    Args:
        seconds: how long from now, in seconds.
        clock: a monotonic clock, in seconds.

    Attributes:
        seconds: as given, or as it has grown.
        attended: somebody can be asked; said to of().
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds
        self.attended = False
        self._may_grow = False
        self._person_expected = False
        self._tell: Callable[[], None] | None = None

    @classmethod
    def of(cls, seconds: float | None, *, attended: bool) -> Self:
        """The deadline of one command.

        Args:
            seconds: what the user allows, or None.
            attended: somebody can be asked. Otherwise the default is what the most impatient SDK waits, until
                expect_person() says more.
        """
        default = ATTENDED_SECONDS if attended else UNATTENDED_SECONDS
        deadline = cls(default if seconds is None else seconds)
        deadline.attended = attended
        deadline._may_grow = seconds is None
        return deadline

    def when_person_expected(self, tell: Callable[[], None]) -> None:
        """Have a function called by expect_person(); at once, if that was called already.

        Args:
            tell: takes nothing and does not block.
        """
        self._tell = tell
        if self._person_expected:
            tell()

    def expect_person(self) -> None:
        """A person may have to do something (touch a token, enter a PIN): a default deadline grows to theirs."""
        if self._may_grow and self.seconds < ATTENDED_SECONDS:
            log.debug("deadline: %g s, since a person may be needed", ATTENDED_SECONDS)
            self._end += ATTENDED_SECONDS - self.seconds
            self.seconds = ATTENDED_SECONDS
        self._person_expected = True
        if self._tell is not None:
            self._tell()

    def remaining(self) -> float:
        """Seconds left; 0.0 when it has passed."""
        return max(0.0, self._end - self._clock())

    def over(self, what: str) -> DeadlineError:
        """The error that says that the time is over.

        Args:
            what: what was being waited for.
        """
        return DeadlineError(
            f"timed out after {self.seconds:g} s waiting for {what}",
            hint="see what holds it up with --debug, or allow more with --timeout SECONDS",
        )

    def start(self, name: str, function: Callable[[], T]) -> "Started[T]":
        """Call a function that may block for ever in a daemon thread.

        A socket that drips, a resolver or a PKCS#11 module that hangs keeps neither the caller nor, later, the process.
        What it does after the deadline is ignored; if the deadline has passed already, it is not called.

        Args:
            name: of the thread.
            function: takes nothing.
        """
        started: Started[T] = Started(self)
        if self.remaining() > 0:
            threading.Thread(target=started.work, args=[function], name=f"rolekey: {name}", daemon=True).start()
        return started

    def run(self, what: str, function: Callable[[], T], *, slow: tuple[float, Callable[[], None]] | None = None) -> T:
        """Call a function that may block for ever, and stop waiting for it when the time is over.

        Args:
            what: what is being waited for, for the error's text.
            function: takes nothing; its result or exception becomes this call's.
            slow: seconds after which a second function is called once, while the first goes on.

        Raises:
            DeadlineError: the time was over first.
        """
        return self.start(what, function).result(what, slow=slow)


class Started(Generic[T]):
    """A call that goes on in another thread; from Deadline.start().

    Args:
        deadline: until when its result is waited for.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._outcome: queue.SimpleQueue[tuple[bool, T | BaseException]] = queue.SimpleQueue()

    def work(self, function: Callable[[], T]) -> None:
        """Call it; the thread's own part."""
        try:
            self._outcome.put((True, function()))
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            self._outcome.put((False, error))

    def result(self, what: str, *, slow: tuple[float, Callable[[], None]] | None = None) -> T:
        """Wait for its result, or raise its exception; to be called once.

        Args:
            what: as Deadline.run() has it.
            slow: as Deadline.run() has it.

        Raises:
            DeadlineError: the time was over first.
        """
        if slow is not None and slow[0] < self._deadline.remaining():
            try:
                return self._unpacked(*self._outcome.get(timeout=slow[0]))
            except queue.Empty:
                slow[1]()
        finished = None
        while finished is None:
            seconds, remaining = self._deadline.seconds, self._deadline.remaining()
            try:
                finished = self._outcome.get(timeout=min(remaining, _LONGEST_WAIT))
            except queue.Empty:
                if remaining > _LONGEST_WAIT or self._deadline.seconds > seconds:  # it has grown meanwhile
                    continue
                raise self._deadline.over(what) from None
        return self._unpacked(*finished)

    @staticmethod
    def _unpacked(succeeded: bool, value: T | BaseException) -> T:  # noqa: FBT001 - the two halves of a queue's entry
        if succeeded:
            return value  # type: ignore[return-value]  # the flag says which of the two it is
        assert isinstance(value, BaseException)  # noqa: S101 - for the type checker
        raise value
