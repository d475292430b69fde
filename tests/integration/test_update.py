"""`rolekey update` as a user runs it: a process of its own, against the emulator or a service that follows a script."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.session
import pytest

from rolekey.config import resolve_settings
from rolekey.emulator import Emulator, for_certificate_authority
from rolekey.emulator.configuration import DEFAULT_ROLE_ARN
from rolekey.emulator.session import TemporaryCredentials
from rolekey.fetcher import Fetcher
from rolekey.http_server import running
from rolekey.interaction import NoInteraction
from support.canaries import canary, found_in, traces_of_process
from support.emulator import LIMITS, RunningEmulator, running_emulator
from support.pki import Issued, make_root
from support.process import Outcome, rolekey
from support.service import RESET, ScriptedService, answer, session_answer
from support.update_cases import ALL, HELPER_CASES

SECRET_ACCESS_KEY = canary("secret-access-key")
SESSION_TOKEN = canary("session-token")
REFUSAL = answer(403, b'{"message": "Untrusted signing certificate"}', {"x-amzn-ErrorType": "AccessDeniedException"})


@pytest.fixture(scope="module")
def root() -> Issued:
    return make_root()


@pytest.fixture(scope="module")
def key_options(root: Issued, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A certificate and its key, in files."""
    certificate, key = root.issue(common_name="machine").write(tmp_path_factory.mktemp("key"), "leaf")
    return ["--certificate", str(certificate), "--private-key", str(key)]


@pytest.fixture(scope="module")
def emulator(root: Issued, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """A Roles Anywhere that hands out the credentials of the official helper's tests."""
    certificate, _ = root.write(tmp_path_factory.mktemp("ca"), "root")
    credentials = TemporaryCredentials("accessKeyId", "secretAccessKey", "sessionToken")
    app = Emulator(for_certificate_authority(certificate), mint=lambda _: credentials)
    with running(app, limits=LIMITS) as url:
        yield RunningEmulator(url)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with nothing in it."""
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    return directory


def credentials_in(directory: Path) -> str:
    return (directory / ".aws" / "credentials").read_text()


@contextmanager
def running_update(*words: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """`rolekey update`, until the end of the block at the latest."""
    with subprocess.Popen(
        [sys.executable, "-m", "rolekey", "update", *words],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# --- once ---


@pytest.mark.rig("emulator")
def test_once(home, emulator, key_options):
    """`update --once` makes the file that botocore then reads, says nothing, and ends with 0."""
    outcome = rolekey("update", "--once", *emulator.arguments, *key_options)
    assert outcome == Outcome(0, "", "")
    assert credentials_in(home) == f"[default]\n{ALL}\n"
    assert (home / ".aws" / "credentials").stat().st_mode & 0o777 == 0o600
    assert (home / ".aws").stat().st_mode & 0o777 == 0o700
    found = botocore.session.Session().get_credentials()
    assert (found.access_key, found.secret_key, found.token) == ("accessKeyId", "secretAccessKey", "sessionToken")
    assert found.method == "shared-credentials-file"


@pytest.mark.rig("emulator")
@pytest.mark.parametrize(
    ("aws_profile", "before", "after"), [pytest.param(*case, id=name) for name, *case in HELPER_CASES]
)
def test_cases_of_the_official_helper(aws_profile, before, after, tmp_path, emulator, key_options):
    """The six cases of the official helper's own test of `update` come out as they do there."""
    path = tmp_path / "credentials"
    path.write_text(before)
    outcome = rolekey(
        *("update", *emulator.arguments, *key_options, "--profile", aws_profile, "--once"),
        environment={"AWS_SHARED_CREDENTIALS_FILE": str(path)},
    )
    assert outcome == Outcome(0, "", "")
    assert path.read_bytes().decode() == after


@pytest.mark.rig("emulator")
def test_file_permissions_of_the_official_helper(tmp_path, emulator, key_options):
    """So does its case of a new file: its content and its mode."""
    path = tmp_path / "credentials"
    words = ("update", *emulator.arguments, *key_options, "--profile=test profile", "--once=true")
    assert rolekey(*words, environment={"AWS_SHARED_CREDENTIALS_FILE": str(path)}).code == 0
    assert path.read_text() == f"[test profile]\n{ALL}\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.rig("emulator")
@pytest.mark.parametrize("aws_profile", ["new", "old"])
def test_botocore_reads_the_profile(aws_profile, home, emulator, key_options):
    """The credentials of the profile are what botocore finds in the file that AWS_SHARED_CREDENTIALS_FILE names."""
    path = home / "elsewhere"
    path.write_text("[default]\naws_access_key_id = x\naws_secret_access_key = y\n[old]\naws_access_key_id = z\n")
    environment = {"AWS_SHARED_CREDENTIALS_FILE": "~/elsewhere"}
    words = ("update", *emulator.arguments, *key_options, "--profile", aws_profile, "--once")
    assert rolekey(*words, environment=environment).code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "~/elsewhere")
        ours = botocore.session.Session(profile=aws_profile).get_credentials()
        others = botocore.session.Session().get_credentials()
    assert (ours.access_key, ours.token) == ("accessKeyId", "sessionToken")
    assert (others.access_key, others.token) == ("x", None)
    assert not (home / ".aws").exists()


