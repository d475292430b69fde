"""The record of PIN sources that a token refused, and the lock around a login: no wrong PIN is sent twice.

One file and one lock for each token serial number, in ``$XDG_STATE_HOME/rolekey/pins``; where that cannot be written,
in the directory of the cache, which lasts until the machine or the user's session ends. While the lock is held, the
record is read, "trying" is written, the PIN is sent and the result is written. A process that ends in between leaves
"trying" behind: the token may have counted that try, so the source counts as refused until it changes.

What is kept is the *source* (a path with device, inode, size and times, or the name of a variable, credential or
descriptor), never the PIN and nothing from which it could be guessed: a PIN has so few digits that no salt and no slow
hash would hide it. A source without times can therefore not be seen to change: a refused variable, credential,
descriptor or pin-value stays refused until ``rolekey pin forget``, or until another source is named.

Where no record can be kept, PINs that nobody types are not sent at all: a wrong one would be sent by every run. Who
types a PIN is not held up by that.
"""

import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from rolekey.cached_answer import is_private_directory
from rolekey.deadline import Deadline
from rolekey.errors import PinNotUsableError
from rolekey.pin_source import Kind, PinSource
from rolekey.private_files import (
    make_directory,
    make_private_directory,
    read_private_file,
    replace_private_file,
    take_lock,
)
from rolekey.value import Value

log = logging.getLogger(__name__)

State = Literal["trying", "refused", "unclear"]
# The state directory, or that and others beside it.
Directories = Path | tuple[Path | None, ...] | None
_NO_PLACE = (errno.EACCES, errno.EDQUOT, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.EROFS)
_VERSION = 1
_MAX_SIZE = 1 << 20


class TokenName(Value):
    """What tells a token from others, as the token says it.

    Args:
        label, serial, manufacturer, model: the fields of CK_TOKEN_INFO without padding.
    """

    label: str
    serial: str
    manufacturer: str
    model: str

    @property
    def file_name(self) -> str:
        """The name of its files, without suffix: in hexadecimal, whatever the token calls itself."""
        # Cards with several PINs show one token for each, under one serial number; they share a file and a lock.
        words = [self.serial] if self.serial else ["", self.manufacturer, self.model, self.label]
        return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Entry(Value):
    """A source that is not to be sent to a token again.

    Args:
        token: the token.
        source: as it was when it was sent.
        state: refused; trying, by a process that ended before the token's answer was known; or unclear, after an answer
            that says nothing of the PIN.
        at: when, as ``YYYY-MM-DDTHH:MM:SSZ``.
    """

    token: TokenName
    source: PinSource
    state: State
    at: str


class PinRecord:
    """The record of one token's serial number. Everything but locked() and forget() wants the lock to be held.

    Args:
        directories: rolekey's state directory, and directories that serve where it cannot be written; None where there
            is none. What is noted in any of them counts.
        token: the token.
        clock: the time of day, in seconds.
    """

    def __init__(self, directories: Directories, token: TokenName, clock: Callable[[], float] = time.time) -> None:
        self._places = _places(directories)
        self._held: list[Path] = []
        self._token = token
        self._clock = clock

    @contextmanager
    def locked(self, deadline: Deadline) -> Iterator[None]:
        """Hold the lock of the token's serial number; it ends with the process at the latest.

        Args:
            deadline: how long others are waited for.

        Raises:
            PinNotUsableError: there is no place for the record, or it is not safe.
            DeadlineError: others held the lock all the time.
        """
        self._held = []
        failures: list[PinNotUsableError] = []
        with ExitStack() as stack:
            for place in self._places:
                try:
                    with _unusable_when_it_fails(place):
                        stack.callback(os.close, self._take_lock(place, deadline))
                except PinNotUsableError as error:
                    if place == self._places[0] and not _is_no_place(error.__cause__):
                        raise
                    log.debug("%s", error.message)
                    failures.append(error)
                else:
                    self._held += [place] if place else []
            if not self._held:
                raise failures[0]
            yield

    def find(self, source: PinSource) -> Entry | None:
        """What is held against a source, or None.

        Raises:
            PinNotUsableError: the record cannot be read or understood.
        """
        # The state directory may be one that can be read, and not written.
        places = dict.fromkeys((*self._held, *filter(None, self._places[:1])))
        entries = (entry for place in places for entry in self._entries(place))
        return next((e for e in entries if e.token == self._token and e.source.is_same(source)), None)

    def write(self, source: PinSource, state: State | None) -> None:
        """Note a source's state in place of what was noted of it, and of what it was before it changed.

        Args:
            source: as it was when its PIN was read.
            state: None where nothing is to be held against it.

        Raises:
            PinNotUsableError: it cannot be written.
        """
        failures: list[PinNotUsableError] = []
        for place in self._held:
            try:
                self._write(place, source, state)
            except PinNotUsableError as error:
                failures.append(error)
            else:
                if state is not None:
                    return
        if failures:
            raise failures[0]
        if state is None and self.find(source):
            raise _unusable(self._places[0], OSError(errno.EROFS, f"it holds {source}, and cannot be written"))

    def _write(self, place: Path, source: PinSource, state: State | None) -> None:
        before = self._entries(place)
        kept = [
            entry
            for entry in before
            if entry.token != self._token
            or not (
                entry.source.is_same(source) or (entry.source.kind, entry.source.name) == (source.kind, source.name)
            )
        ]
        if state is not None:
            at = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            kept.append(Entry(self._token, source, state, at))
        if kept != before:
            with _unusable_when_it_fails(place):
                _replace(self._path(place, ".json"), kept)

    def _entries(self, place: Path) -> list[Entry]:
        try:
            with _unusable_when_it_fails(place):
                return _read(self._path(place, ".json"))
        except PinNotUsableError as error:
            if place in self._held or not _is_no_place(error.__cause__):
                raise
            return []

    def _path(self, place: Path, suffix: str) -> Path:
        return place / (self._token.file_name + suffix)

    def _take_lock(self, place: Path | None, deadline: Deadline) -> int:
        if place is None:
            raise OSError(errno.ENOENT, "neither XDG_STATE_HOME nor HOME is set")
        if place == self._places[0]:
            make_directory(place.parent)
        else:
            make_private_directory(place.parent)
        make_directory(place)
        return take_lock(self._path(place, ".lock"), deadline, "another login with the same token")


