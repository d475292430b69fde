"""The cache as a user meets it: processes of their own, a key in a file, an emulator that counts what it is asked."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rolekey.cached_answer import pack, unpack
from support.emulator import running_emulator
from support.namespaces import as_user, words_for
from support.pki import make_root
from support.process import finish, rolekey, start
from support.service import HANG, ScriptedService, session_answer
from support.watching import has_open, wait_until

pytestmark = pytest.mark.rig("emulator")


@pytest.fixture
def cache(runtime_directory):
    """Where the cache is."""
    return runtime_directory / "rolekey"


class Command:
    """A credential-process with a certificate and a key in files."""

    def __init__(self, emulator, root, directory) -> None:
        self._emulator, self._root, self._directory = emulator, root, directory
        self.leaf = root.issue()
        self.certificate, self.key = self.leaf.write(directory, "leaf")

    @property
    def words(self) -> tuple[str, ...]:
        """The command line."""
        pair = ("--certificate", str(self.certificate), "--private-key", str(self.key))
        return ("credential-process", *self._emulator.arguments, *pair, "--timeout", "50")

    def __call__(self, *more: str, **options) -> str:
        """Run it and give stdout, which holds credentials that the emulator gave out."""
        outcome = rolekey(*self.words, *more, **options)
        assert outcome.credentials["AccessKeyId"] in self._emulator.granted
        return outcome.stdout

    def renew(self, *, key: bool) -> None:
        """Put another certificate in place of the old one, for another key or for the same."""
        leaf = self._root.issue() if key else self._root.issue(self.leaf.key)
        leaf.write(self._directory, "leaf")


@pytest.fixture
def command(emulator, root, tmp_path):
    """A command line that succeeds."""
    return Command(emulator, root, tmp_path)


def files(cache, suffix: str) -> list[Path]:
    """Files of the cache."""
    return sorted(cache.glob(f"*{suffix}"))


# --- hits ---


def test_twice(command, emulator, cache):
    """The second call prints the very bytes of the first; the service is asked once, and is not needed any more."""
    first = command()
    assert [command(), command()] == [first, first]
    assert len(emulator.requests) == 1
    assert [path.suffix for path in sorted(cache.iterdir())] != []
    assert len(files(cache, ".entry")) == len(files(cache, ".alias")) == 1


# What a hit may have loaded that a bare interpreter has not. Each line costs time in every call.
ALLOWED = {"rolekey", "rolekey.__main__", "rolekey._version", "rolekey.cached_answer", "binascii", "time"}
REPORT = """
import os, sys
before, leave, out = set(sys.modules), os._exit, os.dup(2)
def report(code):
    os.write(out, " ".join(sorted(set(sys.modules) - before)).encode())
    leave(code)
