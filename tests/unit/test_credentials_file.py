"""The credentials file on disk: old or new, never between; closed to others; and a clear error where it cannot be."""

import fcntl  # noqa: F401 - imported late by what is tested, which then may have lost the right to
import os
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rolekey.cli.ending import exit_code
from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError, CredentialsFileError
from rolekey.private_files import take_lock
from rolekey.vend import text_file
from rolekey.vend.credentials_file import Place, check_place, write_credentials

CREDENTIALS = Credentials("ASIAEXAMPLE", "secret/+=", "token/+==", datetime(2126, 1, 1, tzinfo=UTC))
KEYS = "aws_access_key_id = ASIAEXAMPLE\naws_secret_access_key = secret/+=\naws_session_token = token/+==\n"
OLD = "# by hand\n[a]\nregion = x\n\n[default]\naws_access_key_id = old\n"
NEW = f"# by hand\n[a]\nregion = x\n\n[default]\n{KEYS}"
NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The default profile of a file that is there."""
    path = tmp_path / "aws" / "credentials"
    path.parent.mkdir(mode=0o700)
    path.write_text(OLD)
    path.chmod(0o600)
    return Place(path, tmp_path / "aws" / "config", "default")


def named(place: Place, aws_profile: str) -> Place:
    """Another profile of the same files."""
    return Place(place.path, place.config_path, aws_profile)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def assert_refused(place: Place, *words: str, kind: type = CredentialsFileError) -> None:
    """Checking and writing fail with one error, which says why and what to do, and leave everything as it was."""
    before = snapshot(place.path.parent)
    for attempt in (lambda: check_place(place), lambda: write_credentials(place, CREDENTIALS)):
        with pytest.raises(kind) as caught:
            attempt()
        text = f"{caught.value.message} | {caught.value.hint}"
        assert all(word in text for word in words), text
        assert "secret" not in text
        assert "old" not in text
        assert exit_code(caught.value) == (8 if kind is CredentialsFileError else 2)
    assert snapshot(place.path.parent) == before


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Name, inode, mode and content of what is there, but the lock."""
    found = {}
    for path in directory.iterdir() if directory.is_dir() else ():
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        if not path.name.endswith("-lock"):
            found[path.name] = (status.st_ino, status.st_mode, content)
    return found


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Be a user for whom modes count, with a directory of that user's own."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if os.geteuid() != 0:
            yield directory
            return
        os.chown(directory, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            yield directory
        finally:
            os.seteuid(0)
            os.setegid(0)


# --- what is written ---


def test_written(place):
    """Only the three keys change; nothing but a lock stays behind."""
    check_place(place)
    assert place.path.read_text() == OLD
    write_credentials(place, CREDENTIALS)
    assert place.path.read_text() == NEW
    assert files_in(place.path.parent) == ["credentials", "credentials.rolekey-lock"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_first_file(tmp_path, umask):
    """Where nothing is there, directories of mode 0700 and a file of mode 0600 are made, whatever the umask says."""
    place = Place(tmp_path / "home" / ".aws" / "credentials", tmp_path / "home" / ".aws" / "config", "default")
    before = os.umask(umask & 0o077)
    try:
        check_place(place)
        os.umask(umask)
        write_credentials(place, CREDENTIALS)
    finally:
        os.umask(before)
    assert place.path.read_text() == f"[default]\n{KEYS}\n"
    assert mode_of(place.path) == 0o600
    assert [mode_of(directory) for directory in (place.path.parent, place.path.parent.parent)] == [0o700, 0o700]


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o644, 0o600), (0o666, 0o600), (0o640, 0o600), (0o600, 0o600), (0o400, 0o400), (0o755, 0o600)],
)
def test_mode(place, before, after):
    """A file that others could read is closed to them; one that is closed more tightly stays so."""
    place.path.chmod(before)
    write_credentials(place, CREDENTIALS)
    assert mode_of(place.path) == after
    assert place.path.read_text() == NEW


def test_directory_that_is_there(place):
    """The mode of a directory that is there is its owner's business."""
    place.path.parent.chmod(0o755)
    write_credentials(place, CREDENTIALS)
    assert mode_of(place.path.parent) == 0o755


