"""The record of refused PIN sources: what counts as refused, and that a damaged or foreign record loses no try."""

import dataclasses
import errno
import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rolekey import pin_record
from rolekey.cli.main import run
from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, PinNotUsableError
from rolekey.pin_record import Entry, PinRecord, TokenName, all_entries, forget
from rolekey.pin_source import PinSource
from support.watching import open_files, wait_until

TOKEN = TokenName("a label", "1234", "a maker", "a model")
FILE = PinSource("file", "/etc/pin", (1, 2, 4, 1000, 2000))
VARIABLE = PinSource("env", "HSM_PIN")
NOON = 1_800_000_000.0


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "state" / "rolekey"


@pytest.fixture
def record(directory):
    return PinRecord(directory, TOKEN, lambda: NOON)


def note(record, source, state):
    with record.locked(Deadline(10)):
        record.write(source, state)


def found(record, source):
    with record.locked(Deadline(10)):
        return record.find(source)


def record_file(directory: Path) -> Path:
    (path,) = (directory / "pins").glob("*.json")
    return path


# --- what counts as the same source ---


@pytest.mark.parametrize("state", ["trying", "refused", "unclear"])
@pytest.mark.parametrize("source", [FILE, VARIABLE, PinSource("pin-value"), PinSource("fd", "3")], ids=str)
def test_noted(record, source, state):
    """What was noted of a source is found again, by another process too, with its time; nothing else is."""
    assert found(record, source) is None
    note(record, source, state)
    assert found(record, source) == Entry(TOKEN, source, state, "2027-01-15T08:00:00Z")
    assert found(record, PinSource("systemd", "HSM_PIN")) is None


@pytest.mark.parametrize(
    ("name", "version", "same"),
    [
        ("/etc/pin", (1, 2, 4, 1000, 2000), True),
        ("/etc/pin", (9, 9, 4, 1000, 2000), True),
        ("/etc/pin", (1, 2, 5, 1000, 2000), False),
        ("/etc/pin", (1, 2, 4, 1001, 2000), False),
        ("/etc/pin", (1, 2, 4, 1000, 2001), False),
        ("/etc/link", (1, 2, 4, 1000, 2000), True),
        ("/etc/other", (1, 3, 4, 1000, 2000), False),
    ],
)
def test_same_file(record, name, version, same):
    """A file has changed when size or times have; a link to it is no other file; a device's number may change."""
    note(record, FILE, "refused")
    assert (found(record, PinSource("file", name, version)) is not None) == same


def test_changed_file_replaces_its_entry(record, directory):
    """A path has one entry: what is noted of the file as it is now replaces what was noted before."""
    note(record, FILE, "refused")
    changed = dataclasses.replace(FILE, version=(1, 2, 6, 1, 1))
    note(record, changed, "trying")
    assert [entry.source for entry in all_entries(directory)[0]] == [changed]


def test_accepted(record, directory):
    """Nothing is kept of a source that was accepted, and no file where nothing is left to keep."""
    note(record, FILE, "trying")
    note(record, VARIABLE, "refused")
    note(record, FILE, None)
    assert found(record, FILE) is None
    assert found(record, VARIABLE) is not None
    note(record, VARIABLE, None)
    assert not list((directory / "pins").glob("*.json"))


def test_tokens_of_one_serial_number(directory):
    """A card that shows two tokens for its two PINs has one lock, and each PIN its own entries."""
    other = dataclasses.replace(TOKEN, label="signature PIN")
    note(PinRecord(directory, TOKEN), FILE, "refused")
    assert found(PinRecord(directory, other), FILE) is None
    with PinRecord(directory, TOKEN).locked(Deadline(10)):
        waiting = PinRecord(directory, other).locked(Deadline(0.1))
        with pytest.raises(DeadlineError), waiting:
            pytest.fail("the lock was free")


def test_tokens_without_serial_number():
    """Tokens that have none are told apart by the rest."""
    nameless = dataclasses.replace(TOKEN, serial="")
    assert nameless.file_name != dataclasses.replace(nameless, label="b").file_name
    assert TOKEN.file_name == dataclasses.replace(TOKEN, label="b").file_name


@pytest.mark.parametrize("serial", ["../../../etc/x", "a/b", "\0", "\x1b[31m", "\udcff", "x" * 5000, "1234"])
def test_file_names(serial, directory):
    """A serial number, whatever it is, makes a plain name below the directory, and does not stand in it."""
    token = dataclasses.replace(TOKEN, serial=serial)
    note(PinRecord(directory, token), FILE, "refused")
    assert len(record_file(directory).stem) == 32
    assert found(PinRecord(directory, token), FILE) is not None