os._exit = report
from rolekey.__main__ import main
main()
"""


def test_what_a_hit_loads(command):
    """A hit loads nothing but what is listed here: no click, no json, no pathlib, no re, no cryptography."""
    first = command()
    words = [sys.executable, "-c", REPORT, *command.words]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == first
    loaded = set(done.stderr.split())
    assert {"rolekey.__main__", "rolekey.cached_answer"} <= loaded
    assert loaded <= ALLOWED
    missed = subprocess.run([*words, "--no-cache"], capture_output=True, text=True, check=True, timeout=60)
    assert {"json", "cryptography"} < top_level(missed.stderr)


def top_level(names: str) -> set[str]:
    """The packages of some modules."""
    return {name.partition(".")[0] for name in names.split()}


def test_what_a_first_call_loads(command):
    """A plain command line is read without click, which is slow to load; another one by it, with the same result."""
    words = [sys.executable, "-c", REPORT, *command.words]
    plain, other = ("--no-cache", "--region", "us-east-1"), ("--no-cache", "--")
    loaded = [
        subprocess.run([*words, *more], capture_output=True, text=True, check=True, timeout=60).stderr
        for more in (plain, other)
    ]
    assert ["click" in top_level(names) for names in loaded] == [False, True]
    assert not {"asn1crypto", "requests", "textwrap"} & top_level(loaded[0])


@pytest.mark.parametrize("more", [(), ("--no-cache",), ("--no-cache", "--")], ids=["hit", "plain", "by click"])
def test_output_that_cannot_be_written(command, more):
    """Where nothing takes the credentials the exit code says so; stderr, which may end up anywhere, says nothing."""
    command()
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "rolekey", *command.words, *more], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (74, b"")


def test_what_the_settings_are_counts(command, emulator, tmp_path):
    """The same settings on another command line, from another directory: the same bytes, and no request."""
    first = command()
    assert command("--region", "us-east-1") == first
    assert command(directory=tmp_path) == first
    assert command(environment={"HOME": str(tmp_path), "SOFTHSM2_CONF": "/x"}) == first
    assert len(emulator.requests) == 1


@pytest.mark.parametrize(
    "more",
    [
        ("--session-duration", "900"),
        ("--role-session-name", "other"),
        ("--no-verify-ssl",),
    ],
)
def test_another_question(more, command, emulator):
    """Another duration, session name or trust in the server: other credentials, and both are known then."""
    first = command()
    other = command(*more)
    assert other != first
    assert [command(), command(*more)] == [first, other]
    assert len(emulator.requests) == 2


@pytest.mark.parametrize("key", [False, True], ids=["same key", "other key"])
def test_renewed_certificate(key, command, emulator):
    """A certificate that was renewed, for the same key or another one, gets credentials of its own at once."""
    first = command()
    command.renew(key=key)
    second = command()
    assert second != first
    assert command() == second
    assert len(emulator.requests) == 2


def test_touched_certificate(command, emulator, cache):
    """One that was only touched, or written again, does not; the way that needs no settings is found again."""
    first = command()
    os.utime(command.certificate, (1, 1))
    (alias,) = files(cache, ".alias")
    before = alias.stat().st_ino
    assert command() == first
    assert alias.stat().st_ino != before
    command.key.write_bytes(command.key.read_bytes())
    assert [command(), command()] == [first, first]
    assert len(emulator.requests) == 1


def test_certificate_that_is_gone(command):
    """Without the certificate there are no credentials, known or not."""
    command()
    command.certificate.unlink()
    rolekey(*command.words).failed(5, "leaf")


def test_working_directory(emulator, root, tmp_path):
    """The same relative paths in two directories are two questions; each directory has its own answer."""
    answers = []
    words = ("credential-process", *emulator.arguments, "--certificate", "leaf.pem", "--private-key", "leaf.key")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        certificate, key = root.issue().write(tmp_path / name, "leaf")
        certificate.rename(tmp_path / name / "leaf.pem")
        key.rename(tmp_path / name / "leaf.key")
    for name in ("a", "b", "a", "b"):
        outcome = rolekey(*words, "--timeout", "50", directory=tmp_path / name)
        assert outcome.credentials["AccessKeyId"] in emulator.granted
        answers.append(outcome.stdout)
    assert answers[:2] == answers[2:]
    assert answers[0] != answers[1]
    assert len(emulator.requests) == 2


def test_environment(command, emulator, tmp_path):
    """A variable that names other CAs makes another question; without it, the first answer is there again."""
    (tmp_path / "ca.pem").write_bytes(command.leaf.pem)
    other = {"AWS_CA_BUNDLE": str(tmp_path / "ca.pem")}
    first, second = command(), command(environment=other)
    assert first != second
    assert [command(), command(environment=other)] == [first, second]
    assert len(emulator.requests) == 2


# --- no hits ---


def test_no_cache(command, emulator, cache):
    """--no-cache asks each time, and reads and writes nothing."""
    assert command("--no-cache") != command("--no-cache")
    assert not cache.exists()
    first = command()
    assert command("--no-cache") != first
    assert command() == first
    assert len(emulator.requests) == 4


def test_no_cache_that_is_false(command, emulator):
    """--no-cache=false is no --no-cache."""
    assert command("--no-cache=false") == command() == command("--no-cache=false")
    assert len(emulator.requests) == 1


def test_debug(command, emulator):
    """--debug says what is done also where the answer is known, and prints the same."""
    first = command()
    outcome = rolekey(*command.words, "--debug")
    assert outcome.stdout == first
    assert "rolekey: debug:" in outcome.stderr
    assert "cache: " in outcome.stderr
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help(word, command):
    """--help is help, and no credentials."""
    command()
    outcome = rolekey(*command.words, word)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("Usage: rolekey credential-process")
    assert "SecretAccessKey" not in outcome.stdout


def test_key_from_a_pipe(command, emulator, cache):
    """What can be read only once is read by the command, and its answer is not kept."""
    for number in (1, 2):
        reader, writer = os.pipe()
        os.write(writer, command.key.read_bytes())
        os.close(writer)
        words = [*command.words, "--private-key", f"/dev/fd/{reader}"]
        done = subprocess.run(
            [sys.executable, "-m", "rolekey", *words], pass_fds=[reader], capture_output=True, check=True, timeout=60
        )
        os.close(reader)
        assert done.stdout.endswith(b"}\n")
        assert len(emulator.requests) == number
    assert files(cache, ".entry") == []


def test_failures_are_not_kept(emulator, root, tmp_path):
    """A failure is no answer: the next call tries."""
    strange = Command(emulator, make_root(), tmp_path)
    for _ in range(2):
        rolekey(*strange.words).failed(7, "Untrusted")
    assert len(emulator.requests) == 2
    Command(emulator, root, tmp_path)()


# --- bad entries ---

AGAIN = "asked again, and kept then"
EACH_TIME = "asked each time"


def replaced(change):
    """Changes a file's content."""

    def apply(path, _elsewhere):
        path.write_bytes(change(path.read_bytes()))

    return apply