def test_new_file_is_never_open_to_others(place):
    """While it is written, the new file is closed to others already."""
    place.path.chmod(0o644)
    seen = []
    write = os.fsync

    def look(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        write(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", look)
        write_credentials(place, CREDENTIALS)
    assert seen[0] == 0o600
    assert len(seen) == 2, "the file and its directory"


@pytest.mark.rig("root")
def test_owner(place):
    """A file that root updates for somebody stays theirs."""
    os.chown(place.path, NOBODY, NOBODY)
    write_credentials(place, CREDENTIALS)
    status = place.path.stat()
    assert (status.st_uid, status.st_gid, place.path.read_text()) == (NOBODY, NOBODY, NEW)


@pytest.mark.parametrize("link", ["../elsewhere/real", "chain", "absolute"])
def test_symbolic_link(place, link):
    """A symbolic link stays one, and what it leads to is replaced, in its own directory."""
    elsewhere = place.path.parent.parent / "elsewhere"
    elsewhere.mkdir()
    real = place.path.rename(elsewhere / "real")
    if link == "chain":
        (elsewhere / "chain").symlink_to("real")
        link = "../elsewhere/chain"
    place.path.symlink_to(real if link == "absolute" else link)
    write_credentials(place, CREDENTIALS)
    assert place.path.is_symlink()
    assert real.read_text() == NEW
    assert "real.rolekey-lock" in files_in(elsewhere)
    assert files_in(place.path.parent) == ["credentials"]


def test_symbolic_link_to_nowhere(place):
    """A symbolic link to what is not there yet stays, and the file is made there."""
    place.path.unlink()
    place.path.symlink_to("../later/credentials")
    write_credentials(place, CREDENTIALS)
    assert place.path.is_symlink()
    assert (place.path.parent.parent / "later" / "credentials").read_text() == f"[default]\n{KEYS}\n"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_killed_writer_left(place, kind):
    """What a killed writer left behind is gone after the next write; it is not written through."""
    left, other = place.path.with_name("credentials.rolekey-new"), place.path.with_name("other")
    other.write_text("other")
    if kind == "file":
        left.write_text("half of it")
    else:
        left.symlink_to(other)
    write_credentials(place, CREDENTIALS)
    assert place.path.read_text() == NEW
    assert other.read_text() == "other"
    assert files_in(place.path.parent) == ["credentials", "credentials.rolekey-lock", "other"]


def test_config_file_that_is_none(place):
    """As for the SDKs, /dev/null is a config file with nothing in it."""
    write_credentials(Place(place.path, Path("/dev/null"), "default"), CREDENTIALS)
    assert place.path.read_text() == NEW


def test_long_line(place):
    """A line of 100 KB stays, and so does all that follows it."""
    rest = f"[b]\nlong = {'x' * 100_000}\n[c]\nregion = y\n"
    place.path.write_text(OLD + rest)
    write_credentials(place, CREDENTIALS)
    assert place.path.read_text() == NEW + rest


# --- others who write the same file ---


def test_change_meanwhile(place):
    """What another program writes while the new file is made is not lost: the file is read again."""
    changes = iter(["[b]\nregion = y\n", "[c]\nregion = z\n"])

    @contextmanager
    def meanwhile() -> Iterator[None]:
        if change := next(changes, None):
            place.path.write_text(place.path.read_text() + change)
        yield

    write_credentials(place, CREDENTIALS, uninterrupted=meanwhile)
    assert place.path.read_text() == f"{NEW}[b]\nregion = y\n[c]\nregion = z\n"
    assert files_in(place.path.parent) == ["credentials", "credentials.rolekey-lock"]


@pytest.mark.parametrize("change", ["made", "removed"])
def test_file_that_comes_or_goes_meanwhile(place, change):
    """A file that another program makes or removes meanwhile is not taken for the one that was read."""
    if change == "made":
        place.path.unlink()
    changes = iter([lambda: place.path.write_text("[b]\n") if change == "made" else place.path.unlink()])

    @contextmanager
    def meanwhile() -> Iterator[None]:
        next(changes, lambda: None)()
        yield

    write_credentials(place, CREDENTIALS, uninterrupted=meanwhile)
    start = "[b]\n" if change == "made" else ""
    assert place.path.read_text() == f"{start}[default]\n{KEYS}\n"


def test_change_without_end(place):
    """Where another program never stops writing, that is an error, and nothing of its is overwritten."""
    contents = []

    @contextmanager
    def meanwhile() -> Iterator[None]:
        contents.append(f"{OLD}# {len(contents)}\n")
        place.path.write_text(contents[-1])
        yield

    with pytest.raises(CredentialsFileError, match="changes all the time"):
        write_credentials(place, CREDENTIALS, uninterrupted=meanwhile)
    assert place.path.read_text() == contents[-1]
    assert files_in(place.path.parent) == ["credentials", "credentials.rolekey-lock"]


def test_lock(place, monkeypatch):
    """While another of us holds the lock, nothing is read or written; a lock that is held too long is named."""
    monkeypatch.setattr(text_file, "LOCK_SECONDS", 0.05)
    lock = take_lock(place.path.with_name("credentials.rolekey-lock"), Deadline(1), "nobody")
    assert_refused(place, "another process has held", "credentials.rolekey-lock")
    os.close(lock)
    write_credentials(place, CREDENTIALS)
    assert place.path.read_text() == NEW


# --- what is refused ---


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (OLD.encode() + b"[b]\n\xff\xfe = x\n", ("is not UTF-8 in line 8",)),
        (OLD.encode("utf-16"), ("is not UTF-8",)),
        (OLD.encode("utf-16-le"), ("NUL",)),
        (b"\xef\xbb\xbf" + OLD.encode(), ("byte order mark",)),
        (b"#" * ((1 << 24) + 1), ("larger than 16 MiB",)),
        (b"[default]\naws_access_key_id = x\n  region = y\n", ("line 3 is indented", "aws_access_key_id")),
    ],
    ids=["Latin-1", "UTF-16", "UTF-16 without mark", "UTF-8 with mark", "too large", "continued"],
)
def test_content_that_is_refused(place, content, words):
    """A file that cannot be understood is left as it is, and the error says where and why."""
    place.path.write_bytes(content)
    assert_refused(place, str(place.path), *words)