def test_modes(record, directory):
    """Directories are made with 0700 and files with 0600, whatever the umask; wider directories are narrowed."""
    before = os.umask(0)
    try:
        note(record, FILE, "refused")
    finally:
        os.umask(before)
    for path in (directory.parent, directory, directory / "pins"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (directory / "pins").iterdir()} == {0o600}
    directory.chmod(0o755)
    assert found(record, FILE)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_nothing_secret_is_noted(record, directory):
    """A source has no PIN in it; it can be pickled, and its file has no more than what tells it from others."""
    note(record, FILE, "refused")
    assert pickle.loads(pickle.dumps(FILE)) == FILE
    document = json.loads(record_file(directory).read_text())
    assert document["entries"] == [
        {
            "token": {"label": "a label", "serial": "1234", "manufacturer": "a maker", "model": "a model"},
            "source": {"kind": "file", "name": "/etc/pin", "version": [1, 2, 4, 1000, 2000]},
            "state": "refused",
            "at": "2027-01-15T08:00:00Z",
        }
    ]


# --- records that are not as we left them ---

GOOD = {
    "version": 1,
    "entries": [
        {"token": dataclasses.asdict(TOKEN), "source": dataclasses.asdict(FILE), "state": "refused", "at": "x"}
    ],
}


def changed(**changes):
    return json.dumps({**GOOD, "entries": [{**GOOD["entries"][0], **changes}]}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\0" * 100,
        b"null",
        b"[]",
        b"{}",
        b'{"version": 1}',
        b'{"version": 2, "entries": []}',
        b'{"version": 1, "entries": {}',
        b'{"version": 1, "entries": [null]}',
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(GOOD).encode()[:-3],
        changed(state="accepted"),
        changed(state=None),
        changed(source={"kind": "keyring", "name": "", "version": []}),
        changed(source={"kind": "file", "name": 3, "version": []}),
        changed(source={"kind": "file", "name": "x", "version": ["1"]}),
        changed(source={"kind": "file", "name": "x", "version": [1, 2]}),
        changed(token={"label": "a"}),
        changed(at=5),
    ],
)
def test_garbled(content, record, directory):
    """A record that cannot be understood may be hiding a refused source: that is an error, with the way out."""
    note(record, FILE, "refused")
    record_file(directory).write_bytes(content)
    for use in (lambda: found(record, FILE), lambda: note(record, FILE, "trying")):
        with pytest.raises(PinNotUsableError) as caught:
            use()
        assert "no record of refused PINs can be kept" in caught.value.message
        assert "rolekey pin forget --all" in caught.value.hint
    assert forget(directory, lambda _: True, Deadline(10), damaged=True) == 1
    assert found(record, FILE) is None


def test_good_record_of_the_table(record, directory):
    """The record that the table above spoils is good as it is."""
    note(record, VARIABLE, "refused")
    record_file(directory).write_text(json.dumps(GOOD))
    assert found(record, FILE) is not None


@pytest.mark.parametrize("name", ["record", "lock", "pins", "rolekey"])
def test_symbolic_link(name, record, directory, tmp_path):
    """A symbolic link in the place of a file or directory of ours is not followed."""
    note(record, FILE, "refused")
    (lock,) = (directory / "pins").glob("*.lock")
    path = {"record": record_file(directory), "lock": lock, "pins": directory / "pins", "rolekey": directory}[name]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PinNotUsableError):
        found(record, FILE)


@pytest.mark.parametrize("name", ["record", "lock", "pins", "rolekey"])
@pytest.mark.parametrize("wrong", ["owner", "mode"])
def test_foreign(name, wrong, record, directory):
    """What belongs to another user, or can be written by others, says nothing that can be relied on."""
    if wrong == "owner" and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    note(record, FILE, "refused")
    (lock,) = (directory / "pins").glob("*.lock")
    path = {"record": record_file(directory), "lock": lock, "pins": directory / "pins", "rolekey": directory}[name]
    if wrong == "owner":
        os.chown(path, 1, 1)
    else:
        path.chmod(path.stat().st_mode | 0o020)
    with pytest.raises(PinNotUsableError, match="belongs to user 1" if wrong == "owner" else "written by others"):
        found(record, FILE)


