"""`rolekey exec` and `rolekey login` as a user meets them: processes of their own, and an emulator that counts."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from rolekey import cached_answer
from support.process import finish, rolekey, start_program

pytestmark = pytest.mark.rig("emulator")
# Says in JSON what it is.
REPORT = """
import json, os, sys
fds = [int(name) for name in os.listdir("/dev/fd")]
print(json.dumps({
    "arguments": sys.argv[1:],
    "aws": {n: v for n, v in os.environ.items() if n.startswith("AWS_") and n not in ("AWS_CA_BUNDLE",)},
    "process": os.getpid(),
    "open": [fd for fd in fds if fd > 2 and os.path.exists(f"/dev/fd/{fd}")],
    "stdin": sys.stdin.read(),
}))
sys.stderr.write("on stderr")
sys.exit(7)
"""


@pytest.fixture
def options(emulator, root, tmp_path):
    """Options for a key in a file."""
    certificate, key = root.issue().write(tmp_path, "leaf")
    return (*emulator.arguments, "--certificate", str(certificate), "--private-key", str(key))


def reported(outcome):
    """What the command said of itself, after checking that nobody else said anything."""
    assert (outcome.code, outcome.stderr) == (7, "on stderr")
    return json.loads(outcome.stdout)


def test_a_command_with_credentials(options, emulator):
    """The command has the credentials, its own words, stdin, stdout, stderr and exit code, and no more than that."""
    words = ["--help", "--", "-x", "", "a b", "\n"]
    report = reported(rolekey("exec", *options, "--", sys.executable, "-Ec", REPORT, *words))
    assert report["arguments"] == words
    assert report["aws"].pop("AWS_ACCESS_KEY_ID") == emulator.granted[0]
    assert report["aws"].pop("AWS_SECRET_ACCESS_KEY")
    assert report["aws"].pop("AWS_SESSION_TOKEN")
    assert datetime.fromisoformat(report["aws"].pop("AWS_CREDENTIAL_EXPIRATION")) > datetime.now(UTC)
    assert report["aws"] == {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    assert report["stdin"] == ""
    assert report["open"] == []


def test_the_process_becomes_the_command(options):
    """It is no child: signals and the terminal are the command's; a descriptor that the user opened is there."""
    mine, theirs = os.pipe()
    words = ["--timeout", "50", "--", sys.executable, "-Ec", REPORT]
    with subprocess.Popen(
        [sys.executable, "-m", "rolekey", "exec", *options, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=[theirs],
    ) as process:
        report = json.loads(process.communicate(timeout=60)[0])
    os.close(mine)
    os.close(theirs)
    assert report["process"] == process.pid
    assert report["open"] == [theirs]


# Becomes `rolekey`, with a module in it that opens a file as C does.
WITH_A_MODULE = """
import os
from rolekey.cli import exec
from rolekey.__main__ import main
fetcher_once = exec.fetcher_once
def leaving_open(settings):
    os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
    return fetcher_once(settings)
exec.fetcher_once = leaving_open
main()
"""


def test_a_module_s_descriptors_stay_here(options):
    """What a PKCS#11 module has left open, its way to the token, is not the command's."""
    words = ["exec", *options, "--timeout", "50", "--", sys.executable, "-Ec", REPORT]
    report = reported(finish(start_program(sys.executable, "-c", WITH_A_MODULE, *words)))
    assert report["open"] == []


def test_no_signal_is_ignored(options):
    """Python ignores some signals; the command, such as one in front of a pipe, does not."""
    outcome = rolekey("exec", *options, "--", "sed", "-n", r"s/^SigIgn:\s*//p", "/proc/self/status")
    ignored = int(outcome.stdout, 16)
    assert not [number for number in (signal.SIGPIPE, signal.SIGXFSZ) if ignored >> (number - 1) & 1]


def test_the_end_by_a_signal(options):
    """A command that a signal ends has ended so for whoever waits."""
    assert rolekey("exec", *options, "--", "sh", "-c", "kill -KILL $$").code == -signal.SIGKILL


def test_the_cache_is_shared(options, emulator):
    """What credential-process has got is taken, and what exec has got serves credential-process; --no-cache asks."""
    environment_of = ("--", sys.executable, "-Ec", REPORT)
    first = reported(rolekey("exec", *options, *environment_of))["aws"]["AWS_ACCESS_KEY_ID"]
    assert rolekey("credential-process", *options).credentials["AccessKeyId"] == first
    assert reported(rolekey("exec", *options, *environment_of))["aws"]["AWS_ACCESS_KEY_ID"] == first
    assert len(emulator.requests) == 1
    again = reported(rolekey("exec", "--no-cache", *options, *environment_of))["aws"]["AWS_ACCESS_KEY_ID"]
    assert [first, again] == emulator.granted
    assert rolekey("credential-process", *options).credentials["AccessKeyId"] == first


def test_nothing_runs_without_credentials(options, tmp_path):
    """A failure is rolekey's, in two lines and with its code; the command does not run."""
    made = tmp_path / "made"
    outcome = rolekey("exec", *options, "--endpoint", "http://127.0.0.1:1", "--", "touch", str(made))
    outcome.failed(6, "Connection refused")
    assert not made.exists()


@pytest.mark.parametrize(("name", "code"), [("no-such-command", 127), ("/", 126)])
def test_nothing_is_asked_for_a_command_that_is_not_there(name, code, options, emulator):
    """A command that cannot be run is found out before the key is used."""
    rolekey("exec", *options, "--", name).failed(code, name)
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("first_line", "code", "says"), [("", 126, "Exec format error"), ("#!/no/such/shell", 127, "after #!")]
)
def test_a_script_that_nothing_runs(first_line, code, says, options, tmp_path):
    """A script whose first line names nothing, or nothing that is there, fails with the cause and what to do."""
    script = tmp_path / "script"
    script.write_text(f"{first_line}\necho hello\n")
    script.chmod(0o755)
    rolekey("exec", *options, "--", str(script)).failed(code, says)


