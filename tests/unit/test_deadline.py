"""One deadline for everything: results and exceptions come through, and nothing is waited for once it has passed."""

import threading
import time
from collections.abc import Iterator

import pytest

from rolekey.cli.ending import exit_code
from rolekey.deadline import ATTENDED_SECONDS, UNATTENDED_SECONDS, Deadline
from rolekey.errors import DeadlineError, PinIncorrectError
from support.watching import wait_until


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What a function that hangs waits for; it happens when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_remaining(clock):
    """The seconds that are left count down with the clock that was given, and never below zero."""
    deadline = Deadline(50, clock=clock)
    assert deadline.remaining() == 50
    for now, left in ((1000.5, 49.5), (1049.75, 0.25), (1050.0, 0.0), (1050.1, 0.0), (9999.0, 0.0)):
        clock.now = now
        assert deadline.remaining() == left


def test_clock_that_goes_back(clock):
    """The end does not move with a clock that is set back."""
    deadline = Deadline(50, clock=clock)
    clock.now = 990.0
    assert deadline.remaining() == 60


def test_seconds(clock):
    """The seconds that were allowed stay readable after they have passed."""
    deadline = Deadline(0.5, clock=clock)
    clock.now += 1
    assert deadline.seconds == 0.5


@pytest.mark.parametrize(
    ("seconds", "attended", "allowed", "grown"),
    [
        (None, False, 4.5, 50),
        (None, True, 50, 50),
        (4.5, False, 4.5, 4.5),
        (2, True, 2, 2),
        (60, False, 60, 60),
        (3600, True, 3600, 3600),
    ],
)
def test_person(seconds, attended, allowed, grown):
    """Unattended commands have 4.5 s by default, attended ones 50 s; what waits for a person has 50 s then.

    What the user allows stays as it is.
    """
    assert (UNATTENDED_SECONDS, ATTENDED_SECONDS) == (4.5, 50)
    deadline = Deadline.of(seconds, attended=attended)
    assert (deadline.seconds, deadline.attended) == (allowed, attended)
    end = deadline._end
    for _ in range(2):
        deadline.expect_person()
        assert (deadline.seconds, deadline._end) == (grown, pytest.approx(end + grown - allowed))


def test_person_in_the_middle():
    """A deadline that grows while something is waited for is waited for to its new end."""
    deadline = Deadline.of(None, attended=False)
    deadline._end -= UNATTENDED_SECONDS - 1.5
    first_end = deadline._end

    def function() -> str:
        deadline.expect_person()
        wait_until(lambda: time.monotonic() > first_end + 0.1)
        return "late"

    assert deadline.run("the token", function) == "late"


def test_deadline_without_a_user():
    """A deadline of a program's own does not grow."""
    deadline = Deadline(2)
    deadline.expect_person()
    assert (deadline.seconds, deadline.attended) == (2, False)


@pytest.mark.parametrize("seconds", [None, 2, 60])
def test_who_is_told_of_a_person(seconds):
    """Who wants to know that a person is waited for is told, also where the time stays the same, and also late."""
    deadline, told = Deadline.of(seconds, attended=False), []
    deadline.when_person_expected(lambda: told.append("early"))
    assert told == []
    deadline.expect_person()
    assert told == ["early"]
    deadline.when_person_expected(lambda: told.append("late"))
    assert told == ["early", "late"]


@pytest.mark.parametrize("value", [1, "text", None, False, [], DeadlineError("a value", hint="none")])
def test_result(value):
    """The function's result is the call's, whatever it is: nothing, and an exception that was returned, too."""
    assert Deadline(60).run("x", lambda: value) is value


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        PinIncorrectError("no", hint="look", tries="last"),
        DeadlineError("of its own", hint="wait"),
        KeyboardInterrupt(),
        SystemExit(3),
        OSError(2, "No such file"),
    ],
)
def test_exception(error):
    """The function's exception is the call's, the very object."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        Deadline(60).run("x", fail)
    assert caught.value is error


def test_other_thread():
    """The function runs in a daemon thread that has the awaited thing's name, so that it keeps no process alive."""
    thread = Deadline(60).run("the token", threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert thread.name == "rolekey: the token"


def test_timeout(never):
    """A function that does not return is left behind; the error says what was waited for, how long, and what to do."""
    with pytest.raises(DeadlineError) as caught:
        Deadline(0.05).run("the login of token x", never.wait)
    assert caught.value.message == "timed out after 0.05 s waiting for the login of token x"
    assert "--debug" in caught.value.hint
    assert "--timeout" in caught.value.hint
    assert caught.value.__suppress_context__
    assert exit_code(caught.value) == 6


def test_late_result_is_ignored(never):
    """What a function does after the deadline changes nothing: a later call gets its own result."""
    deadline = Deadline(0.05)
    with pytest.raises(DeadlineError):
        deadline.run("x", lambda: never.wait() and "late")
    never.set()
    assert Deadline(60).run("y", lambda: "own") == "own"


@pytest.mark.parametrize("seconds", [0, -1])
def test_nothing_is_started_without_time(seconds):
    """Once the deadline has passed a function is not even called: a PIN that nobody waits for is not sent."""
    called = []
    with pytest.raises(DeadlineError, match="waiting for the token"):
        Deadline(seconds).run("the token", lambda: called.append(1))
    assert called == []


def test_deadline_spans_calls(clock):
    """All calls share one deadline; each has what the ones before have left."""
    deadline = Deadline(10, clock=clock)
    assert deadline.run("x", lambda: "first") == "first"
    clock.now += 10
    with pytest.raises(DeadlineError, match=r"^timed out after 10 s waiting for y$"):
        deadline.run("y", lambda: "second")


def test_many_at_once():
    """A deadline may be shared by threads; each gets its own result."""
    deadline, results = Deadline(60), {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: deadline.run("x", lambda: n)})) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: n for n in range(20)}