def test_no_regular_file(record, directory):
    """A directory or a named pipe in the place of the record is an error, and does not hold anybody up."""
    note(record, FILE, "refused")
    path = record_file(directory)
    for make in (Path.mkdir, os.mkfifo):
        path.unlink()
        make(path)
        with pytest.raises(PinNotUsableError):
            found(record, FILE)
        if path.is_dir():
            path.rmdir()
            path.touch()


@pytest.mark.parametrize("place", [None, "a file", "/proc/rolekey", "/dev/null/x"])
def test_no_place(place, tmp_path):
    """Where no record can be kept, that is said at once."""
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / "rolekey" if place == "a file" else Path(place) if place else None
    with pytest.raises(PinNotUsableError, match="no record of refused PINs can be kept") as caught:
        found(PinRecord(directory, TOKEN), FILE)
    assert "XDG_STATE_HOME" in caught.value.hint


def test_left_over(record, directory):
    """What a killed writer left half written is no obstacle, even if it is a link."""
    note(record, FILE, "refused")
    new = record_file(directory).with_suffix(".new")
    new.symlink_to("/etc/passwd")
    note(record, VARIABLE, "refused")
    assert not new.exists()
    assert found(record, FILE)
    assert found(record, VARIABLE)


# --- a second place ---


@pytest.fixture
def runtime(tmp_path):
    """The directory of the cache, which is not there yet."""
    (tmp_path / "runtime").mkdir()
    return tmp_path / "runtime" / "rolekey"


def refusing(monkeypatch, directory, code, *calls):
    """A file system that is full or read-only: calls of private_files fail for files below a directory."""
    for call in calls:
        right = getattr(pin_record, call)

        def wrong(path, *arguments, right=right):
            if directory in path.parents:
                raise OSError(code, os.strerror(code))
            return right(path, *arguments)

        monkeypatch.setattr(pin_record, call, wrong)


NO_PLACES = {
    "none": lambda _: None,
    "a file": lambda tmp_path: tmp_path / "file" / "rolekey",
    "/proc": lambda _: Path("/proc/rolekey"),
    "/dev/null": lambda _: Path("/dev/null/rolekey"),
}


@pytest.mark.parametrize("state", NO_PLACES.values(), ids=NO_PLACES)
def test_second_place(state, runtime, tmp_path):
    """Where the state directory cannot be written, what is noted in the cache's directory is found again there."""
    (tmp_path / "file").touch()
    directories = (state(tmp_path), runtime)
    note(PinRecord(directories, TOKEN), FILE, "refused")
    assert found(PinRecord(directories, TOKEN), FILE) is not None
    assert [entry.source for entry in all_entries(directories)[0]] == [FILE]
    assert {path.stat().st_mode & 0o777 for path in (runtime, runtime / "pins")} == {0o700}
    assert forget(directories, lambda _: True, Deadline(10), damaged=False) == 1
    assert found(PinRecord(directories, TOKEN), FILE) is None


def test_first_place(directory, runtime):
    """Where it can be written, it is: what is noted outlives the other."""
    note(PinRecord((directory, runtime), TOKEN), FILE, "refused")
    assert record_file(directory)
    shutil.rmtree(runtime)
    assert found(PinRecord((directory, runtime), TOKEN), FILE) is not None


def test_full_disk(directory, runtime, monkeypatch):
    """What was noted in the second place, since the first was full, counts when there is room again."""
    places = (directory, runtime)
    note(PinRecord(places, TOKEN), VARIABLE, "refused")
    with monkeypatch.context() as full:
        refusing(full, directory, errno.ENOSPC, "replace_private_file")
        note(PinRecord(places, TOKEN), FILE, "trying")
        note(PinRecord(places, TOKEN), FILE, "refused")
    for source in (FILE, VARIABLE):
        assert found(PinRecord(places, TOKEN), source).state == "refused"
    note(PinRecord(places, TOKEN), FILE, None)
    assert found(PinRecord(places, TOKEN), FILE) is None
    assert [path.name for path in (runtime / "pins").glob("*.json")] == []
    assert found(PinRecord(places, TOKEN), VARIABLE) is not None


