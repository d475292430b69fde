"""Answers that all processes of a user share, and one process at a time that asks for a new one.

The files and their format are described in cached_answer.py, which reads them in a process that needs nothing else. An
entry's lock is taken before any PIN or touch is asked for. Whoever waited for it takes what its holder left: the
answer, or the failure. It ends with the process that holds it, however that ends.

No trouble with the cache keeps credentials from whoever asks for them; it is left out, and --debug says so.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path

from rolekey.base.owner import create_private_directory
from rolekey.cache_question import Question, question_of
from rolekey.cached_answer import (
    ENTRY_FIELDS,
    alias_name,
    cache_directory,
    fresh_until,
    is_fresh,
    is_private_directory,
    pack,
    read_file,
    seconds_left,
    times,
    unpack,
)
from rolekey.config import Settings
from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, PinRequiredError, RolekeyError, error_from_document, error_to_document
from rolekey.private_files import HeldLock, is_still, mark_lock, replace_private_file, take_lock
from rolekey.value import Value

log = logging.getLogger(__name__)

# With less life than this, credentials are not handed out although a refresh failed.
LAST_SECONDS = 120
# After so many seconds nobody reads a file of such a name any more, or writes it.
_STALE_SECONDS = {".alias": 86400, ".failed": 86400, ".new": 60}
_SUFFIXES = (".entry", ".alias", ".failed", ".lock", ".new")


class Answer(Value):
    """What is printed, and for how long it holds.

    Args:
        output: the bytes of stdout; not in the repr, since they hold credentials.
        expires: seconds since 1970.
        note: what `rolekey cache list` shows of it beside the question; no secrets.
    """

    output: bytes = field(repr=False)
    expires: int
    note: str


class Listed(Value):
    """An entry without its secrets.

    Args:
        name: of its file, without suffix.
        description: what was asked.
        note: of the answer.
        obtained, expires: seconds since 1970.
    """

    name: str
    description: Mapping[str, str]
    note: str
    obtained: int
    expires: int


class Cache:
    """The answers in one directory.

    Args:
        directory: from cached_answer.cache_directory(); it is made if its parent is there.
        clock: the time of day, in seconds.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock

    def is_usable(self) -> bool:
        """Whether the directory is there, ours and closed to others; it is made where it is missing."""
        with suppress(OSError):
            create_private_directory(self._directory)
        return is_private_directory(str(self._directory))

    def answer(
        self, question: Question, fetch: Callable[[], Answer], deadline: Deadline, *, last_good: bool = True
    ) -> bytes:
        """The known answer, or a new one.

        Args:
            question: what is asked.
            fetch: asks for new credentials; called by at most one process at a time.
            deadline: how long another process's attempt is waited for.
            last_good: what is known and lives for two minutes more is the answer where fetch() fails.

        Returns:
            The bytes for stdout.

        Raises:
            RolekeyError: what fetch() raised, here or in the process that was waited for, and no last good answer
                takes its place; or DeadlineError.
        """
        if known := self._fresh(question):
            self._write_alias(question)
            return known
        failed_before = self._failure_stamp(question)
        try:
            with self._locked(question, deadline) as lock:
                if known := self._fresh(question):
                    self._write_alias(question)
                    return known
                if self._failure_stamp(question) != failed_before and (failure := self._shared(question, deadline)):
                    raise failure
                return self._new(question, fetch, deadline, lock)
        except RolekeyError as error:
            if last_good and (old := self._alive(question)):
                log.debug("cache: the refresh failed, what is known lives on: %s", error.message)
                return old
            raise

    def known_until(self, question: Question) -> int | None:
        """Until when answer() asks nobody, in seconds since 1970; None where it asks now."""
        entry = self._entry(question)
        return int(fresh_until(entry[0])) if entry and is_fresh(entry[0], self._clock()) else None

    def entries(self) -> list[Listed]:
        """Every entry that has not expired."""
        found = []
        for path in sorted(self._files(".entry")):
            fields = _fields_of(path)
            if fields is None or not seconds_left(fields[0], self._clock()):
                continue
            obtained, expires = times(fields[0]) or (0, 0)
            document = json.loads(fields[2])
            found.append(Listed(path.stem, document["description"], document["note"], obtained, expires))
        return found

    def clear(self) -> int:
        """Forget everything. A process that is asking for credentials meanwhile keeps nothing of them here.

        On Windows, where a file that is open stays, it keeps them.

        Returns:
            How many entries there were.

        Raises:
            OSError: a file cannot be removed.
        """
        count = len(list(self._files(".entry")))
        for suffix in (".lock", *_SUFFIXES):  # whoever held a lock that is gone writes nothing any more
            for path in self._files(suffix):
                _remove(path)
        return count

    def _path(self, question: Question, suffix: str) -> Path:
        return self._directory / (question.name + suffix)

    def _files(self, suffix: str) -> Iterator[Path]:
        return self._directory.glob(f"*{suffix}")

    def _entry(self, question: Question) -> list[bytes] | None:
        return _fields_of(self._path(question, ".entry"))

    def _fresh(self, question: Question) -> bytes | None:
        entry = self._entry(question)
        return entry[1] if entry and is_fresh(entry[0], self._clock()) else None

    def _alive(self, question: Question) -> bytes | None:
        entry = self._entry(question)
        return entry[1] if entry and seconds_left(entry[0], self._clock()) > LAST_SECONDS else None

    @contextmanager
    def _locked(self, question: Question, deadline: Deadline) -> Iterator[int | None]:
        path = self._path(question, ".lock")
        try:
            lock = take_lock(path, deadline, "another process that asks for the same credentials")
        except OSError as error:
            log.debug("cache: no lock: %s", error.strerror)
            yield None
            return
        held = HeldLock(lock)
        try:
            mark_lock(lock, person_expected=False)
            deadline.when_person_expected(lambda: mark_lock(lock, person_expected=True))
            yield lock
        finally:
            deadline.when_person_expected(lambda: None)  # the descriptor's number may soon be another file's
            held.release()

    def _new(self, question: Question, fetch: Callable[[], Answer], deadline: Deadline, lock: int | None) -> bytes:
        try:
            answer = fetch()
        except RolekeyError as error:
            failure = {"attended": deadline.attended, "seconds": deadline.seconds, "error": error_to_document(error)}
            self._keep(question, lock, ".failed", json.dumps(failure).encode())
            raise
        document = json.dumps({"description": dict(question.description), "note": answer.note}).encode()
        when = b"%d %d" % (self._clock(), answer.expires)
        if self._keep(question, lock, ".entry", pack(when, answer.output, document, question.name.encode())):
            self._write_alias(question)
            self._sweep()
        return answer.output

    def _keep(self, question: Question, lock: int | None, suffix: str, content: bytes) -> bool:
        path, held = self._path(question, suffix), self._path(question, ".lock")
        with _without_trouble():
            # Without its lock, the entry was cleared while we asked: what we got may be what was to be forgotten.
            if lock is not None and is_still(held, lock):
                replace_private_file(path, content)
                if is_still(held, lock):
                    return True
                path.unlink(missing_ok=True)
        return False

    def _write_alias(self, question: Question) -> None:
        if question.alias is None:
            return
        with _without_trouble():
            path = self._directory / alias_name(question.alias)
            # No lock is held where the answer was known.
            content = pack(question.name.encode(), question.alias, question.stamps)
            replace_private_file(path, content, f".{os.getpid()}.new")

    def _failure_stamp(self, question: Question) -> tuple[int, ...] | None:
        try:
            status = self._path(question, ".failed").lstat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _shared(self, question: Question, deadline: Deadline) -> RolekeyError | None:
        """What another process failed with; None where this one may fare better: it has more time, or can ask."""
        content = read_file(str(self._path(question, ".failed")))
        try:
            document = json.loads(content or b"")
            error = error_from_document(document["error"])
            can_ask = deadline.attended and not document["attended"]
            has_time = deadline.seconds > document["seconds"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        fares_better = (isinstance(error, PinRequiredError) and can_ask) or (
            isinstance(error, DeadlineError) and has_time
        )
        return None if fares_better else error

    def _sweep(self) -> None:
        """Remove what no process reads any more: nothing secret lies here for longer than it is good for."""
        now = self._clock()
        with _without_trouble():
            for path in self._files(".entry"):
                fields = _fields_of(path)
                if fields is None or not seconds_left(fields[0], now):
                    path.unlink(missing_ok=True)
            for suffix, seconds in _STALE_SECONDS.items():
                for path in self._files(suffix):
                    if now - path.lstat().st_mtime > seconds:
                        path.unlink(missing_ok=True)


def cached_question(
    settings: Settings, words: Sequence[str], environment: Mapping[str, str]
) -> tuple[Cache, Question] | None:
    """The user's cache, and what is asked of it; None where there is none, or none for this question.

    Args:
        settings: resolved.
        words: the command line without the program's name; none where a program asks.
        environment: the process's.
    """
    directory = cache_directory(environment)
    cache = Cache(Path(directory)) if directory else None
    if cache is None or not cache.is_usable():
        log.debug("cache: none: %s is not a directory of ours that is closed to others", directory)
        return None
    question = question_of(settings, words, environment)
    log.debug("cache: %s", f"{directory}/{question.name}.entry" if question else "none for what can be read only once")
    return (cache, question) if question else None


def _fields_of(path: Path) -> list[bytes] | None:
    """An entry's fields; None where it is not whole, or was written under another name."""
    fields = unpack(read_file(str(path)), ENTRY_FIELDS)
    return fields if fields and fields[3] == path.stem.encode() else None


@contextmanager
def _without_trouble() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.debug("cache: not written: %s", error.strerror)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        if sys.platform != "win32" or path.suffix != ".lock":
            raise