@pytest.mark.rig("emulator")
def test_key_in_a_token(home, provisioned_token):
    """A key in a token serves the command, and the loop, which opens the token anew each time."""
    words = (
        *("--private-key", provisioned_token.uri("p-256"), "--pkcs11-lib", str(provisioned_token.module)),
        *("--intermediates", str(provisioned_token.intermediate)),
    )
    with running_emulator(provisioned_token.root) as emulator:
        assert rolekey("update", "--once", *emulator.arguments, *words) == Outcome(0, "", "")
        options = emulator.options(
            private_key=provisioned_token.uri("p-256"),
            pkcs11_lib=str(provisioned_token.module),
            intermediates=str(provisioned_token.intermediate),
        )
        fetch = Fetcher(resolve_settings(options, {}), lambda _deadline: NoInteraction())
        issued = [fetch().credentials.access_key_id for _ in range(3)]
    assert re.search("^aws_access_key_id = ASIA", credentials_in(home), re.MULTILINE)
    assert len(set(issued)) == 3


@pytest.mark.rig("emulator")
@pytest.mark.parametrize("seed", range(3))
def test_updaters_at_once(seed, home, emulator, key_options):
    """Several that start at once, for several profiles, all succeed, and the file has all of them."""
    names = [f"p{number}" for number in range(4)]
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(f"# {seed}\n[mine]\nregion = x")
    words = [sys.executable, "-m", "rolekey", "update", "--once", *emulator.arguments, *key_options]
    processes = [subprocess.Popen([*words, "--profile", name]) for name in names]
    assert [process.wait(60) for process in processes] == [0] * len(names)
    text = credentials_in(home)
    assert text.startswith(f"# {seed}\n[mine]\nregion = x\n")
    assert sorted(re.findall(r"\[(p\d)\]\n" + re.escape(ALL), text)) == names


# --- what is refused before anybody is asked ---


def refused(words: list[str], environment: dict[str, str] | None = None) -> tuple[Outcome, int]:
    """What comes of a command line, and how often the service was asked."""
    with ScriptedService((session_answer(DEFAULT_ROLE_ARN),)) as service:
        emulator = RunningEmulator(service.url)
        outcome = rolekey("update", *emulator.arguments, *words, environment=environment)
        return outcome, len(service.requests)