def test_read_only(directory, runtime, monkeypatch):
    """What was noted in the first place, before it could only be read, still counts, and cannot be forgotten."""
    places = (directory, runtime)
    note(PinRecord(places, TOKEN), FILE, "refused")
    refusing(monkeypatch, directory, errno.EROFS, "take_lock", "replace_private_file")
    assert found(PinRecord(places, TOKEN), FILE) is not None
    with pytest.raises(PinNotUsableError, match="cannot be written"):
        forget(places, lambda _: True, Deadline(10), damaged=False)
    note(PinRecord(places, TOKEN), VARIABLE, "refused")
    monkeypatch.undo()
    assert found(PinRecord(places, TOKEN), VARIABLE) is not None
    assert forget(places, lambda _: True, Deadline(10), damaged=False) == 2


@pytest.mark.parametrize("name", ["rolekey", "pins"])
@pytest.mark.parametrize("wrong", ["mode", "link"])
def test_unsafe_first_place(name, wrong, directory, runtime, tmp_path):
    """A state directory that others can write to, or that is a link, is an error, whatever other place there is."""
    note(PinRecord(directory, TOKEN), FILE, "refused")
    path = {"rolekey": directory, "pins": directory / "pins"}[name]
    if wrong == "mode":
        path.chmod(0o777)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PinNotUsableError):
        found(PinRecord((directory, runtime), TOKEN), FILE)
    assert not runtime.exists()


@pytest.mark.parametrize("wrong", ["mode", "link", "file", "no place", "none"])
def test_unsafe_second_place(wrong, directory, runtime, tmp_path):
    """A second place that is not ours alone is none: it is left as it is, not believed, and keeps nobody."""
    note(PinRecord((None, runtime), TOKEN), FILE, "refused")
    if wrong == "mode":
        runtime.chmod(0o755)
    else:
        runtime.rename(tmp_path / "elsewhere")
    if wrong == "link":
        runtime.symlink_to(tmp_path / "elsewhere")
    elif wrong == "file":
        runtime.touch(mode=0o700)
    elif wrong == "no place":
        runtime.parent.rmdir()
    second = None if wrong == "none" else runtime
    with pytest.raises(PinNotUsableError, match="neither XDG_STATE_HOME nor HOME"):
        found(PinRecord((None, second), TOKEN), FILE)
    assert all_entries((None, second)) == ([], [])
    assert found(PinRecord((directory, second), TOKEN), FILE) is None
    assert not runtime.parent.exists() or wrong != "no place"


@pytest.mark.rig("root")
def test_foreign_second_place(runtime):
    """Nor is somebody else's."""
    runtime.mkdir(mode=0o700)
    os.chown(runtime, 1, 1)
    with pytest.raises(PinNotUsableError):
        found(PinRecord((None, runtime), TOKEN), FILE)
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("others", [(0, 1), (0,), (None, 1)])
def test_locks_of_two_places(others, directory, runtime):
    """Who can use one of the places only, and who can use both, keep each other out."""
    both = (directory, runtime)
    some = tuple(None if number is None else both[number] for number in others)
    for holder, waiter in ((both, some), (some, both)):
        with PinRecord(holder, TOKEN).locked(Deadline(10)):
            waiting = PinRecord(waiter, TOKEN).locked(Deadline(0.1))
            with pytest.raises(DeadlineError), waiting:
                pytest.fail("the lock was free")
    assert found(PinRecord(both, TOKEN), FILE) is None


def test_garbled_second_place(directory, runtime):
    """A record of the second place that cannot be understood is an error, too, and is removed in the same way."""
    places = (directory, runtime)
    note(PinRecord((None, runtime), TOKEN), FILE, "refused")
    record_file(runtime).write_text("{")
    with pytest.raises(PinNotUsableError):
        found(PinRecord(places, TOKEN), FILE)
    assert forget(places, lambda _: True, Deadline(10), damaged=True) == 1
    assert found(PinRecord(places, TOKEN), FILE) is None


# --- the lock ---


def test_lock_is_waited_for_until_the_deadline(record, directory):
    """A lock that is not given back ends with DeadlineError."""
    with record.locked(Deadline(10)):
        other = PinRecord(directory, TOKEN)
        with pytest.raises(DeadlineError, match="another login with the same token"), other.locked(Deadline(0.2)):
            pytest.fail("the lock was free")


def test_lock_excludes_threads(directory):
    """One thread at a time holds the lock."""
    inside, most = [0], []

    def work():
        with PinRecord(directory, TOKEN).locked(Deadline(30)):
            inside[0] += 1
            most.append(inside[0])
            time.sleep(0.005)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