def moved(make):
    """Puts something else in a file's place, and the file elsewhere."""

    def apply(path, elsewhere):
        path.rename(elsewhere)
        make(path)

    return apply


def linked(path, elsewhere):
    """Puts a link in a file's place that leads to it."""
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def from_the_future(content):
    """The same entry, obtained an hour from now; a copy of an alias."""
    fields = unpack(content, 4)
    if fields is None:
        return content[:-1]
    now = int(time.time())
    return pack(b"%d %d" % (now + 3600, now + 7200), *fields[1:])


BAD = {
    "empty": (replaced(lambda _: b""), AGAIN),
    "cut short": (replaced(lambda content: content[:-1]), AGAIN),
    "cut to its header": (replaced(lambda content: content[:30]), AGAIN),
    "longer": (replaced(lambda content: content + b"x"), AGAIN),
    "garbled": (replaced(lambda content: content.replace(b"e", b"f")), AGAIN),
    "zeros": (replaced(lambda content: bytes(len(content))), AGAIN),
    "random": (replaced(lambda content: os.urandom(len(content))), AGAIN),
    "huge": (replaced(lambda content: content + bytes(2 << 20)), AGAIN),
    "from the future": (replaced(from_the_future), AGAIN),
    "gone": (lambda path, _: path.unlink(), AGAIN),
    "a link to itself elsewhere": (linked, AGAIN),
    "a link to nowhere": (moved(lambda path: path.symlink_to("/nowhere")), AGAIN),
    "a FIFO": (moved(lambda path: os.mkfifo(path, 0o600)), AGAIN),
    "a directory": (moved(lambda path: path.mkdir()), EACH_TIME),
    "readable by others": (lambda path, _: path.chmod(0o644), AGAIN),
    "writable by others": (lambda path, _: path.chmod(0o622), AGAIN),
}


