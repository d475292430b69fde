"""Credentials that stay fresh: when new ones are asked for, and what everybody gets while that goes wrong."""

import itertools
import os
import signal
import threading
import time
from datetime import UTC, datetime

import pytest

from rolekey.credentials import Credentials, Fetched
from rolekey.errors import MalformedResponseError, RolekeyError, TransportError
from rolekey.provider import LONGEST_SLEEP, Provider
from support.watching import wait_until

START = 1_800_000_000.0
HOUR = 3600.0


class World:
    """A clock that is set by hand, and a service that can be down."""

    def __init__(self, life=HOUR, seconds=0.5):
        self.now = START
        self.life = life
        self.seconds = seconds
        self.down = False
        self.asked = []
        self.in_flight = 0

    def fetch(self):
        assert self.in_flight == 0, "two CreateSessions at once"
        self.in_flight += 1
        self.asked.append(self.now)
        self.now += self.seconds
        self.in_flight -= 1
        if self.down:
            raise TransportError("down", hint="wait")
        expiration = datetime.fromtimestamp(self.now + self.life, UTC)
        return Fetched(Credentials(f"ASIA{len(self.asked)}", "secret", "token", expiration), expiration)

    def provider(self, chance=0.0):
        return Provider(self.fetch, clock=lambda: self.now, chance=lambda: chance)

    def pass_time(self, provider, seconds):
        """Live through some time as the thread does."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + max(provider.tick(), 0.01))


class CountedLock:
    """A lock that knows how many came to it."""

    def __init__(self):
        self.count = 0
        self._lock, self._counting = threading.Lock(), threading.Lock()

    def __enter__(self):
        with self._counting:
            self.count += 1
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()

    def acquire(self, *, blocking):
        return self._lock.acquire(blocking=blocking)

    def release(self):
        self._lock.release()


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize(("life", "window"), [(12 * HOUR, 900), (HOUR, 900), (1800, 900), (900, 450)])
def test_refreshed_once_per_life_in_the_window(life, window):
    """New credentials are asked for once per life: 15 minutes, or half of a short life, before the old ones expire."""
    world = World(life)
    provider = world.provider()
    world.pass_time(provider, 3 * life)
    pauses = [later - sooner for sooner, later in zip(world.asked, world.asked[1:], strict=False)]
    assert pauses
    assert all(life - window <= pause <= life - window + LONGEST_SLEEP for pause in pauses)


def test_machines_that_started_together_are_spread():
    """Chance spreads the refreshes over the first tenth of the window."""
    dues = set()
    for chance in (0.0, 0.5, 1.0):
        world = World()
        provider = world.provider(chance)
        world.pass_time(provider, HOUR - 700)
        dues.add(round(world.asked[1] - world.asked[0]))
    assert max(dues) - min(dues) == pytest.approx(90, abs=2 * LONGEST_SLEEP)


def test_the_last_good_ones_live_until_they_expire(world):
    """While refreshes fail the last good credentials are handed out, to the second; then none, then fresh ones.

    Five hundred readers cause no CreateSession, and never see expired credentials.
    """
    provider = world.provider()
    provider.tick()
    first = provider.current()
    world.down = True
    expired_at = first.expiration.timestamp()
    while world.now < expired_at + 1800:
        before = len(world.asked)
        for _ in range(500):
            seen = provider.current()
            assert seen is None or (seen == first and world.now < expired_at)
            assert seen is not None or world.now >= expired_at
        assert len(world.asked) == before
        world.pass_time(provider, 20)
    assert isinstance(provider.failure(), TransportError)
    assert provider.metrics().failures == len(world.asked) - 1
    world.down = False
    world.pass_time(provider, 460)
    assert provider.current().access_key_id == f"ASIA{len(world.asked)}"
    assert provider.failure() is None


def test_failures_keep_a_distance(world):
    """Failed attempts are at least 5 seconds apart, and in the long run minutes; when time is short they are closer."""
    provider = world.provider()
    provider.tick()
    world.down = True
    world.pass_time(provider, HOUR - 1)
    in_the_window = world.asked[1:]
    pauses = [b - a for a, b in itertools.pairwise(in_the_window)]
    assert min(pauses) >= 5
    assert len([at for at in in_the_window if at > START + HOUR - 600]) >= 4
    world.pass_time(provider, 2 * HOUR)
    late = [at for at in world.asked if at > START + 2 * HOUR]
    assert 150 <= min(b - a for a, b in itertools.pairwise(late)) <= 310


def test_a_laptop_that_slept(world):
    """After hours of sleep expired credentials are not handed out, and the thread is woken to ask for new ones."""
    provider = world.provider()
    provider.tick()
    world.now += 5 * HOUR
    assert provider.current() is None
    assert provider._wake.is_set()
    provider.tick()
    assert provider.current().access_key_id == "ASIA2"


def test_a_clock_that_was_set_back(world):
    """A clock that was set back makes a refresh due; it does not put it off, nor does it repeat it without end."""
    provider = world.provider()
    provider.tick()
    world.now -= 2 * HOUR
    world.pass_time(provider, 60)
    assert len(world.asked) == 2
    world.down = True
    world.now -= 2 * HOUR
    world.pass_time(provider, 60)
    assert 3 <= len(world.asked) <= 7


def test_one_flight(world):
    """Threads that want new credentials at the same moment get those of one CreateSession, or its failure."""
    gate, entered = threading.Event(), threading.Event()

    def fetch():
        entered.set()
        assert gate.wait(60)
        return world.fetch()

    for down in (False, True):
        world.down = down
        gate.clear()
        entered.clear()
        before = len(world.asked)
        provider = Provider(fetch, clock=lambda: world.now)
        provider._flight = arrivals = CountedLock()
        results = []

        def ask(provider=provider, results=results):
            try:
                results.append(provider.refresh())
            except RolekeyError as error:
                results.append(error)

        threads = [threading.Thread(target=ask) for _ in range(32)]
        for thread in threads:
            thread.start()
        assert entered.wait(60)
        wait_until(lambda arrivals=arrivals: arrivals.count == 32)
        gate.set()
        for thread in threads:
            thread.join(60)
        assert len(results) == 32
        assert len(set(map(id, results))) == 1
        assert len(world.asked) - before == 1


def test_the_thread(world):
    """run() keeps them fresh until stop(), and a bug in a refresh does not end it; its text is shown to nobody."""
    fetched = threading.Event()
    outcomes = iter([ValueError("canary"), None])

    def fetch():
        error = next(outcomes, None)
        if error:
            raise error
        fetched.set()
        return world.fetch()

    provider = Provider(fetch, clock=lambda: world.now, chance=lambda: 0.0)
    thread = threading.Thread(target=provider.run)
    thread.start()
    wait_until(lambda: provider.metrics().failures)
    assert "canary" not in str(provider.failure())
    assert provider.current() is None
    world.now += 10
    provider.current()
    assert fetched.wait(60)
    provider.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert provider.current() is not None


def test_metrics(world):
    """The numbers are those of what happened."""
    provider = world.provider()
    provider.tick()
    world.down = True
    with pytest.raises(TransportError):
        provider.refresh()
    metrics = provider.metrics()
    assert (metrics.refreshes, metrics.failures) == (1, 1)
    assert metrics.expires == metrics.certificate_expires == pytest.approx(START + HOUR + 0.5)
    assert metrics.seconds == pytest.approx(0.5)
    assert metrics.last_success == pytest.approx(START + 0.5)


# --- without a thread that refreshes ---


@pytest.mark.parametrize(("life", "window"), [(12 * HOUR, 900), (HOUR, 900), (900, 450)])
def test_obtained_once_per_life_in_the_window(life, window):
    """Whoever asks for credentials every few seconds asks the service once per life, in the first window."""
    world = World(life, seconds=0)
    provider = world.provider()
    keys = set()
    while world.now < START + 3 * life:
        keys.add(provider.obtain().access_key_id)
        world.now += 10
    pauses = [later - sooner for sooner, later in zip(world.asked, world.asked[1:], strict=False)]
    assert pauses
    assert all(life - window <= pause <= life - window + 10 for pause in pauses)
    assert len(keys) == len(world.asked)


def test_a_failure_in_the_first_window(world, caplog):
    """It is said in the log, the credentials go on, and the next attempt waits: not every call asks again."""
    provider = world.provider()
    before = provider.obtain()
    world.now = START + HOUR - 890
    world.down = True
    for _ in range(100):
        assert provider.obtain() is before
        world.now += 0.1
    assert 2 <= len(world.asked) <= 4
    assert "no new credentials: down" in caplog.text
    world.down = False
    world.now += 60
    assert provider.obtain() is not before


def test_a_failure_in_the_second_window(world):
    """It is raised, although the credentials have not expired; who comes in the next seconds hears of it, too."""
    provider = world.provider()
    provider.obtain()
    world.now = START + HOUR - 590
    world.down = True
    for asked in (2, 2, 3):
        with pytest.raises(TransportError, match="down"):
            provider.obtain()
        assert len(world.asked) == asked
        world.now += 3
    world.down = False
    world.now += 3
    assert provider.obtain().access_key_id == "ASIA4"


def test_a_pause_does_not_reach_into_the_second_window(world):
    """However long the pause after failures in the first window, in the second one nothing goes on untried."""
    provider = world.provider()
    provider.obtain()
    world.down = True
    world.now = START + HOUR - 890
    while world.now < START + HOUR - 605:
        provider.obtain()
        world.now += 1
    world.now = START + HOUR - 590
    with pytest.raises(TransportError):
        provider.obtain()


def test_nothing_expired_is_obtained(world):
    """Expired credentials are handed out to nobody: not the old ones, and not new ones that came too late."""
    provider = world.provider()
    provider.obtain()
    world.now += 2 * HOUR
    world.down = True
    with pytest.raises(TransportError):
        provider.obtain()
    late = World(life=-1)
    with pytest.raises(MalformedResponseError, match="had expired"):
        late.provider().obtain()


def test_the_tracebacks_of_a_failure_do_not_pile_up(world):
    """A failure that is raised to many does not carry all their frames along."""
    provider = world.provider()
    world.down = True
    lengths = set()
    for _ in range(5):
        with pytest.raises(TransportError) as raised:
            provider.obtain()
        lengths.add(len(raised.traceback))
    assert len(lengths) == 1


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("left", [None, 100], ids=["first", "second window"])
def test_a_crowd_shares_one_attempt(down, left, world):
    """32 threads that need credentials at once make one CreateSession, whose outcome is everybody's."""
    gate, entered = threading.Event(), threading.Event()
    gate.set()

    def fetch():
        entered.set()
        assert gate.wait(20)
        return world.fetch()

    provider = Provider(fetch, clock=lambda: world.now)
    if left is not None:
        provider.obtain()
        world.now = START + HOUR - left
    before = len(world.asked)
    world.down = down
    gate.clear()
    entered.clear()
    provider._flight = arrivals = CountedLock()
    results = []

    def ask():
        try:
            results.append(provider.obtain())
        except RolekeyError as error:
            results.append(error)

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    assert entered.wait(20)
    while arrivals.count < 32:
        time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join(20)
    assert len(world.asked) == before + 1
    assert len(results) == 32
    assert len(set(map(id, results))) == 1
    assert isinstance(results[0], RolekeyError) is down


def test_nobody_waits_in_the_first_window(world):
    """While one asks in the first window, the others get what is there at once."""
    gate, entered = threading.Event(), threading.Event()
    gate.set()

    def fetch():
        entered.set()
        assert gate.wait(20)
        return world.fetch()

    provider = Provider(fetch, clock=lambda: world.now)
    before = provider.obtain()
    world.now = START + HOUR - 700
    gate.clear()
    entered.clear()
    thread = threading.Thread(target=provider.obtain)
    thread.start()
    assert entered.wait(20)
    assert provider.obtain() is before
    gate.set()
    thread.join(20)
    assert provider.obtain() is not before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle(world):
    """A process that is forked while a thread asks does not wait for a thread that it does not have."""
    gate, entered = threading.Event(), threading.Event()
    parent = os.getpid()

    def fetch():
        entered.set()
        assert os.getpid() != parent or gate.wait(20)
        return world.fetch()

    provider = Provider(fetch, clock=lambda: world.now)
    thread = threading.Thread(target=provider.obtain)
    thread.start()
    assert entered.wait(20)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if provider.obtain().access_key_id == "ASIA1" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.set()
    thread.join(20)
    assert provider.obtain().access_key_id == "ASIA1"