def test_directory_in_its_place(place):
    """A directory is no credentials file."""
    place.path.unlink()
    place.path.mkdir()
    assert_refused(place, f"{place.path} is a directory", "AWS_SHARED_CREDENTIALS_FILE")


def test_pipe_in_its_place(place):
    """A pipe is no credentials file, and is not waited for."""
    place.path.unlink()
    os.mkfifo(place.path)
    assert_refused(place, f"{place.path} is no regular file")


def test_file_as_directory(place):
    """A path that leads through a file is an error of the path."""
    through = place.path / "credentials"
    with pytest.raises(CredentialsFileError, match=r"Not a directory") as caught:
        write_credentials(Place(through, place.config_path, "default"), CREDENTIALS)
    assert "no directory" in caught.value.hint
    assert place.path.read_text() == OLD


def test_circle_of_links(place):
    """Symbolic links that lead to each other lead nowhere."""
    place.path.unlink()
    place.path.symlink_to("second")
    place.path.with_name("second").symlink_to("credentials")
    assert_refused(place, str(place.path), "circle")


def test_unreadable():
    """A file that this user may not read is left alone, and the remedy is named."""
    with unprivileged() as directory:
        place = Place(directory / "credentials", directory / "config", "default")
        place.path.write_text(OLD)
        place.path.chmod(0)
        for attempt in (lambda: check_place(place), lambda: write_credentials(place, CREDENTIALS)):
            with pytest.raises(CredentialsFileError, match=r"credentials cannot be read: Permission denied") as caught:
                attempt()
            assert "this user's" in caught.value.hint
        place.path.chmod(0o600)
        assert place.path.read_text() == OLD


def test_unreadable_config_file():
    """A config file that may hide a credential_process is no reason to assume that there is none."""
    with unprivileged() as directory:
        place = Place(directory / "credentials", directory / "config", "default")
        place.config_path.touch(mode=0)
        with pytest.raises(CredentialsFileError, match=r"config cannot be read: Permission denied"):
            write_credentials(place, CREDENTIALS)
        assert not place.path.exists()


