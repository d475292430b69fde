"""Writers of a credentials file that are killed, limited and many: every reader sees a whole file, old or new."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from botocore.configloader import raw_config_parse

from rolekey.vend.credentials_file import write_credentials
from support.credentials_writer import BEGIN, END, numbered, place_of
from support.mounts import on_tmpfs
from support.process import finish, start_program
from support.strace import Call, trace

OTHERS = "# kept by hand\n[first]\naws_access_key_id = AKIAFIRST\naws_secret_access_key = one\n\n"
AFTER = "\n[last]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n"
EXPECTED = {
    "first": {"aws_access_key_id": "AKIAFIRST", "aws_secret_access_key": "one"},
    "last": {"region": "eu-west-1", "s3": {"addressing_style": "path"}},
}
KILLS = 1000


def writer(mode: str, path: Path, aws_profile: str, number: int) -> list[str]:
    """The command of a writer."""
    return [sys.executable, "-m", "support.credentials_writer", mode, str(path), aws_profile, str(number)]


@pytest.fixture(autouse=True)
def _python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer finds the tests' support wherever it runs."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with profiles of others around ours."""
    path = tmp_path / "credentials"
    path.write_text(f"{OTHERS}[default]\nregion = us-east-1\n{AFTER}")
    path.chmod(0o600)
    write_credentials(place_of(path, "default"), numbered(0))
    return path


def number_in(path: Path) -> int:
    """The number of the credentials in the file, after checking that all of it is there and whole."""
    profiles = raw_config_parse(str(path))
    ours = profiles.pop("default")
    assert profiles == EXPECTED
    assert ours.pop("region") == "us-east-1"
    number = int(ours["aws_access_key_id"].removeprefix("ASIA"))
    credentials = numbered(number)
    assert ours == {
        "aws_access_key_id": credentials.access_key_id,
        "aws_secret_access_key": credentials.secret_access_key,
        "aws_session_token": credentials.session_token,
    }
    return number


class Reader(threading.Thread):
    """Reads a file all the time, as the AWS CLI and boto3 do.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(name="reader", daemon=True)
        self._path = path
        self._over = threading.Event()
        self.reads = 0
        self.numbers: set[int] = set()
        self.failures: list[BaseException] = []

    def run(self) -> None:
        """Read until it is over."""
        while not self._over.is_set():
            try:
                self.numbers.add(number_in(self._path))
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails
                self.failures.append(error)
            self.reads += 1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self.join()


def written_between(calls: list[Call]) -> list[Call]:
    """The system calls of the write itself."""
    names = [call.text for call in calls]
    begin = next(number for number, text in enumerate(names) if BEGIN in text)
    end = next((number for number, text in enumerate(names) if END in text), len(names))
    return calls[begin + 1 : end + 1]


def shape(calls: list[Call]) -> list[str]:
    """The names of calls."""
    return [call.name for call in calls]


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Show what a test saw."""
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


@pytest.mark.rig("strace")
def test_killed_before_and_after_every_system_call(path, tmp_path, capsys):
    """A writer that is killed before or after any system call of a write leaves the old file or the new one, whole.

    Before the rename it is the old one, after it the new one.
    """
    log = tmp_path / "strace.log"
    calls = written_between(trace(writer("wait", path, "default", 1), log, directory=tmp_path)[0])
    assert END in calls[-1].text
    assert {"flock", "fchmod", "write", "fsync"} <= set(shape(calls))
    rename = next(number for number, call in enumerate(calls) if call.name.startswith("rename"))
    left_behind = 0
    with Reader(path) as reader:
        for number, call in enumerate(calls):
            before = number_in(path)
            # The last one is not the write's: what it comes after is.
            made, _ = trace(writer("wait", path, "default", number + 2), log, directory=tmp_path, kill=call)
            assert shape(written_between(made)) == shape(calls[: number + 1])
            assert number_in(path) == (before if number <= rename else number + 2), call
            left_behind += path.with_name("credentials.rolekey-new").exists()
    assert reader.failures == []
    assert reader.reads > len(calls)
    assert 0 < left_behind < len(calls)
    say(capsys, f"{len(calls)} kills, {left_behind} between open and rename; {reader.reads} reads, all whole")