@pytest.mark.parametrize("which", [".entry", ".alias"])
@pytest.mark.parametrize(("spoil", "then"), BAD.values(), ids=BAD)
def test_bad_file(spoil, then, which, command, emulator, cache, tmp_path):
    """An entry that is not whole, ours and closed to others is never trusted or followed, and replaced if it can be.

    A bad alias costs the settings, and no request.
    """
    first = command()
    (path,) = files(cache, which)
    elsewhere = tmp_path / "elsewhere"
    spoil(path, elsewhere)
    before = elsewhere.read_bytes() if elsewhere.exists() else b""
    second, third = command(), command()
    if which == ".alias":
        assert (second, third, len(emulator.requests)) == (first, first, 1)
    else:
        assert second != first
        assert (third == second) is (then == AGAIN)
        assert len(emulator.requests) == (2 if then == AGAIN else 3)
    if elsewhere.exists():
        assert elsewhere.read_bytes() == before


@pytest.mark.rig("root")
@pytest.mark.parametrize("which", [".entry", ".alias", ".lock"])
def test_foreign_file(which, command, emulator, cache):
    """Somebody else's file is not trusted; in our own directory it is replaced, but for a lock."""
    first = command()
    (path,) = files(cache, which)
    os.chown(path, 1, 1)
    second = command()
    assert (second == first) is (which != ".entry")
    assert command() == second
    assert len(emulator.requests) == (2 if which == ".entry" else 1)
    if which == ".lock":
        files(cache, ".entry")[0].unlink()
        assert command() != command()


# --- bad directories ---


def asks_each_time(command, emulator, **options):
    """There are credentials, twice, and nothing of them is kept."""
    before = len(emulator.requests)
    assert command(**options) != command(**options)
    assert len(emulator.requests) == before + 2


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o701])
def test_open_directory(mode, command, emulator, cache):
    """A directory that others can look into is not used, and left as it is; the commands for it say why."""
    cache.mkdir()
    cache.chmod(mode)
    asks_each_time(command, emulator)
    assert list(cache.iterdir()) == []
    assert cache.stat().st_mode & 0o777 == mode
    for word in ("list", "clear"):
        rolekey("cache", word).failed(2, str(cache), "this user alone", "mode 0700")


def test_directory_that_was_opened(command, emulator, cache):
    """Nor is what lies in one that was opened later."""
    first = command()
    cache.chmod(0o755)
    asks_each_time(command, emulator)
    cache.chmod(0o700)
    assert command() == first


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "FIFO"])
def test_no_directory(kind, command, emulator, cache, tmp_path):
    """A link is not followed, and nothing is put in place of what is no directory."""
    target = tmp_path / "target"
    if kind == "FIFO":
        os.mkfifo(cache)
    elif kind == "file":
        cache.touch(mode=0o700)
    else:
        cache.symlink_to(target)
    if kind == "link":
        target.mkdir(mode=0o700)
    asks_each_time(command, emulator)
    assert not target.exists() or list(target.iterdir()) == []
    assert cache.is_symlink() or not cache.is_dir()


@pytest.mark.rig("root")
def test_foreign_directory(command, emulator, cache):
    """Somebody else's directory is not used."""
    cache.mkdir(mode=0o700)
    os.chown(cache, 1, 1)
    asks_each_time(command, emulator)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("place", ["relative", "/nowhere/at/all", "/dev/null", "."])