def test_a_named_identity(options, tmp_path):
    """`rolekey exec NAME -- command` and `rolekey login NAME` are what the section says."""
    pairs = zip(options[::2], options[1::2], strict=True)
    file = tmp_path / "config.toml"
    file.write_text("[prod]\n" + "".join(f'{name.removeprefix("--")} = "{value}"\n' for name, value in pairs))
    environment = {"ROLEKEY_CONFIG": str(file)}
    assert "new, good until" in rolekey("login", "prod", environment=environment).stdout
    assert rolekey("exec", "prod", "--", "sh", "-c", "exit 3", environment=environment).code == 3


def test_login(options, emulator):
    """It fills the cache and says until when it holds; while that is fresh, it says so and asks nobody."""
    arn = "arn:aws:iam::000000000000:role/rolekey-emulator"
    outcome = rolekey("login", *options)
    expiration = rolekey("credential-process", *options).credentials["Expiration"]
    asked_again = datetime.fromisoformat(expiration) - timedelta(seconds=cached_answer.REFRESH_SECONDS)
    end = f"good until {expiration}; nobody is asked before {asked_again:%Y-%m-%dT%H:%M:%SZ}\n"
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, f"{arn}: new, {end}", "")
    outcome = rolekey("login", *options)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, f"{arn}: known and still fresh, {end}", "")
    assert len(emulator.requests) == 1


def test_login_where_nothing_can_be_kept(options, emulator, runtime_directory):
    """It fails before PIN and touch where there is no cache, since they would be for nothing."""
    (runtime_directory / "rolekey").mkdir(mode=0o755)
    rolekey("login", *options).failed(2, "cannot be kept")
    assert emulator.requests == []


def test_login_with_old_credentials(options, runtime_directory):
    """Credentials that live, but are not fresh, are no reason to hide that new ones could not be had."""
    rolekey("login", *options)
    (entry,) = (runtime_directory / "rolekey").glob("*.entry")
    fields = cached_answer.unpack(entry.read_bytes(), cached_answer.ENTRY_FIELDS)
    now = int(datetime.now(UTC).timestamp())
    fields[0] = b"%d %d" % (now - 3000, now + 600)
    entry.write_bytes(cached_answer.pack(*fields))
    outcome = rolekey("login", *options, "--timeout", "0.001")
    assert outcome.code == 6
    assert outcome.stdout == ""
    assert rolekey("exec", *options, "--timeout", "0.001", "--", "true").code == 0
