"""The loop of `rolekey update`: when it asks again, what it survives, and what ends it."""

import os
import signal
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rolekey import errors
from rolekey.cli import update
from rolekey.cli.terminal import signals_held
from rolekey.cli.update import keep_fresh, may_pass, place_of
from rolekey.credentials import Credentials
from rolekey.errors import ConfigurationError, RolekeyError
from rolekey.transport import PermanentTransportError

START = 1_800_000_000.0


class Over(Exception):  # noqa: N818 - the end of a test, not an error
    """The loop has gone on for long enough."""


class World:
    """Two clocks, a service and a file.

    Args:
        outcomes: what comes of each attempt: how long the credentials live, or an error; the last is repeated.
        seconds: how long the world lasts by the clock that nobody sets.
    """

    def __init__(self, *outcomes: float | RolekeyError, seconds: float = 86400.0) -> None:
        self._outcomes = list(outcomes)
        self._seconds = seconds
        self.now = START
        self.monotonic = 0.0
        self.sleeps: list[float] = []
        self.attempts: list[float] = []
        self.written: list[Credentials] = []
        #: Called at each sleep with its number, for what happens to a clock meanwhile.
        self.meanwhile = lambda _number: None
        self.write_error: RolekeyError | None = None

    def fetch(self) -> Credentials:
        self.attempts.append(self.monotonic)
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if isinstance(outcome, RolekeyError):
            raise outcome
        return Credentials("ASIA", "secret", "token", datetime.fromtimestamp(self.now + outcome, UTC))

    def write(self, credentials: Credentials) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.written.append(credentials)

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 10
        self.sleeps.append(seconds)
        self.now += seconds
        self.monotonic += seconds
        self.meanwhile(len(self.sleeps))
        if self.monotonic >= self._seconds:
            raise Over

    def run(self, chance: float = 0.0) -> None:
        """Run the loop until the world ends, or the loop does."""
        keep_fresh(
            self.fetch,
            self.write,
            clock=lambda: self.now,
            monotonic=lambda: self.monotonic,
            sleep=self.sleep,
            chance=lambda: chance,
        )


def error(kind: type[RolekeyError], **more: object) -> RolekeyError:
    return kind("what went wrong", hint="what to do", **more)


DOWN = error(errors.TransportError)
REFUSED = error(errors.CreateSessionError, code="AccessDeniedException", status=403, request_id=None)
BUSY = error(errors.CreateSessionError, code="ThrottlingException", status=429, request_id=None)


# --- when ---


@pytest.mark.parametrize(("life", "interval"), [(3600, 2700), (43200, 42300), (900, 450)])
def test_refresh_in_time(life, interval, capsys):
    """New credentials are written a quarter of an hour before the old ones expire, of a short life after half of it."""
    world = World(life, seconds=interval * 3 + 10)
    with pytest.raises(Over):
        world.run()
    assert world.attempts == pytest.approx([0, interval, interval * 2, interval * 3])
    assert len(world.written) == 4
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    when = datetime.fromtimestamp(START + interval, UTC)
    assert lines[0] == f"rolekey: credentials will be refreshed at {when:%Y-%m-%dT%H:%M:%SZ}"


def test_sleeping_laptop():
    """A laptop that slept past the refresh, while one clock stood still, refreshes as soon as it is awake."""
    world = World(3600, seconds=2000)

    def suspend(number: int) -> None:
        world.now += 8 * 3600 if number == 20 else 0

    world.meanwhile = suspend
    with pytest.raises(Over):
        world.run()
    assert world.attempts == [0, 200]


@pytest.mark.parametrize("change", [-86400, -3600, -1])
def test_clock_that_is_set_back(change):
    """A clock that is set back delays no refresh."""
    world = World(3600, seconds=3000)

    def adjust(number: int) -> None:
        world.now += change if number == 5 else 0

    world.meanwhile = adjust
    with pytest.raises(Over):
        world.run()
    assert world.attempts == [0, 2700]


def test_no_hot_loop():
    """Credentials that are about to expire when they come are no reason to ask without a pause."""
    world = World(0.5, seconds=60)
    with pytest.raises(Over):
        world.run()
    assert world.attempts == pytest.approx([5.0 * number for number in range(12)])


# --- what it survives ---


def test_network_that_is_down(capsys):
    """While the network is down, it is tried again after growing pauses, from the start on, and each time said."""
    world = World(*[DOWN] * 9, 3600, seconds=2000)
    with pytest.raises(Over):
        world.run()
    pauses = [after - before for before, after in zip(world.attempts, world.attempts[1:], strict=False)]
    assert pauses == pytest.approx([5, 10, 20, 40, 80, 160, 200, 200, 200])
    assert len(world.written) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("rolekey: warning: what went wrong; nothing has been written yet; next attempt at 20")
    assert lines[1] == "rolekey: hint: what to do"
    assert len(lines) == 2 * 9 + 1


def test_pauses_start_anew_after_a_success():
    """A success makes up for the failures before it."""
    world = World(DOWN, DOWN, 900, DOWN, 900, seconds=500)
    with pytest.raises(Over):
        world.run()
    assert world.attempts == pytest.approx([0, 5, 15, 465, 470])