@pytest.mark.parametrize("once", [["--once"], []], ids=["once", "loop"])
@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({"credentials": None}, 8, ("credentials is a directory", "AWS_SHARED_CREDENTIALS_FILE")),
        ({"credentials": b"[a]\nb = \xff\n"}, 8, ("credentials is not UTF-8 in line 2",)),
        ({"credentials": b"[default]\naws_session_token = a\n  b\n"}, 8, ("line 3 is indented",)),
        ({"credentials.rolekey-lock": None}, 8, ("cannot be locked: Is a directory",)),
        ({"credentials": b"[default]\ncredential_process = x\n"}, 2, ("credential_process", "/credentials")),
        ({"config": b"[default]\ncredential_process = x\n"}, 2, ("credential_process", "/config")),
    ],
    ids=["directory", "not UTF-8", "continued", "no lock", "credential_process", "credential_process in config"],
)
def test_bad_file(files, code, words, once, home, key_options):
    """What stands in the way of writing is found before the key is used and the service asked; it stays as it was."""
    (home / ".aws").mkdir()
    for name, content in files.items():
        path = home / ".aws" / name
        path.mkdir() if content is None else path.write_bytes(content)
    outcome, asked = refused([*key_options, *once])
    outcome.failed(code, *words)
    assert asked == 0
    for name, content in files.items():
        path = home / ".aws" / name
        assert path.is_dir() if content is None else path.read_bytes() == content


@pytest.mark.parametrize("source", ["env:PIN", "fd:0"])
def test_source_that_can_be_read_once(source):
    """The loop does not begin with a password that it cannot have again: it would end at the first refresh."""
    words = ["--certificate", "a.pem", "--private-key", "handle:0x81010001", "--tpm-parent-password-source", source]
    outcome, asked = refused(words, {"PIN": "1234"})
    outcome.failed(2, "can be read once", "--once")
    assert asked == 0


@pytest.mark.parametrize("words", [["--profile", "DEFAULT"], ["--profile="], ["--profile", "a]"], ["extra"]])
def test_bad_command_line(words, home, key_options):
    """A profile that cannot be one, and a word too many, are refused."""
    outcome, asked = refused([*key_options, "--once", *words])
    outcome.failed(2)
    assert asked == 0
    assert not (home / ".aws").exists()


# --- the loop ---


def short_lived(access_key_id: str) -> bytes:
    """An answer whose credentials are refreshed as soon as the loop may."""
    expiration = f"{datetime.now(UTC) + timedelta(seconds=11):%Y-%m-%dT%H:%M:%SZ}"
    return session_answer(DEFAULT_ROLE_ARN, accessKeyId=access_key_id, expiration=expiration)


def test_loop(home, key_options):
    """The loop writes, and says when it will refresh; while the service is away the file stays; then it goes on."""
    with (
        ScriptedService((short_lived("ASIAFIRST"),)) as service,
        running_update(*RunningEmulator(service.url).arguments, *key_options, "--timeout=1") as process,
    ):
        assert process.stderr is not None
        assert "will be refreshed at" in process.stderr.readline()
        assert "= ASIAFIRST\n" in credentials_in(home)
        service.follow(RESET)
        said = process.stderr.readline()
        assert re.match("rolekey: warning: .*; what was written (is good|has expired) .*; next attempt at ", said)
        assert process.stderr.readline().startswith("rolekey: hint: ")
        assert "= ASIAFIRST\n" in credentials_in(home)
        service.follow(short_lived("ASIASECOND"))
        while "will be refreshed at" not in said:
            said = process.stderr.readline()
            assert said, process.wait(60)
        assert "= ASIASECOND\n" in credentials_in(home)


def test_a_pin_that_can_be_read_once(home, provisioned_token):
    """A PIN from a variable, which can be read once, serves for every refresh."""
    words = [
        *("--private-key", provisioned_token.uri("p-256", with_pin=False), "--pin-source=env:THE_PIN"),
        *("--pkcs11-lib", str(provisioned_token.module), "--intermediates", str(provisioned_token.intermediate)),
    ]
    scripts = [(short_lived(f"ASIA{number}"),) for number in range(3)]
    with (
        ScriptedService(*scripts) as service,
        running_update(
            *RunningEmulator(service.url).arguments, *words, environment={"THE_PIN": provisioned_token.user_pin}
        ) as process,
    ):
        assert process.stderr is not None
        for number in range(2):
            assert "will be refreshed at" in process.stderr.readline()
            assert f"= ASIA{number}\n" in credentials_in(home)


def test_loop_ends_with_what_waiting_does_not_cure(home, key_options):
    """A refusal of the first question ends the loop with its cause: it would be refused for ever."""
    with ScriptedService((REFUSAL,)) as service:
        outcome = rolekey("update", *RunningEmulator(service.url).arguments, *key_options)
    outcome.failed(7, "Untrusted signing certificate")
    assert not (home / ".aws" / "credentials").exists()