def test_runtime_directory_that_is_none(place, command, emulator, tmp_path):
    """Where XDG_RUNTIME_DIR names no directory there is no cache: none of another name, and none is made."""
    (tmp_path / "here").mkdir()
    asks_each_time(command, emulator, environment={"XDG_RUNTIME_DIR": place}, directory=tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []
    assert not Path("/nowhere").exists()
    outcome = rolekey("cache", "list", environment={"XDG_RUNTIME_DIR": place})
    assert (outcome.code, outcome.stdout) == (0, "")


# --- machines that lack something ---

TWICE = '"$@" && "$@"'


def twice(command, script: str, **options) -> list[str]:
    """Two runs in one mount namespace; what each printed, and what the script printed besides."""
    process = start(*command.words, before=words_for(script), **options)
    outcome = finish(process, 120)
    assert (outcome.code, outcome.stderr) == (0, "")
    return outcome.stdout.splitlines()


@pytest.mark.rig("namespace")
def test_no_runtime_directory(command, emulator):
    """Without XDG_RUNTIME_DIR the cache is a directory of the user's own on the tmpfs /dev/shm, closed to others."""
    script = f"mount -t tmpfs -o mode=1777 tmpfs /dev/shm; {TWICE}; id -u; stat -c '%n %a %F' /dev/shm/*"
    first, second, user, place = twice(command, script, without={"XDG_RUNTIME_DIR"})
    assert first == second
    assert place == f"/dev/shm/rolekey-{user} 700 directory"
    assert len(emulator.requests) == 1


@pytest.mark.rig("namespace")
@pytest.mark.parametrize("trap", ["ln -s /mnt $at", "mkdir -m 777 $at", "touch $at", "mkdir -m 700 $at; chown 7 $at"])
def test_name_that_is_taken(trap, command, emulator):
    """Where somebody was there first there is no cache, and no other name is tried."""
    if os.geteuid() != 0:
        trap = trap.replace("700 $at; chown 7 $at", "770 $at")
    script = f"mount -t tmpfs tmpfs /dev/shm; at=/dev/shm/rolekey-$(id -u); {trap}; {TWICE}; echo $at; find /dev/shm/*"
    first, second, place, *left = twice(command, script, without={"XDG_RUNTIME_DIR"})
    assert first != second
    assert left == [place]
    assert len(emulator.requests) == 2


@pytest.mark.rig("namespace")
@pytest.mark.parametrize("size", ["size=4k", "nr_inodes=2", "size=8k", "nr_inodes=4"])
def test_full_disk(size, command, emulator, runtime_directory):
    """On a full disk there are credentials; what has no place is not kept, and no half of it stays."""
    script = (
        f'mount -t tmpfs -o mode=700,{size} tmpfs "{runtime_directory}"; cd "{runtime_directory}"; '
        f"case {size} in size*) dd if=/dev/zero of=filler bs=1k 2>/dev/null || true;; *) touch filler;; esac; "
        f"{TWICE}; find . -mindepth 2 ! -name '*.lock' | wc -l"
    )
    first, second, kept = twice(command, script)
    assert first != second
    assert len(emulator.requests) == 2
    assert kept == "0"


@pytest.mark.rig("namespace")
def test_full_disk_with_old_credentials(command, emulator, runtime_directory):
    """Credentials that were kept before the disk was full are known still."""
    script = (
        f'mount -t tmpfs -o mode=700,size=64k tmpfs "{runtime_directory}"; "$@"; '
        f'dd if=/dev/zero of="{runtime_directory}/filler" bs=1k 2>/dev/null || true; "$@"; touch "{command.key}"; "$@"'
    )
    first, second, third = twice(command, script)
    assert first == second == third
    assert len(emulator.requests) == 1


def test_file_size_limit(command, emulator, cache):
    """So it is with a limit on the size of files."""
    words = [sys.executable, "-m", "rolekey", *command.words]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    for number in (1, 2):
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, preexec_fn=limit)
        assert done.stdout.endswith("}\n")
        assert len(emulator.requests) == number
    assert {path.suffix for path in cache.iterdir()} == {".lock"}


READ_ONLY = 'for at in / /tmp /dev/shm {}; do mount --bind "$at" "$at"; mount -o remount,bind,ro "$at"; done; '


@pytest.mark.rig("namespace")
def test_read_only_root(command, emulator, runtime_directory, tmp_path):
    """On a system that is read-only altogether there are credentials."""
    script = READ_ONLY.format(f'"{runtime_directory}" "{tmp_path}"')
    script += f'if touch "{runtime_directory}/x" "{tmp_path}/x" 2>/dev/null; then exit 9; fi; {TWICE}'
    first, second = twice(command, script)
    assert first != second
    assert len(emulator.requests) == 2