def test_what_is_there_stays(capsys):
    """A refresh that fails writes nothing, and says until when what was written is good, or that it is over."""
    world = World(3600, DOWN, seconds=4000)
    with pytest.raises(Over):
        world.run()
    assert len(world.written) == 1
    text = capsys.readouterr().err
    until = f"{world.written[0].expiration:%Y-%m-%dT%H:%M:%SZ}"
    assert f"what was written is good until {until}" in text
    assert f"what was written has expired at {until}" in text


def test_closed_terminal(monkeypatch):
    """A terminal that was closed does not end what runs in the background."""

    class Closed:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Closed())
    world = World(DOWN, 900, seconds=500)
    with pytest.raises(Over):
        world.run()
    assert len(world.written) == 2


def caused_by(failure: RolekeyError, cause: Exception) -> RolekeyError:
    failure.__cause__ = cause
    return failure


@pytest.mark.parametrize(
    ("failure", "at_first", "later"),
    [
        (DOWN, True, True),
        (error(errors.DeadlineError), True, True),
        (error(errors.MalformedResponseError), True, True),
        (BUSY, True, True),
        (REFUSED, False, True),
        (error(errors.TokenNotFoundError), False, True),
        (error(errors.TokenOperationError), False, True),
        (error(errors.CredentialsFileError), False, True),
        (caused_by(error(PermanentTransportError), ssl.SSLCertVerificationError()), False, True),
        (error(PermanentTransportError), False, False),
        (error(errors.ConfigurationError), False, False),
        (error(errors.MissingExtraError), False, False),
        (error(errors.CertificateError), False, False),
        (error(errors.PinIncorrectError), False, False),
        (error(errors.PinLockedError), False, False),
        (error(errors.PinRequiredError), False, False),
        (error(errors.PinNotUsableError), False, False),
        (error(errors.KeyNotFoundError), False, False),
        (error(errors.AmbiguousMatchError, candidates=()), False, False),
        (error(errors.ModuleError), False, False),
        (error(errors.TokenStateError), False, False),
        (error(errors.UnsupportedKeyError), False, False),
    ],
)
def test_what_may_pass(failure, at_first, later):
    """The network passes; what worked before may work again; a PIN, a key and the settings need somebody."""
    assert may_pass(failure, has_worked=False) is at_first
    assert may_pass(failure, has_worked=True) is later
    for outcomes, goes_on in (((failure,), at_first), ((900, failure), later)):
        world = World(*outcomes, seconds=1000)
        with pytest.raises(Over if goes_on else type(failure)):
            world.run()
        assert len(world.written) == len(outcomes) - 1


def test_file_that_cannot_be_written_for_a_while():
    """A disk that is full when a refresh is due is tried again; at the start it ends the command."""
    world = World(900, seconds=2000)
    full = error(errors.CredentialsFileError)

    def fill(number: int) -> None:
        world.write_error = full if number < 60 else None

    world.meanwhile = fill
    with pytest.raises(Over):
        world.run()
    assert len(world.written) > 2
    world = World(900)
    world.write_error = full
    with pytest.raises(errors.CredentialsFileError):
        world.run()


# --- where ---


@pytest.mark.parametrize(
    ("environment", "path", "config_path"),
    [
        ({}, "/home/me/.aws/credentials", "/home/me/.aws/config"),
        (
            {"AWS_SHARED_CREDENTIALS_FILE": "", "AWS_CONFIG_FILE": ""},
            "/home/me/.aws/credentials",
            "/home/me/.aws/config",
        ),
        ({"AWS_SHARED_CREDENTIALS_FILE": "/a/b", "AWS_CONFIG_FILE": "/c"}, "/a/b", "/c"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "~/x"}, "/home/me/x", "/home/me/.aws/config"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "$DIR/x"}, "/somewhere/x", "/home/me/.aws/config"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "x"}, "{cwd}/x", "/home/me/.aws/config"),
    ],
)
def test_place(environment, path, config_path, monkeypatch):
    """The files are those that botocore reads: its variables, its expansions, its defaults."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DIR", "/somewhere")
    place = place_of("a", environment)
    assert place == update.Place(Path(path.replace("{cwd}", str(Path.cwd()))), Path(config_path), "a")


def test_place_without_a_home(monkeypatch):
    """Without a home directory the paths must be given; no directory named ~ is made."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(ConfigurationError, match="home directory") as caught:
        place_of("a", {})
    assert "HOME" in caught.value.hint
    given = {"AWS_SHARED_CREDENTIALS_FILE": "/a", "AWS_CONFIG_FILE": "/b"}
    assert place_of("a", given).path == Path("/a")


# --- signals ---


def test_signals_are_held():
    """Ctrl-C and other ends come after a write, not in it; afterwards everything is as before."""
    steps = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def write() -> None:
        with signals_held():
            signal.raise_signal(signal.SIGINT)
            steps.append("after the signal")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert steps == ["after the signal"]
    assert {number: signal.getsignal(number) for number in before} == before


def test_ignored_signals_stay_ignored():
    """What nohup has ignored is ignored afterwards too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_held():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_while_signals_are_held():
    """A write that fails puts the handlers back too."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="failed"), signals_held():
        raise ValueError("failed")
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_in_another_thread():
    """A thread that is not the main one gets no signals, and need hold none."""
    done = []

    def work() -> None:
        with signals_held():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
