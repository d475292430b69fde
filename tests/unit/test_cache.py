"""Answers that processes share: one of them asks, the others get what it got; and how long an answer is kept."""

import os
import threading
import time
from dataclasses import replace

import pytest

from rolekey import cache as cache_module
from rolekey import errors
from rolekey.cache import Answer, Cache, Listed
from rolekey.cache_question import Question
from rolekey.cached_answer import COMMAND, alias_key, alias_name, find_answer
from rolekey.deadline import ATTENDED_SECONDS, UNATTENDED_SECONDS, Deadline
from rolekey.errors import (
    AmbiguousMatchError,
    CreateSessionError,
    DeadlineError,
    PinIncorrectError,
    PinRequiredError,
    RolekeyError,
    TransportError,
)
from support.watching import wait_until

NOON = int(time.time())  # files have the time of the system
LINE = [COMMAND, "--region", "x"]
TRANSPORT = TransportError("no answer", hint="look at the network")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time of day."""
    return Clock()


@pytest.fixture
def directory(runtime_directory):
    """Where the cache is."""
    return runtime_directory / "rolekey"


@pytest.fixture
def cache(directory, clock) -> Cache:
    """An empty cache."""
    made = Cache(directory, clock)
    assert made.is_usable()
    return made


@pytest.fixture
def question(runtime_directory) -> Question:
    """What `LINE` asks."""
    alias = alias_key(LINE, {"XDG_RUNTIME_DIR": str(runtime_directory)})
    return Question("cafe", alias, b"", {"role_arn": "a role"})


class Service:
    """Gives out credentials, counted; or fails.

    Args:
        clock: the time of day.
        life: of the credentials, in seconds.
    """

    def __init__(self, clock: Clock, life: int = 3600) -> None:
        self._clock = clock
        self._life = life
        self.asked = 0
        self.failure: RolekeyError | None = None

    def __call__(self) -> Answer:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return Answer(f'{{"number":{self.asked}}}\n'.encode(), int(self._clock.now) + self._life, f"ASIA{self.asked}")


@pytest.fixture
def service(clock) -> Service:
    """Credentials that live for an hour."""
    return Service(clock)


FIRST, SECOND = b'{"number":1}\n', b'{"number":2}\n'


def soon() -> Deadline:
    """A deadline that a test does not reach."""
    return Deadline(60)


# --- when ---


def test_once(cache, question, service):
    """The first call asks, the others get the same bytes."""
    assert [cache.answer(question, service, soon()) for _ in range(3)] == [FIRST] * 3
    assert service.asked == 1


def test_another_question(cache, question, service):
    """Another question has another answer."""
    assert cache.answer(question, service, soon()) == FIRST
    assert cache.answer(replace(question, name="beef"), service, soon()) == SECOND
    assert cache.answer(question, service, soon()) == FIRST


@pytest.mark.parametrize(
    ("life", "left", "asked"),
    [(3600, 901, 1), (3600, 900, 2), (43200, 901, 1), (43200, 900, 2), (900, 451, 1), (900, 450, 2), (900, 0, 2)],
)
def test_refresh(life, left, asked, cache, question, clock):
    """New ones are asked for when a quarter of an hour is left, or half of a life that is shorter than half an hour."""
    service = Service(clock, life)
    assert cache.answer(question, service, soon()) == FIRST
    clock.now += life - left
    assert cache.answer(question, service, soon()) == (FIRST if asked == 1 else SECOND)
    assert service.asked == asked


@pytest.mark.parametrize(("life", "left"), [(3600, 900), (3600, 121), (900, 449), (900, 121)])
def test_old_ones_when_a_refresh_fails(life, left, cache, question, clock):
    """A refresh that fails hands out the old ones while they live for more than two minutes; each call tries anew."""
    service = Service(clock, life)
    cache.answer(question, service, soon())
    service.failure = TRANSPORT
    clock.now += life - left
    assert cache.answer(question, service, soon()) == FIRST
    assert cache.answer(question, service, soon()) == FIRST
    assert service.asked == 3
    service.failure = None
    assert cache.answer(question, service, soon()) == b'{"number":4}\n'


@pytest.mark.parametrize("left", [120, 60, 1, 0, -1])
def test_no_old_ones_that_end(left, cache, question, service, clock):
    """In their last two minutes they are not handed out any more: the failure is said."""
    cache.answer(question, service, soon())
    service.failure = TRANSPORT
    clock.now += 3600 - left
    with pytest.raises(TransportError) as caught:
        cache.answer(question, service, soon())
    assert caught.value is TRANSPORT


def test_clock_that_was_set_back(cache, question, service, clock):
    """What was obtained in the future is neither fresh nor good enough when the refresh fails."""
    cache.answer(question, service, soon())
    clock.now -= 10
    service.failure = TRANSPORT
    with pytest.raises(TransportError):
        cache.answer(question, service, soon())
    service.failure = None
    assert cache.answer(question, service, soon()) == b'{"number":3}\n'


def test_what_is_no_failure_of_ours(cache, question, service, clock):
    """Ctrl-C, and a bug, come through as they are, also while old ones live; the lock is free then."""
    cache.answer(question, service, soon())
    clock.now += 3000
    for error in (KeyboardInterrupt(), SystemExit(143), ZeroDivisionError()):
        service.failure = error
        with pytest.raises(type(error)):
            cache.answer(question, service, soon())
    service.failure = None
    assert cache.answer(question, service, Deadline(0.1)) == b'{"number":5}\n'


# --- the way that needs no settings ---


def test_alias(cache, question, service, runtime_directory, monkeypatch, clock):
    """After an answer the command line alone leads to it; a known answer makes that way anew where it was lost."""
    monkeypatch.setattr("rolekey.cached_answer.time.time", clock)
    environment = {"XDG_RUNTIME_DIR": str(runtime_directory)}
    assert find_answer(LINE, environment) is None
    cache.answer(question, service, soon())
    assert find_answer(LINE, environment) == FIRST
    (runtime_directory / "rolekey" / alias_name(question.alias)).unlink()
    assert find_answer(LINE, environment) is None
    cache.answer(question, service, soon())
    assert find_answer(LINE, environment) == FIRST
    assert service.asked == 1


def test_alias_of_another_process(cache, question, service, directory):
    """What another process is writing just now is left to it."""
    half = (directory / alias_name(question.alias)).with_suffix(".1.new")
    other = half.with_name(half.name.replace(".1.new", ".new"))
    for path in (half, other):
        path.touch()
    cache.answer(question, service, soon())
    assert half.exists()
    assert other.exists()


def test_entry_of_another_name(cache, question, service, directory):
    """An entry in another's place is not taken for it."""
    cache.answer(replace(question, name="beef"), service, soon())
    (directory / "beef.entry").rename(directory / "cafe.entry")
    assert cache.entries() == []
    assert cache.answer(question, service, soon()) == SECOND