@pytest.mark.rig("strace")
def test_order_of_a_write(path, tmp_path):
    """The new file is closed to others, whole and on the disk before it is renamed, and the directory afterwards."""
    calls = trace(writer("wait", path, "default", 1), tmp_path / "strace.log", directory=tmp_path)[0]
    texts = [f"{call.name}({call.text}" for call in written_between(calls)]
    positions = [
        next(number for number, text in enumerate(texts) if all(word in text for word in words))
        for words in (
            ("flock(", "LOCK_EX"),
            ("open", "credentials.rolekey-new", "O_EXCL", "O_NOFOLLOW", "0600"),
            ("write(", "kept by hand"),
            ("fchmod(", "0600"),
            ("fsync(",),
            ("rename", "credentials.rolekey-new"),
        )
    ]
    assert positions == sorted(positions)
    assert "fsync(" in "".join(texts[positions[-1] :])


def test_killed_in_a_tight_loop(path, tmp_path, capsys):
    """A thousand writers are killed at some moment, while a reader reads: every read is whole.

    So is the file at the end, and the next write leaves nothing of theirs behind.
    """
    with Reader(path) as reader:
        done = subprocess.run(writer("kill", path, "default", KILLS), capture_output=True, text=True, check=True)
    outcome = json.loads(done.stdout)
    assert reader.failures == []
    assert len(reader.numbers) > KILLS / 10
    assert outcome["kills"] == KILLS
    assert outcome["between"] > KILLS / 100
    subprocess.run(writer("once", path, "default", 7), check=True, capture_output=True)
    assert number_in(path) == 7
    assert sorted(file.name for file in tmp_path.iterdir()) == ["credentials", "credentials.rolekey-lock"]
    say(
        capsys,
        f"{KILLS} kills, {outcome['between']} between open and rename; {outcome['writes']} writes; "
        f"{reader.reads} reads, all whole, of {len(reader.numbers)} different files",
    )


def test_many_writers(path):
    """Writers of several profiles, and of one, wait for each other: what one has written, no other undoes."""
    profiles = ["default", "default", "a", "b", "c", "d"]
    commands = [writer("loop", path, aws_profile, 40) for aws_profile in profiles]
    outcomes = [finish(process) for process in [start_program(*command) for command in commands]]
    assert [outcome.code for outcome in outcomes] == [0] * len(profiles), outcomes
    found = raw_config_parse(str(path))
    assert {found[aws_profile]["aws_access_key_id"] for aws_profile in profiles} == {numbered(39).access_key_id}
    assert {name: found[name] for name in EXPECTED} == EXPECTED


@pytest.fixture
def outcome_on(path: Path) -> Callable[[str], tuple[dict[str, str], str]]:
    """What a write on a file system comes to, and afterwards the file and the names in its directory."""

    def run(options: str) -> tuple[dict[str, str], str]:
        script = f'"{sys.executable}" -m support.credentials_writer once "$0" default 1; cat "$0"; ls "${{0%/*}}"'
        command = on_tmpfs(path.parent, options, ["sh", "-c", script, str(path)])
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        document, _, rest = done.stdout.partition("}")
        return json.loads(document + "}"), rest

    return run


@pytest.mark.rig("tmpfs")
@pytest.mark.parametrize("options", ["16k", "1m,nr_inodes=3"])
def test_full_disk(path, outcome_on, options):
    """On a disk without space, or without inodes, the file stays as it was, alone, and the error says so."""
    path.write_text(path.read_text() + f"# {'x' * 8000}\n")
    failure, rest = outcome_on(options)
    assert failure["class"] == "CredentialsFileError"
    assert failure["message"] == f"{path} cannot be replaced: No space left on device"
    assert "make room" in failure["hint"]
    assert rest == f"{path.read_text()}credentials\ncredentials.rolekey-lock\n"


@pytest.mark.rig("tmpfs")
def test_read_only_file_system(path, outcome_on):
    """On a file system that is read-only the error says so, to root as well."""
    path.with_name("credentials.rolekey-lock").unlink()
    failure, _ = outcome_on("1m,ro")
    assert "Read-only file system" in failure["message"]
    assert "AWS_SHARED_CREDENTIALS_FILE" in failure["hint"]