def test_once_ends_with_any_failure(home, key_options):
    """`--once` tries once: cron tries again."""
    with ScriptedService((RESET,)) as service:
        words = ["update", *RunningEmulator(service.url).arguments, *key_options, "--once", "--timeout=1"]
        rolekey(*words).failed(6)
    assert not (home / ".aws" / "credentials").exists()


@pytest.mark.rig("emulator")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP), (signal.SIGINT, 130)]
)
def test_signals(number, code, home, emulator, key_options):
    """SIGTERM, SIGHUP and Ctrl-C end the loop at once, without a word, as they end any program."""
    with running_update(*emulator.arguments, *key_options) as process:
        assert process.stderr is not None
        assert "will be refreshed at" in process.stderr.readline()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr.strip()) == (code, "", "")
    assert credentials_in(home) == f"[default]\n{ALL}\n"


@pytest.mark.rig("emulator", "strace")
@pytest.mark.parametrize("call", ["openat", "fchmod", "rename"])
def test_signal_in_the_middle_of_a_write(call, home, emulator, key_options, tmp_path):
    """SIGTERM during a write comes after it: the file is the new one, and nothing is left beside it."""
    new = home / ".aws" / "credentials.rolekey-new"
    done = subprocess.run(
        [
            *("strace", "-f", "-o", str(tmp_path / "log"), "-P", str(new), "-e", f"inject={call}:signal=SIGTERM"),
            *(sys.executable, "-m", "rolekey", "update", "--once", *emulator.arguments, *key_options),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "SIGTERM" in (tmp_path / "log").read_text()
    assert done.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), done.stderr
    assert credentials_in(home) == f"[default]\n{ALL}\n"
    assert sorted(file.name for file in (home / ".aws").iterdir()) == ["credentials", "credentials.rolekey-lock"]


# --- secrets ---


@pytest.mark.rig("emulator")
@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["plain", "debug"])
@pytest.mark.parametrize("way", ["written", "replaced", "refused"])
def test_the_file_is_the_only_place(way, debug, root, key_options, tmp_path):
    """Credentials are in the file and nowhere else, also where it turns out that it cannot be written."""
    certificate, _ = root.write(tmp_path, "root")
    private = tmp_path / "private"
    private.mkdir()
    credentials = TemporaryCredentials("ASIAEXAMPLEEXAMPLE00", SECRET_ACCESS_KEY, SESSION_TOKEN)
    app = Emulator(for_certificate_authority(certificate), mint=lambda _: credentials)
    path = tmp_path / "credentials"
    if way == "replaced":
        path.write_text(f"[default]\naws_session_token = {canary('old')}\n")
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(path)}
    with ExitStack() as stack:
        url = stack.enter_context(running(app, limits=LIMITS))
        words = ["-m", "rolekey", "update", "--once", *RunningEmulator(url).arguments, *key_options, *debug]
        if way == "refused":
            # Becomes a directory while the service is asked.
            words = ["-c", _REPLACED_BY_A_DIRECTORY, str(path), *words[2:]]
        traces = traces_of_process(private, words, environment)
    assert traces.code == (8 if way == "refused" else 0), traces.stderr
    for place, contents in (("stdout", traces.stdout), *traces.places()):
        assert not found_in(contents), f"{place}: {contents!r}"
    assert traces.children == []
    if way != "refused":
        text = path.read_text()
        assert (text.count(SECRET_ACCESS_KEY), text.count(SESSION_TOKEN)) == (1, 1)
    for other in tmp_path.iterdir():
        if other.is_file() and other != path:
            assert not found_in(other.read_bytes()), other


_REPLACED_BY_A_DIRECTORY = """
import os, sys
from rolekey.cli import update
path, sys.argv = sys.argv[1], sys.argv[1:]
fetch = update.fetch_credentials
def then(*arguments):
    credentials = fetch(*arguments)
    os.mkdir(path)
    return credentials
update.fetch_credentials = then
from rolekey.__main__ import main
main()
"""
