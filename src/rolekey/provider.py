"""Credentials that stay fresh in a process that lives long.

New ones are asked for in good time, one request at a time: by a thread of its own (run(), current()), or by whoever
needs them (obtain()). Everybody else takes what is there, which is replaced whole. Nothing expired is handed out.

Time is the time of day: a laptop that slept for an hour finds its credentials an hour older. Nothing is asked of a
monotonic clock, and a clock that was set back makes a refresh due.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn

from rolekey.credentials import Credentials, Fetched
from rolekey.errors import MalformedResponseError, RolekeyError, ServiceError
from rolekey.forks import renew_after_fork
from rolekey.schedule import SHORTEST_PAUSE, mandatory_window, seconds_to_refresh, seconds_to_retry
from rolekey.value import Value

log = logging.getLogger(__name__)

# How long the thread sleeps at most before it looks at the clock: that long a laptop that woke up is served old ones.
LONGEST_SLEEP = 5.0


class ProviderMetrics(Value):
    """How a Provider has fared.

    Args:
        expires: when the credentials expire, in seconds since 1970; None where there are none.
        certificate_expires: when the certificate expires, as above.
        refreshes: CreateSessions that gave credentials.
        failures: those that did not.
        signatures: those CreateSessions that got as far as to the service.
        seconds: how long the last one took.
        last_success: when the last one that gave credentials ended, in seconds since 1970; None where none did.
    """

    expires: float | None
    certificate_expires: float | None
    refreshes: int
    failures: int
    signatures: int
    seconds: float
    last_success: float | None


class Provider:
    """Keeps one role's credentials fresh.

    Args:
        fetch: finds certificate and key anew, signs once, and asks for credentials once; raises RolekeyError.
        clock: the time of day, in seconds.
        chance: a number from 0 to 1, anew at each call.
    """

    def __init__(
        self,
        fetch: Callable[[], Fetched],
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._chance = chance
        self._flight = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        # Replaced whole, so that a reader needs no lock.
        self._fetched: Fetched | None = None
        self._obtained = 0.0
        self._due = 0.0
        self._failure: RolekeyError | None = None
        self._failed_at = 0.0
        self._failures_in_a_row = 0
        self._metrics = ProviderMetrics(None, None, 0, 0, 0, 0.0, None)
        renew_after_fork(self)

    def renew(self) -> None:
        """Go on with what is there, and with locks of its own, as Renewable.renew() says."""
        self._flight = threading.Lock()
        self._wake = threading.Event()

    def __getstate__(self) -> NoReturn:
        raise TypeError("credentials that refresh are neither pickled nor copied: pass on the Options")

    def fresh(self) -> Credentials | None:
        """The credentials, if there is no need to ask for new ones; never waits."""
        return None if self._is_due() or self._must_ask() else self._valid()

    def obtain(self) -> Credentials:
        """The credentials, for a process that has no thread to keep them fresh: new ones where it is time.

        In the first window one caller asks and the others go on with what is there, as everybody does if that fails; it
        is tried again after a while. In the second window, and where there is nothing, everybody waits for one answer,
        and its failure is everybody's: also theirs who come in the next seconds.

        Raises:
            RolekeyError: as fetch() does.
        """
        seen = self._metrics
        if credentials := self.fresh():
            return credentials
        if not self._must_ask():
            self._ask_if_due(wait=False)
            if not self._must_ask() and (credentials := self._valid()):
                return credentials
        with self._flight:
            if credentials := self.fresh():
                return credentials
            # What was asked while we waited is the answer to us, too.
            if self._metrics is seen and not self._has_just_failed():
                self._ask()
            if self._failure is not None:
                # Without the frames of those who were told before.
                raise self._failure.with_traceback(None)
            if credentials := self._valid():
                return credentials
        raise MalformedResponseError(
            "the credentials had expired when they came", hint="set the clock of this machine, which is probably ahead"
        )

    def expires(self) -> datetime | None:
        """When the credentials that are there expire, aware."""
        return self._fetched.credentials.expiration if self._fetched else None

    def current(self) -> Credentials | None:
        """The credentials, if they have not expired; never waits, and wakes the thread where there is need."""
        credentials = self._valid()
        if credentials is None and self._is_due():
            self._wake.set()
        return credentials

    def failure(self) -> RolekeyError | None:
        """Why the last CreateSession gave nothing; None after one that did."""
        return self._failure

    def metrics(self) -> ProviderMetrics:
        """How it has fared so far."""
        return self._metrics

    def refresh(self) -> Credentials:
        """Ask for new credentials now; while somebody else is asking, wait for what they get.

        Raises:
            RolekeyError: as fetch() does. What was there stays.
        """
        seen = self._metrics
        with self._flight:
            if self._metrics is seen:
                self._ask()
            if self._failure is not None:
                raise self._failure
            assert self._fetched is not None  # noqa: S101 - no failure
            return self._fetched.credentials

    def tick(self) -> float:
        """Ask for new credentials if that is due.

        Returns:
            Seconds after which it is to be called again at the latest.
        """
        self._ask_if_due(wait=True)
        return min(max(0.0, self._due - self._clock()), LONGEST_SLEEP)

    def run(self) -> None:
        """Keep them fresh until stop(); for a thread of its own."""
        while not self._stopped:
            self._wake.wait(self.tick())
            self._wake.clear()

    def stop(self) -> None:
        """Make run() return; what is under way there is not waited for."""
        self._stopped = True
        self._wake.set()

    def _ask_if_due(self, *, wait: bool) -> None:
        """Where wait is False and somebody else is asking, that is enough."""
        if not self._is_due() or not self._flight.acquire(blocking=wait):
            return
        try:
            if self._is_due():
                self._ask()
                if self._failure is not None:
                    # Nobody else hears of it; refresh() raises it.
                    log.warning("no new credentials: %s", self._failure.message)
        finally:
            self._flight.release()

    def _valid(self) -> Credentials | None:
        fetched = self._fetched
        if fetched is None or fetched.credentials.expiration.timestamp() <= self._clock():
            return None
        return fetched.credentials

    def _must_ask(self) -> bool:
        """There is nothing, or what is there is in its second window."""
        fetched = self._fetched
        if fetched is None:
            return True
        expires = fetched.credentials.expiration.timestamp()
        return expires - self._clock() <= mandatory_window(expires - self._obtained)

    def _has_just_failed(self) -> bool:
        return self._failure is not None and 0 <= self._clock() - self._failed_at < SHORTEST_PAUSE

    def _is_due(self) -> bool:
        now = self._clock()
        return now >= self._due or now < self._obtained

    def _ask(self) -> None:
        """One CreateSession, and when the next one is due; the flight's lock is held."""
        began = self._clock()
        try:
            fetched = self._fetch()
        except RolekeyError as error:
            self._note_failure(error, began)
            return
        except Exception as error:  # noqa: BLE001 - a refresher lives on; the text is left out, it may hold anything
            bug = RolekeyError(f"internal error: {type(error).__name__}", hint="this is a bug in rolekey: report it")
            self._note_failure(bug, began)
            return
        now = self._clock()
        life = fetched.credentials.expiration.timestamp() - now
        before = self._metrics
        until = fetched.certificate_expires
        # Before the credentials: whoever has these finds when they were obtained.
        self._metrics = ProviderMetrics(
            expires=fetched.credentials.expiration.timestamp(),
            certificate_expires=until.timestamp() if until else None,
            refreshes=before.refreshes + 1,
            failures=before.failures,
            signatures=before.signatures + 1,
            seconds=max(0.0, now - began),
            last_success=now,
        )
        self._fetched, self._obtained = fetched, now
        self._due = now + seconds_to_refresh(life, self._chance())
        self._failure, self._failures_in_a_row = None, 0

    def _note_failure(self, error: RolekeyError, began: float) -> None:
        now = self._clock()
        self._failure, self._failed_at = error, now
        self._failures_in_a_row += 1
        self._obtained = min(self._obtained, now)
        self._due = now + self._pause(now)
        before = self._metrics
        self._metrics = ProviderMetrics(
            before.expires,
            before.certificate_expires,
            before.refreshes,
            before.failures + 1,
            before.signatures + isinstance(error, ServiceError),
            max(0.0, now - began),
            before.last_success,
        )

    def _pause(self, now: float) -> float:
        pause = seconds_to_retry(self._failures_in_a_row, self._chance())
        if self._fetched is None:
            return pause
        expires = self._fetched.credentials.expiration.timestamp()
        left = expires - now
        if 0 < left <= mandatory_window(expires - self._obtained):
            # Time is short: at least some attempts must still fit.
            return max(SHORTEST_PAUSE, min(pause, left / 4))
        return pause