def all_entries(directories: Directories) -> tuple[list[Entry], list[Path]]:
    """Everything that is recorded.

    Args:
        directories: as PinRecord has them.

    Returns:
        The entries, and the files that could not be understood.
    """
    entries: list[Entry] = []
    damaged: list[Path] = []
    first, *others = _places(directories)
    places = [first, *(place for place in others if place and is_private_directory(str(place.parent)))]
    for path in (path for place in places if place for path in sorted(place.glob("*.json"))):
        try:
            entries += _read(path)
        except OSError:
            damaged.append(path)
    return entries, damaged


def forget(directories: Directories, chosen: Callable[[Entry], bool], deadline: Deadline, *, damaged: bool) -> int:
    """Forget what is held against sources, so that they may be sent once more.

    Args:
        directories: as PinRecord has them.
        chosen: which entries.
        deadline: how long logins that are going on are waited for.
        damaged: whether files that cannot be understood are removed, too.

    Returns:
        How many entries and files were forgotten.

    Raises:
        PinNotUsableError: the record cannot be written.
    """
    entries, broken = all_entries(directories)
    doomed = [entry for entry in entries if chosen(entry)]
    for entry in doomed:
        record = PinRecord(directories, entry.token)
        with record.locked(deadline):
            record.write(entry.source, None)
    for path in broken if damaged else ():
        with _unusable_when_it_fails(path.parent):
            path.unlink()
    return len(doomed) + (len(broken) if damaged else 0)


@contextmanager
def _unusable_when_it_fails(directory: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unusable(directory, error) from error


def _unusable(directory: Path | None, error: OSError) -> PinNotUsableError:
    where = "" if directory is None else f" in {directory}"
    return PinNotUsableError(
        f"no record of refused PINs can be kept{where}: {error.strerror or error}",
        hint="give rolekey a directory of its own that lasts: set XDG_STATE_HOME, or repair that one; a damaged "
        "record is removed by `rolekey pin forget --all`",
    )


def _is_no_place(error: BaseException | None) -> bool:
    """Whether a place is not there or cannot be written; what is damaged, or open to others, is another matter."""
    return isinstance(error, OSError) and error.errno in _NO_PLACE


def _places(directories: Directories) -> list[Path | None]:
    listed = directories if isinstance(directories, tuple) else (directories,)
    return [None if directory is None else directory / "pins" for directory in listed]


def _read(path: Path) -> list[Entry]:
    data = read_private_file(path, _MAX_SIZE)
    if data is None:
        return []
    try:
        document = json.loads(data)
        if document["version"] != _VERSION:
            raise OSError(errno.EINVAL, f"{path} was written by another version of rolekey")
        return [_entry(item) for item in document["entries"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise OSError(errno.EINVAL, f"{path} is damaged") from error


def _entry(item: dict[str, Any]) -> Entry:
    token, source = TokenName(**item["token"]), item["source"]
    entry = Entry(token, PinSource(source["kind"], source["name"], tuple(source["version"])), item["state"], item["at"])
    texts = (*asdict(token).values(), entry.source.name, entry.at)
    if (
        entry.source.kind not in get_args(Kind)
        or entry.state not in get_args(State)
        or not all(isinstance(text, str) for text in texts)
        or not all(type(number) is int for number in entry.source.version)
        or len(entry.source.version) not in (0, 5)
    ):
        raise ValueError("a field of another kind")
    return entry


def _replace(path: Path, entries: list[Entry]) -> None:
    if not entries:
        path.unlink(missing_ok=True)
        return
    document = {"version": _VERSION, "entries": [asdict(entry) for entry in entries]}
    replace_private_file(path, json.dumps(document).encode())