@pytest.mark.rig("namespace")
def test_read_only_root_with_a_runtime_directory(command, emulator, runtime_directory):
    """Where only the runtime directory can be written, as under systemd, they are kept there."""
    script = READ_ONLY.format("") + f'mount -t tmpfs -o mode=700 tmpfs "{runtime_directory}"; {TWICE}'
    first, second = twice(command, script)
    assert first == second
    assert len(emulator.requests) == 1


HOMELESS = {"HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME"}


@pytest.mark.rig("namespace")
def test_no_home(command, emulator):
    """Without HOME and every other directory of a user's there are credentials, kept on the tmpfs."""
    first, second = twice(command, f"mount -t tmpfs tmpfs /dev/shm; {TWICE}", without=HOMELESS)
    assert first == second
    assert len(emulator.requests) == 1


@pytest.mark.rig("namespace")
def test_unknown_user(command, emulator):
    """So they are for a user that no list of users has."""
    user = " ".join(as_user(54321))
    script = f"mount -t tmpfs -o mode=1777 tmpfs /dev/shm; exec {user} sh -e -c '{TWICE}; ls /dev/shm; id -u' sh \"$@\""
    first, second, *rest = twice(command, script, without=HOMELESS)
    assert first == second
    assert rest == ["rolekey-54321", "54321"]
    assert len(emulator.requests) == 1


# --- several at once, and ends in between ---


@pytest.fixture
def gate(root, tmp_path):
    """An emulator that answers when its gate is opened, and the gate."""
    opened = threading.Event()

    def clock():
        assert opened.wait(100)
        return datetime.now(UTC)

    certificate, _ = root.write(tmp_path, "root")
    with running_emulator(certificate, clock=clock) as emulator:
        try:
            yield emulator, opened
        finally:
            opened.set()


def start_waiting(command, number: int) -> list[subprocess.Popen[str]]:
    """Processes that have come as far as the lock."""
    processes = [start(*command.words) for _ in range(number)]
    for process in processes:
        wait_until(lambda process=process: has_open(process.pid, ".lock"))
    return processes


@pytest.mark.parametrize("trusted", [True, False], ids=["an answer", "a failure"])
def test_many_at_once(trusted, gate, root, tmp_path):
    """Processes that start at once on an empty cache: one asks, and all get its answer, or its failure."""
    emulator, opened = gate
    command = Command(emulator, root if trusted else make_root(), tmp_path)
    processes = start_waiting(command, 6)
    opened.set()
    outcomes = [finish(process) for process in processes]
    assert len(emulator.requests) == 1
    assert len({(outcome.code, outcome.stdout, outcome.stderr) for outcome in outcomes}) == 1
    if trusted:
        assert outcomes[0].credentials["AccessKeyId"] in emulator.granted
    else:
        outcomes[0].failed(7, "Untrusted signing certificate")


def test_clear_during_a_refresh(gate, root, tmp_path, cache):
    """`rolekey cache clear` while a process asks: it gets what it asked for, and nothing of it is kept."""
    emulator, opened = gate
    command = Command(emulator, root, tmp_path)
    (process,) = start_waiting(command, 1)
    assert rolekey("cache", "clear").stdout == "forgotten: 0\n"
    opened.set()
    first = finish(process)
    assert first.credentials["AccessKeyId"] in emulator.granted
    assert files(cache, ".entry") == files(cache, ".alias") == []
    assert command() != first.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_while_it_asks(number, root, tmp_path, emulator):
    """A process that is killed while it waits for the service blocks nobody: the one that waits for it asks itself."""
    answer = session_answer(emulator.role_arn, accessKeyId="ASIASECONDSECONDSECO")
    with ScriptedService((HANG,), (answer,)) as service:
        command = Command(emulator, root, tmp_path)
        words = (*command.words, "--endpoint", service.url)
        first = start(*words)
        wait_until(lambda: service.requests)
        second = start(*words)
        wait_until(lambda: has_open(second.pid, ".lock"))
        first.send_signal(number)
        assert finish(first).stdout == ""
        outcome = finish(second)
        assert outcome.credentials["AccessKeyId"] == "ASIASECONDSECONDSECO"
        assert rolekey(*words).stdout == outcome.stdout
        assert len(service.requests) == 2