HOLDER = """
import os, sys
from pathlib import Path
from rolekey.deadline import Deadline
from rolekey.pin_record import PinRecord, TokenName
from rolekey.pin_source import PinSource
record = PinRecord(Path(sys.argv[1]), TokenName("a label", "1234", "a maker", "a model"))
with record.locked(Deadline(30)):
    record.write(PinSource("file", "/etc/pin", (1, 2, 4, 1000, 2000)), "trying")
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_holder_that_is_killed(record, directory):
    """A killed process gives its lock back, and leaves behind that it was trying: that try may have been counted."""
    command = [sys.executable, "-c", HOLDER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(DeadlineError), record.locked(Deadline(0.1)):
            pytest.fail("the lock was free")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    entry = found(record, FILE)
    assert entry is not None
    assert entry.state == "trying"


def test_lock_file_that_was_removed(record, directory):
    """A lock on a file that somebody removed keeps nobody out, and is not taken for one."""
    with record.locked(Deadline(10)):
        (lock,) = (directory / "pins").glob("*.lock")
        waiting = threading.Thread(target=lambda: note(PinRecord(directory, TOKEN), FILE, "refused"))
        waiting.start()
        wait_until(lambda: list(open_files(os.getpid())).count(str(lock)) == 2)
        lock.unlink()
    waiting.join()
    assert lock.exists()
    assert found(record, FILE)


# --- rolekey pin ---


@pytest.fixture
def recorded(state_home):
    """Two tokens with three refused sources, where `rolekey pin` looks."""
    directory = state_home / "rolekey"
    note(PinRecord(directory, TOKEN, lambda: NOON), FILE, "refused")
    note(PinRecord(directory, TOKEN, lambda: NOON), VARIABLE, "trying")
    note(PinRecord(directory, TokenName("b\x1b[1m", "99", "m", "n"), lambda: NOON), VARIABLE, "unclear")
    return directory


def test_list(recorded, capsys):
    """`rolekey pin list` shows token, source, state and time, and nothing that a terminal would obey."""
    assert run(["pin", "list"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "pkcs11:token=a%20label;serial=1234  the file /etc/pin  refused  2027-01-15T08:00:00Z",
        "pkcs11:token=a%20label;serial=1234  the variable HSM_PIN  trying  2027-01-15T08:00:00Z",
        "pkcs11:token=b%1B%5B1m;serial=99  the variable HSM_PIN  unclear  2027-01-15T08:00:00Z",
    ]
    (recorded / "pins" / "broken.json").write_text("{")
    assert run(["pin", "list"]) == 0
    assert "broken.json  cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "forgotten"),
    [
        (["pkcs11:serial=1234"], 2),
        (["pkcs11:token=a%20label"], 2),
        (["pkcs11:serial=99?pin-source=file:/x"], 1),
        (["pkcs11:"], 3),
        (["pkcs11:serial=1"], 0),
        (["pkcs11:serial=1234;unknown=1"], 0),
        (["--all"], 3),
    ],
)
def test_forget(words, forgotten, recorded, capsys):
    """`rolekey pin forget` forgets what is held against the token that a URI selects, or all."""
    assert run(["pin", "forget", *words]) == 0
    assert capsys.readouterr().out == f"forgotten: {forgotten}\n"
    assert len(all_entries(recorded)[0]) == 3 - forgotten


def test_forget_damaged(recorded, capsys):
    """--all removes what cannot be understood, too."""
    record_file_of_token = recorded / "pins" / f"{TOKEN.file_name}.json"
    record_file_of_token.write_text("{")
    assert run(["pin", "forget", "--all"]) == 0
    assert capsys.readouterr().out == "forgotten: 2\n"
    assert all_entries(recorded) == ([], [])


@pytest.mark.parametrize("words", [[], ["pkcs11:serial=1", "--all"], ["serial=1"], ["pkcs11:serial"], ["--no"]])
def test_bad_forget(words, recorded, capsys):
    """Without a token or --all, with both, and with what is no URI, nothing is forgotten."""
    assert run(["pin", "forget", *words]) == 2
    assert capsys.readouterr().err.startswith("rolekey: error: ")
    assert len(all_entries(recorded)[0]) == 3


def test_nothing_recorded(state_home, capsys):
    """Without a record the list is empty, and forgetting succeeds; neither makes a directory."""
    assert run(["pin", "list"]) == 0
    assert run(["pin", "forget", "--all"]) == 0
    assert capsys.readouterr().out == "forgotten: 0\n"
    assert list(state_home.iterdir()) == []