def test_read_only_directory():
    """A directory in which nothing can be made is found before a PIN is asked for, and the remedy is named."""
    with unprivileged() as directory:
        place = Place(directory / "credentials", directory / "config", "default")
        place.path.write_text(OLD)
        directory.chmod(0o500)
        for attempt in (lambda: check_place(place), lambda: write_credentials(place, CREDENTIALS)):
            with pytest.raises(
                CredentialsFileError, match=r"rolekey-lock cannot be locked: Permission denied"
            ) as caught:
                attempt()
            assert "AWS_SHARED_CREDENTIALS_FILE" in caught.value.hint
        assert place.path.read_text() == OLD
        directory.chmod(0o700)


@pytest.mark.rig("root")
def test_somebody_elses_file():
    """Who could read the file before can read it afterwards: a file that would change hands is not replaced."""
    with unprivileged() as directory:
        place = Place(directory / "credentials", directory / "config", "default")
        os.seteuid(0)
        place.path.write_text(OLD)
        place.path.chmod(0o644)
        os.seteuid(NOBODY)
        with pytest.raises(CredentialsFileError, match=r"belongs to user 0, who could not read it any more"):
            write_credentials(place, CREDENTIALS)
        assert place.path.read_text() == OLD
        assert files_in(directory) == ["credentials", "credentials.rolekey-lock"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("path", "[default]\ncredential_process = x\n"),
        ("path", "[ default ]\ncredential_process = x\n"),
        ("path", "[DEFAULT]\ncredential_process = x\n"),
        ("config_path", "[default]\ncredential_process = x\n"),
        ("config_path", "[profile default]\nregion = y\nCREDENTIAL_PROCESS = x\n"),
        ("config_path", "[DEFAULT]\ncredential_process = x\n"),
    ],
)
def test_credential_process(place, file, text):
    """A profile that has a credential_process is refused: an SDK would use one of the two, and hide the other."""
    getattr(place, file).write_text(text)
    assert_refused(place, "credential_process", str(getattr(place, file)), "--profile", kind=ConfigurationError)


def test_credential_process_of_others(place):
    """The credential_process of another profile is none of ours."""
    place.config_path.write_text("[profile a]\ncredential_process = x\n[sso-session default]\ncredential_process = x\n")
    place.path.write_text(f"{OLD}[b]\ncredential_process = x\n")
    write_credentials(place, CREDENTIALS)
    assert place.path.read_text() == f"{NEW}[b]\ncredential_process = x\n"


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a]b", "a\nb", "a\x1bb", "a\u2028b", "a\udcffb", "DEFAULT"])
def test_names_that_are_refused(place, name):
    """A name that would make another section, or none, or all of them, is refused."""
    assert_refused(named(place, name), "--profile", kind=ConfigurationError)


@pytest.mark.parametrize("name", ["b c", "profile x", "b", "é", "user@example.com", "a[b", "a#b", "Default"])
def test_names_that_are_taken(place, name):
    """Every other name is taken as it is."""
    write_credentials(named(place, name), CREDENTIALS)
    assert f"[{name}]\n{KEYS}" in place.path.read_text()


@pytest.mark.parametrize("field", [0, 1, 2])
@pytest.mark.parametrize("value", ["", "a b", "x\n[other]", "x\r", "\u2028", "é", "\x00"])
def test_values_that_are_refused(place, field, value):
    """Credentials that would be something else in the file are not written, and not shown."""
    fields = ["ASIAEXAMPLE", "secret", "token"]
    fields[field] = value
    with pytest.raises(CredentialsFileError, match="character") as caught:
        write_credentials(place, Credentials(*fields, CREDENTIALS.expiration))
    assert not any(text in str(caught.value) for text in ("secret", "token/", "[other]"))
    assert place.path.read_text() == OLD


# --- a disk that is full ---


def test_file_size_limit(place):
    """Where not all of the new file can be written, nothing of it is left and the old one is as it was."""
    place.path.write_text(OLD + "# " + "x" * 5000 + "\n")
    before = snapshot(place.path.parent)
    words = [sys.executable, "-m", "support.credentials_writer", "once", str(place.path), "default", "1"]
    done = subprocess.run(
        words,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert '"class": "CredentialsFileError"' in done.stdout
    assert "File too large" in done.stdout
    assert "ulimit -f" in done.stdout
    assert snapshot(place.path.parent) == before