def test_no_alias(cache, question, service, directory):
    """A command line that has none leaves no file of it."""
    cache.answer(replace(question, alias=None), service, soon())
    assert {path.suffix for path in directory.iterdir()} == {".entry", ".lock"}


def test_aliases_at_once(cache, question, service, directory):
    """Many that write the same alias at once leave one that is whole, and nothing half-written."""
    cache.answer(question, service, soon())
    threads = [threading.Thread(target=cache.answer, args=(question, service, soon())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.asked == 1
    assert (directory / alias_name(question.alias)).stat().st_size


def test_modes(cache, question, service, directory):
    """The directory has mode 0700 and every file 0600, whatever the umask is."""
    before = os.umask(0)
    try:
        service.failure = TRANSPORT
        with pytest.raises(TransportError):
            cache.answer(question, service, soon())
        service.failure = None
        cache.answer(question, service, soon())
        other = Cache(directory.parent / "other")
        assert other.is_usable()
    finally:
        os.umask(before)
    assert {path.suffix for path in directory.iterdir()} == {".entry", ".alias", ".lock", ".failed"}
    assert {path.stat().st_mode & 0o7777 for path in directory.iterdir()} == {0o600}
    assert (directory.parent / "other").stat().st_mode & 0o7777 == 0o700


# --- several at once ---


class Holder:
    """A call whose service answers when it is told to, in a thread of its own."""

    def __init__(self, cache: Cache, question: Question, service: Service, deadline: Deadline) -> None:
        self._asking, self._go = threading.Event(), threading.Event()
        self.outcome: bytes | RolekeyError | None = None

        def fetch() -> Answer:
            self._asking.set()
            assert self._go.wait(60)
            return service()

        def call() -> None:
            try:
                self.outcome = cache.answer(question, fetch, deadline)
            except RolekeyError as error:
                self.outcome = error

        self._thread = threading.Thread(target=call)
        self._thread.start()
        assert self._asking.wait(60)

    def finish(self) -> None:
        """Let it go on to its end."""
        self._go.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


class Waiter:
    """A call that waits for a lock, in a thread of its own.

    Its deadline tells when it has seen that the lock is taken.
    """

    def __init__(self, cache: Cache, question: Question, service: Service, deadline: Deadline) -> None:
        self._waiting = threading.Event()
        self.outcome: bytes | RolekeyError | None = None
        remaining = deadline.remaining

        def watched() -> float:
            self._waiting.set()
            return remaining()

        deadline.remaining = watched

        def call() -> None:
            try:
                self.outcome = cache.answer(question, service, deadline)
            except RolekeyError as error:
                self.outcome = error

        self._thread = threading.Thread(target=call)
        self._thread.start()
        assert self._waiting.wait(60)

    def join(self) -> bytes | RolekeyError | None:
        """What it got."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.outcome


def attended(seconds: float | None = 60, *, someone: bool = False) -> Deadline:
    """A command's deadline."""
    return Deadline.of(seconds, attended=someone)


def test_waiting_for_an_answer(cache, question, service):
    """Who waited for a process that asked gets its answer and asks nothing."""
    holder = Holder(cache, question, service, soon())
    waiters = [Waiter(cache, question, service, soon()) for _ in range(5)]
    holder.finish()
    assert {waiter.join() for waiter in waiters} == {FIRST}
    assert (holder.outcome, service.asked) == (FIRST, 1)


FAILURES = [
    TRANSPORT,
    PinIncorrectError("wrong", hint="correct it", tries="last"),
    CreateSessionError("refused", hint="ask", code="AccessDeniedException", status=403, request_id=None),
    AmbiguousMatchError("several", hint="name one", candidates=("pkcs11:a", "pkcs11:b")),
    PinRequiredError("none to be had", hint="configure one"),
    DeadlineError("timed out", hint="allow more"),
    errors.CertificateError("expired", hint="renew it"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_waiting_for_a_failure(failure, cache, question, service):
    """Who waited through a failure gets the same one, whole, and does not try; who comes later tries."""
    service.failure = failure
    holder = Holder(cache, question, service, attended())
    waiters = [Waiter(cache, question, service, attended()) for _ in range(3)]
    holder.finish()
    assert holder.outcome is failure
    for waiter in waiters:
        got = waiter.join()
        assert type(got) is type(failure)
        assert (vars(got), got.args) == (vars(failure), failure.args)
    assert service.asked == 1
    service.failure = None
    assert cache.answer(question, service, soon()) == SECOND


@pytest.mark.parametrize(
    ("failure", "seconds", "someone", "tries"),
    [
        (DeadlineError("timed out", hint="allow more"), 60, False, True),
        (DeadlineError("timed out", hint="allow more"), 5, False, False),
        (DeadlineError("timed out", hint="allow more"), 4.5, True, False),
        (PinRequiredError("nobody there", hint="x"), 5, True, True),
        (PinRequiredError("nobody there", hint="x"), 60, False, False),
        (PinIncorrectError("wrong", hint="x"), 60, True, False),
    ],
)
def test_failure_of_the_others_own(failure, seconds, someone, tries, cache, question, service, clock):
    """Who has more time than one that ran out of it, or somebody to ask where the other had none, tries for itself."""
    service.failure = failure
    own = Service(clock)
    holder = Holder(cache, question, service, attended(5))
    waiter = Waiter(cache, question, own, attended(seconds, someone=someone))
    holder.finish()
    outcome = waiter.join()
    assert own.asked == tries
    assert outcome == FIRST if tries else type(outcome) is type(failure)


def test_question_that_was_cancelled(cache, question, service):
    """Who waited while a person was asked who then cancelled does not ask that person again."""
    service.failure = PinRequiredError("the question was cancelled", hint="run it again")
    holder = Holder(cache, question, service, attended(someone=True))
    waiters = [Waiter(cache, question, service, attended(someone=True)) for _ in range(3)]
    holder.finish()
    assert [type(waiter.join()) for waiter in waiters] == [PinRequiredError] * 3
    assert service.asked == 1


def test_waiting_through_a_failure_with_old_ones(cache, question, service, clock):
    """Who waited through a failure gets the old credentials while they live, as who failed does."""
    cache.answer(question, service, soon())
    clock.now += 3000
    service.failure = TRANSPORT
    holder = Holder(cache, question, service, soon())
    waiter = Waiter(cache, question, service, soon())
    holder.finish()
    assert (holder.outcome, waiter.join(), service.asked) == (FIRST, FIRST, 2)


def test_no_time_to_wait(cache, question, service, clock):
    """Who cannot wait for the other's end gets the old ones while they live, else an error that says so."""
    cache.answer(question, service, soon())
    clock.now += 3000
    holder = Holder(cache, question, service, soon())
    assert cache.answer(question, service, Deadline(0.05)) == FIRST
    clock.now += 500
    with pytest.raises(DeadlineError, match="another process that asks for the same credentials"):
        cache.answer(question, service, Deadline(0.05))
    holder.finish()
    assert (holder.outcome, service.asked) == (SECOND, 2)


def test_waiting_for_a_person(cache, question, service):
    """While the one that asks waits for a person, the others' default deadlines are as long as for a person, too."""
    holders, waiters, explicit = attended(None), attended(None), attended(60)
    holder = Holder(cache, question, service, holders)
    first = Waiter(cache, question, service, waiters)
    second = Waiter(cache, question, service, explicit)
    assert waiters.seconds == UNATTENDED_SECONDS
    holders.expect_person()
    wait_until(lambda: waiters.seconds == ATTENDED_SECONDS)
    assert (holders.seconds, waiters.seconds, explicit.seconds) == (ATTENDED_SECONDS, ATTENDED_SECONDS, 60)
    holder.finish()
    assert (first.join(), second.join()) == (FIRST, FIRST)


def test_person_that_was_waited_for_before(cache, question, service, clock):
    """The next one that asks is not taken to wait for a person; one that knows already that it will, is."""
    deadline = attended(None)
    cache.answer(question, lambda: deadline.expect_person() or service(), deadline)  # type: ignore[func-returns-value]
    clock.now += 3000
    sizes = []

    def fetch() -> Answer:
        sizes.append((lock_of(cache, question)).stat().st_size)
        return service()

    cache.answer(question, fetch, attended(None))
    clock.now += 3000
    expecting = attended(None)
    expecting.expect_person()
    cache.answer(question, fetch, expecting)
    assert sizes == [0, 1]


def lock_of(cache: Cache, question: Question):
    """The lock's file."""
    return cache._path(question, ".lock")


# --- what is forgotten ---


def test_clear(cache, question, service, directory):
    """After clear() nothing is known, and no file is left; it counts the entries."""
    cache.answer(question, service, soon())
    cache.answer(replace(question, name="beef"), service, soon())
    service.failure = TRANSPORT
    with pytest.raises(TransportError):
        cache.answer(replace(question, name="dead"), service, soon())
    (directory / "cafe.new").touch()
    (directory / "cafe.123.new").touch()
    assert cache.clear() == 2
    assert list(directory.iterdir()) == []
    assert cache.clear() == 0


def names(directory) -> set[str]:
    """What lies in a directory, less locks."""
    return {path.name for path in directory.iterdir() if path.suffix != ".lock"}


def test_clear_during_a_refresh(cache, question, service, directory):
    """What was asked for before clear() is handed out to who asked, and not kept."""
    holder = Holder(cache, question, service, soon())
    assert cache.clear() == 0
    holder.finish()
    assert holder.outcome == FIRST
    assert names(directory) == set()
    assert cache.answer(question, service, soon()) == SECOND


def test_clear_and_another_answer_during_a_refresh(cache, question, service):
    """What somebody else got after clear() stays, whatever who asked before it does."""
    holder = Holder(cache, question, service, soon())
    cache.clear()
    assert cache.answer(question, service, soon()) == FIRST
    holder.finish()
    assert holder.outcome == SECOND
    assert cache.answer(question, service, soon()) == FIRST


def test_clear_during_a_refresh_that_fails(cache, question, service, directory):
    """Nor is a failure."""
    service.failure = TRANSPORT
    holder = Holder(cache, question, service, soon())
    cache.clear()
    holder.finish()
    assert holder.outcome is TRANSPORT
    assert names(directory) == set()


def test_waiting_through_a_clear(cache, question, service):
    """Who waited for a process whose answer was cleared asks for one of its own."""
    holder = Holder(cache, question, service, soon())
    waiter = Waiter(cache, question, service, soon())
    cache.clear()
    holder.finish()
    assert (holder.outcome, waiter.join()) == (FIRST, SECOND)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_clear_while_an_entry_is_written(moment, cache, question, service, directory, monkeypatch):
    """Nor is what was being written just then."""
    write = cache_module.replace_private_file

    def slow(path, content, *more):
        if moment == "before":
            cache.clear()
        write(path, content, *more)
        if moment == "after":
            cache.clear()

    monkeypatch.setattr(cache_module, "replace_private_file", slow)
    assert cache.answer(question, service, soon()) == FIRST
    assert names(directory) == set()


def test_swept(cache, question, service, directory, clock):
    """A new entry takes with it what nobody reads any more: expired entries, damaged ones, old failures and halves."""
    old = {"a.alias": 90_000, "b.failed": 90_000, "c.new": 61, "d.99.new": 61}
    young = {"e.alias": 80_000, "f.failed": 80_000, "g.new": 30}
    for name, age in (old | young).items():
        (directory / name).touch(mode=0o600)
        os.utime(directory / name, (clock.now - age + 3600, clock.now - age + 3600))
    cache.answer(replace(question, name="dead", alias=None), service, soon())
    (directory / "beef.entry").write_bytes((directory / "dead.entry").read_bytes())
    (directory / "beef.entry").chmod(0o600)
    clock.now += 3600
    cache.answer(replace(question, alias=None), service, soon())
    assert names(directory) == {"cafe.entry", *young}


# --- without a cache ---


def denied(*_arguments: object) -> None:
    """A system call that a full or read-only file system refuses."""
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "trouble",
    [
        lambda directory: (directory / "cafe.lock").mkdir(),
        lambda directory: (directory / "cafe.lock").symlink_to("/dev/null"),
        lambda directory: ((directory / "cafe.lock").touch(), (directory / "cafe.lock").chmod(0o666)),
        lambda directory: (directory / "cafe.entry").mkdir(),
        lambda directory: (directory / "cafe.new").mkdir(),
        lambda directory: directory.rmdir(),
    ],
    ids=["directory", "link", "open to others", "entry is a directory", "new is a directory", "gone"],
)
def test_trouble(trouble, cache, question, service, directory):
    """Whatever is wrong with a file, there are credentials, each time; what cannot be kept is not."""
    trouble(directory)
    for _ in range(2):
        assert cache.answer(question, service, soon()).startswith(b'{"number":')
    assert service.asked == 2


@pytest.mark.parametrize("call", ["fsync", "open", "ftruncate", "replace"])
def test_refusing_file_system(call, cache, question, service, directory, monkeypatch):
    """Whatever call is refused, there are credentials, and no half of a file stays."""
    if call == "replace":
        monkeypatch.setattr("pathlib.Path.replace", denied)
    else:
        monkeypatch.setattr(os, call, denied)
    assert cache.answer(question, service, soon()) == FIRST
    monkeypatch.undo()
    assert not list(directory.glob("*.new"))


UNREADABLE = [b"", b"{", b"[]", b"{}", b'{"error":{}}', b'{"error":1}', b"[" * 100_000, b"\xff", b"null"]


@pytest.mark.parametrize("content", UNREADABLE, ids=range(len(UNREADABLE)))
def test_failure_that_cannot_be_read(content, cache, question, service, clock, monkeypatch):
    """A failure that cannot be read is none: who waited tries for itself."""
    write = cache_module.replace_private_file

    def garbling(path, written, *more):
        write(path, content if path.suffix == ".failed" else written, *more)

    monkeypatch.setattr(cache_module, "replace_private_file", garbling)
    service.failure = TRANSPORT
    holder = Holder(cache, question, service, soon())
    waiter = Waiter(cache, question, Service(clock), soon())
    holder.finish()
    assert (holder.outcome, waiter.join()) == (TRANSPORT, FIRST)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o711])
def test_directory_that_is_open(mode, directory):
    """A directory of ours that others can look into is left alone."""
    directory.mkdir()
    directory.chmod(mode)
    assert not Cache(directory).is_usable()
    assert directory.stat().st_mode & 0o777 == mode


def test_directory_that_cannot_be_made(tmp_path):
    """Where there is no place for the directory there is no cache; no directory above it is made."""
    assert not Cache(tmp_path / "missing" / "rolekey").is_usable()
    (tmp_path / "file").touch()
    assert not Cache(tmp_path / "file" / "rolekey").is_usable()
    assert not Cache(tmp_path / "file").is_usable()
    (tmp_path / "good").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "good")
    assert not Cache(tmp_path / "link").is_usable()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "good", "link"}


# --- what is shown ---


def test_entries(cache, question, service, clock, directory):
    """What is kept is listed without the bytes; what has expired or is damaged is not."""
    assert cache.entries() == []
    cache.answer(question, service, soon())
    listed = Listed("cafe", {"role_arn": "a role"}, "ASIA1", NOON, NOON + 3600)
    assert cache.entries() == [listed]
    (directory / "beef.entry").write_bytes((directory / "cafe.entry").read_bytes())
    (directory / "dead.entry").touch()
    assert cache.entries() == [listed]
    assert "number" not in repr(listed)
    clock.now += 3600
    assert cache.entries() == []


def test_answer_is_not_printed():
    """An answer's repr does not hold it."""
    assert "secret" not in repr(Answer(b"secret", NOON, "ASIA"))