CALLS = "openat,write,fsync,rename,unlink,flock,ftruncate,fstat,newfstatat,mkdir,close,lseek,ioctl"


def calls_of_a_refresh(command, cache, log) -> list[str]:
    """Each system call of the main thread with a file of the cache, as strace's `NAME:when=NUMBER`."""
    words = ["strace", "-y", "-o", str(log), "-e", f"trace={CALLS}"]
    finish(start(*command.words, before=words)).credentials  # noqa: B018 - checks it
    counts: dict[str, int] = {}
    points = []
    for line in log.read_text(errors="replace").splitlines():
        name = line.partition("(")[0]
        counts[name] = counts.get(name, 0) + 1
        if f"{cache}/" in line or (name == "mkdir" and str(cache) in line):
            points.append(f"{name}:when={counts[name]}")
    return points


@pytest.mark.rig("strace")
def test_killed_at_every_call(command, emulator, cache, tmp_path):
    """A process that is killed at any system call with a file of the cache prints all or nothing, and leaves no harm.

    The next call has credentials that were given out, and so has the one after it, without a request.
    """
    points = calls_of_a_refresh(command, cache, tmp_path / "log")
    names = {point.partition(":")[0] for point in points}
    assert {"mkdir", "openat", "flock", "write", "fsync", "rename"} <= names, points
    killed = 0
    for point in points:
        shutil.rmtree(cache)
        name, _, when = point.partition(":")
        words = ["strace", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:{when}"]
        outcome = finish(start(*command.words, before=words))
        killed += outcome.code == -signal.SIGKILL
        assert (outcome.stdout, outcome.stderr) == ("", "") or outcome.credentials
        before = len(emulator.requests)
        first = command()
        assert len(emulator.requests) <= before + 1
        assert command() == first
        assert len(emulator.requests) <= before + 1
    assert killed == len(points), points


# --- the commands ---


def test_list_and_clear(command, emulator, cache):
    """`rolekey cache list` shows whose credentials are kept and until when, no secret; after `clear` there are none."""
    assert rolekey("cache", "list").stdout == ""
    assert rolekey("cache", "clear").stdout == "forgotten: 0\n"
    assert not cache.exists()
    first = rolekey(*command.words).credentials
    listed = rolekey("cache", "list")
    assert (listed.code, listed.stderr) == (0, "")
    for word in (emulator.role_arn, emulator.profile_arn, emulator.trust_anchor_arn, emulator.url, first["Expiration"]):
        assert word in listed.stdout
    assert f"access_key_id: {first['AccessKeyId']}" in listed.stdout
    assert str(command.certificate) in listed.stdout
    for secret in (first["SecretAccessKey"], first["SessionToken"], command.leaf.key_pem.decode()):
        assert secret not in listed.stdout
    assert rolekey("cache", "clear").stdout == "forgotten: 1\n"
    assert list(cache.iterdir()) == []
    assert rolekey("cache", "list").stdout == ""
    assert rolekey(*command.words).credentials["AccessKeyId"] != first["AccessKeyId"]


@pytest.mark.parametrize("words", [("cache", "--help"), ("cache", "list", "-h"), ("cache", "clear", "-h")])
def test_help_of_the_commands(words):
    """The commands have help."""
    outcome = rolekey(*words)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("Usage: rolekey cache")


@pytest.mark.parametrize("words", [("cache",), ("pin",), ("cache", "lists"), ("cache", "list", "x")])
def test_no_command(words):
    """Without a command, or with one that does not exist, there is an error in two lines."""
    rolekey(*words).failed(2, f"`rolekey {words[0]}")


def test_clear_that_cannot(command, cache):
    """A cache that cannot be cleared is an error that says so."""
    command()
    (cache / "x.entry").mkdir()
    rolekey("cache", "clear").failed(2, "cannot be cleared", f"remove the files in {cache}")
