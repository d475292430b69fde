"""`rolekey` in processes of its own: what it prints, on which stream, and with which exit code it ends.

cli_transcripts.txt has the command lines that must fail before a token or the network is needed, each with the exit
code and the two lines that a user sees.
"""

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from rolekey import __version__
from support.emulator import RunningEmulator, running_emulator
from support.pki import Issued, key_to_pem, make_key, make_name, make_root
from support.process import Outcome, at_its_deadline, rolekey
from support.service import ScriptedService, session_answer

ID = "11111111-2222-3333-4444-555555555555"
ROLE = "arn:aws:iam::123456789012:role/web"
ARNS = (
    f"--trust-anchor-arn arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/{ID} "
    f"--profile-arn arn:aws:rolesanywhere:eu-west-1:123456789012:profile/{ID} --role-arn {ROLE}"
)
PASSPHRASE = "hunter2-canary"

# --- bad command lines ---


@dataclass(frozen=True)
class Transcript:
    """One command line and what it must come to."""

    environment: Mapping[str, str]
    words: Sequence[str]
    code: int
    stderr: str

    def __str__(self) -> str:
        return " ".join(self.words).replace(ARNS, "ARNS")


def read_transcripts() -> Iterator[Transcript]:
    """The blocks of cli_transcripts.txt: a command line, the exit code, the lines on stderr."""
    text = (Path(__file__).parent / "cli_transcripts.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for block in "\n".join(lines).strip().split("\n\n"):
        command, code, *stderr = block.strip("\n").split("\n")
        words = shlex.split(command.removeprefix("$ ").replace("ARNS", ARNS))
        start = words.index("rolekey")
        environment = dict(word.split("=", 1) for word in words[:start])
        yield Transcript(environment, words[start + 1 :], int(code.removeprefix("exit ")), "\n".join(stderr) + "\n")


TRANSCRIPTS = list(read_transcripts())
_ARNS_OF_GOOD = "".join(
    f'{name.removeprefix("--")} = "{value}"\n' for name, value in zip(*[iter(ARNS.split())] * 2, strict=True)
)
IDENTITIES = f"""
[good]
{_ARNS_OF_GOOD}certificate = "nowhere.pem"
[odd]
session_duration = 900
[short]
certificate = "leaf.pem"
"""


@pytest.fixture(scope="module")
def root() -> Issued:
    """The CA of every certificate here."""
    return make_root()


@pytest.fixture(scope="module")
def files(root: Issued, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the transcripts run, with every file that they name."""
    directory = tmp_path_factory.mktemp("files")
    leaf = root.issue(common_name="machine")
    other_key, rsa_key = make_key("p256"), make_key("rsa2048")
    old, far = datetime(2020, 1, 1, tzinfo=UTC), datetime(2126, 1, 1, tzinfo=UTC)
    weak = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    contents = {
        "root.pem": root.pem,
        "leaf.pem": leaf.pem,
        "leaf.key": leaf.key_pem,
        "nameless.pem": root.issue(leaf.key, subject=make_name(None), serial=4660).pem,
        "both.pem": leaf.key_pem + leaf.pem,
        "other.key": key_to_pem(other_key),
        "rsa.key": key_to_pem(rsa_key),
        "two.key": leaf.key_pem + key_to_pem(other_key),
        "encrypted.key": key_to_pem(leaf.key, PASSPHRASE.encode()),
        "encrypted-other.key": key_to_pem(other_key, PASSPHRASE.encode()),
        "ed25519.key": weak,
        "broken.key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "tpm.key": b"-----BEGIN TSS2 PRIVATE KEY-----\nMA==\n-----END TSS2 PRIVATE KEY-----\n",
        "expired.pem": root.issue(
            leaf.key, "machine", not_before=old, not_after=datetime(2021, 2, 3, 4, 5, 6, tzinfo=UTC)
        ).pem,
        "future.pem": root.issue(leaf.key, "machine", not_before=far, not_after=far.replace(year=2127)).pem,
        "ca.pem": root.issue_authority(leaf.key, "Test intermediate").pem,
        "garbage.pem": b"not a certificate\n",
        "truncated.pem": leaf.pem[: len(leaf.pem) // 2],
        "empty.pem": b"",
        "identities.toml": IDENTITIES.encode(),
        "module.so": b"this is no shared object\n" * 10,
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    (directory / "directory").mkdir()
    return directory


def run_in(directory: Path, transcript: Transcript) -> Outcome:
    """Run a transcript's command line where its files are, without a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "rolekey", *transcript.words],
        cwd=directory,
        env={**os.environ, "ROLEKEY_CONFIG": "none.toml", **transcript.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=str)
def test_bad_command_line(transcript, files):
    """Exit code and stderr are the transcript's, letter by letter; stdout is empty, and no passphrase is shown."""
    outcome = run_in(files, transcript)
    outcome.failed(transcript.code)
    pattern = re.escape(transcript.stderr).replace(r"\.\.\." + "\\\n", ".*\n")
    assert re.fullmatch(pattern, outcome.stderr), outcome.stderr
    assert PASSPHRASE not in outcome.stderr


def test_every_cause_is_there():
    """The transcripts end with each exit code that needs neither a token nor the network."""
    assert {transcript.code for transcript in TRANSCRIPTS} == {2, 3, 4, 5, 8, 126, 127}


# --- what is no failure ---


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help(words):
    """`rolekey` alone prints the help on stdout and succeeds, as the official helper does."""
    outcome = rolekey(*words)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("Usage: rolekey [OPTIONS] [COMMAND] [ARGS]...\n")
    for command in ("credential-process", "emulator", "version"):
        assert re.search(rf"^  {command} ", outcome.stdout, re.MULTILINE)


def test_version():
    """`rolekey version` prints the version alone."""
    assert rolekey("version") == Outcome(0, f"{__version__}\n", "")


def test_command_help():
    """`rolekey credential-process --help` prints the command's flags on stdout and succeeds, whatever else is said."""
    outcome = rolekey("credential-process", "--session-duration=900", "--help")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("Usage: rolekey credential-process [OPTIONS] [NAME]\n")
    assert "--trust-anchor-arn TEXT" in outcome.stdout


@pytest.mark.parametrize(("name", "kind"), [("leaf.key", "EC secp256r1"), ("encrypted.key", "encrypted")])
def test_key_inspect_of_a_file(name, kind, files):
    """A key in a file is a file; the passphrase of an encrypted one is not needed."""
    outcome = rolekey("key", "inspect", str(files / name))
    lines = f"key: {files / name}\ntype: {kind}\nin: file\nverdict: this key is a file\n"
    assert outcome == Outcome(0, lines, "")


@pytest.fixture(scope="module")
def emulator(files: Path) -> Iterator[RunningEmulator]:
    """A Roles Anywhere that trusts the CA of the files."""
    with running_emulator(files / "root.pem") as running:
        yield running


def command_line(emulator: RunningEmulator, files: Path, key: str, *more: str) -> list[str]:
    """A credential-process that succeeds, if the key can be used."""
    pair = ["--certificate", str(files / "leaf.pem"), "--private-key", str(files / key)]
    return ["credential-process", *emulator.arguments, *pair, *more]


@pytest.mark.rig("emulator")
@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("leaf.key", []),
        ("both.pem", []),
        ("leaf.key", ["--with-proxy", "--reuse-pin=false", "--debug=false", "--region=us-east-1"]),
        ("leaf.key", ["--session-duration", "0x384", "--region=", "--no-verify-ssl=0", "--no-tpm-key-password"]),
        ("encrypted.key", ["--pkcs8-password", PASSPHRASE]),
    ],
)
def test_success(key, more, files, emulator):
    """One JSON document on one line is on stdout, nothing is on stderr."""
    assert rolekey(*command_line(emulator, files, key, *more)).credentials["AccessKeyId"].startswith("ASIA")


def test_debug_shows_no_secret(files):
    """--debug says on stderr what was done, without signature, passphrase, proxy password and credentials.

    What is on stdout stays the same.
    """
    answer = session_answer(ROLE, secretAccessKey="secret-canary", sessionToken="token-canary")
    with ScriptedService((answer,)) as service:
        outcome = rolekey(
            *("credential-process", *ARNS.split(), "--endpoint", service.url, "--debug"),
            *("--certificate", str(files / "leaf.pem"), "--private-key", str(files / "encrypted.key")),
            *("--pkcs8-password", PASSPHRASE),
            environment={"HTTPS_PROXY": "http://user:proxy-canary@127.0.0.1:1"},
        )
    authorization = service.requests[0].header("Authorization") or ""
    signature = authorization.partition("Signature=")[2]
    assert len(signature) > 100
    for secret in (signature, "Credential=", PASSPHRASE, "proxy-canary", "secret-canary", "token-canary"):
        assert secret not in outcome.stderr
    for word in ("settings: region eu-west-1", "certificate: CN=machine", "key: file", "string to sign", "status 201"):
        assert word in outcome.stderr
    assert all(line.startswith("rolekey: debug: ") for line in outcome.stderr.splitlines())
    assert outcome.code == 0
    assert json.loads(outcome.stdout)["SecretAccessKey"] == "secret-canary"


# --- questions on the terminal ---

# Leads a session of its own with the terminal as its controlling one, and runs a command in its foreground. It outlives
# the command, since the end of the session's leader resets the terminal, and says whether the command had left it as
# it was.
LEADER = """
import fcntl, os, pathlib, signal, subprocess, sys, termios
terminal = os.open(sys.argv[1], os.O_RDWR)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
before = termios.tcgetattr(terminal)
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
child = subprocess.Popen(sys.argv[3:])
signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
code = child.wait()
pathlib.Path(sys.argv[2]).write_text(str(termios.tcgetattr(terminal) == before))
sys.exit(code if code >= 0 else 100)
"""


class Dialogue:
    """A command that runs on a terminal of its own, with stdin, stdout and stderr somewhere else."""

    def __init__(self, process: subprocess.Popen[str], terminal: int, report: Path) -> None:
        self._process = process
        self._terminal = terminal
        self._report = report
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read what the terminal shows until a text is there; the echo is off then."""
        while text not in self.shown:
            self._read(60)
        assert not termios.tcgetattr(self._terminal)[3] & termios.ECHO

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._terminal, text.encode())

    def send_signal(self, number: int) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

    def finish(self) -> Outcome:
        """The end of the command, after checking that the terminal is as it was."""
        stdout, stderr = self._process.communicate(timeout=60)
        assert self._report.read_text() == "True", "the terminal's settings were not restored"
        while self._read(0):
            pass
        return Outcome(self._process.returncode, stdout, stderr)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        assert ready or not seconds, f"the terminal shows only {self.shown!r}"
        try:
            data = os.read(self._terminal, 4096) if ready else b""
        except OSError:  # nobody has the other end open any more
            data = b""
        self.shown += data.decode()
        return bool(data)


@contextmanager
def dialogue(directory: Path, *words: str) -> Iterator[Dialogue]:
    """Start `rolekey` on a new terminal; what is typed on stdin is not for it."""
    terminal, other_end = os.openpty()
    (directory / "stdin").write_text("not the answer\n")
    try:
        with (
            (directory / "stdin").open() as stdin,
            subprocess.Popen(
                [
                    *(sys.executable, "-c", LEADER, os.ttyname(other_end), str(directory / "report")),
                    *(sys.executable, "-m", "rolekey", *words),
                ],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield Dialogue(process, terminal, directory / "report")
            finally:
                process.kill()
    finally:
        os.close(other_end)
        os.close(terminal)


def question(files: Path) -> str:
    """What is asked for the encrypted key."""
    return f"Passphrase of the private key {files / 'encrypted.key'}: "


@pytest.mark.rig("emulator")
def test_passphrase_from_the_terminal(files, emulator, tmp_path):
    """The passphrase is asked for on the controlling terminal although stdin, stdout and stderr lead elsewhere.

    It is not echoed, and nothing but the JSON document gets on stdout.
    """
    with dialogue(tmp_path, *command_line(emulator, files, "encrypted.key")) as terminal:
        terminal.wait_for(question(files))
        terminal.type(PASSPHRASE + "\n")
        assert terminal.finish().credentials["SessionToken"]
    assert terminal.shown.strip() == question(files).strip()


@pytest.mark.rig("emulator")
def test_pin_from_the_terminal(provisioned_token, tmp_path):
    """So is the PIN of a token; the question names the token and the role."""
    with (
        running_emulator(provisioned_token.root) as emulator,
        dialogue(
            tmp_path,
            *("credential-process", *emulator.arguments, "--pkcs11-lib", str(provisioned_token.module)),
            *("--private-key", provisioned_token.uri("p-256", with_pin=False)),
            *("--intermediates", str(provisioned_token.intermediate)),
        ) as terminal,
    ):
        terminal.wait_for("PIN of token rolekey-softhsm")
        terminal.wait_for("for role rolekey-emulator: ")
        terminal.type(provisioned_token.user_pin + "\n")
        assert terminal.finish().credentials["SessionToken"]
    assert provisioned_token.user_pin not in terminal.shown


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("wrong\n", "the passphrase does not decrypt the private key"),
        ("\n", "the passphrase from the terminal is empty"),
        ("a\tb\n", "the passphrase does not decrypt the private key"),
        ("\x04", "nothing was entered on the terminal"),
    ],
)
def test_bad_answer(typed, message, files, tmp_path):
    """A wrong answer, an empty one and Ctrl-D end the run: nobody is asked again."""
    nowhere = RunningEmulator("http://127.0.0.1:1")
    with dialogue(tmp_path, *command_line(nowhere, files, "encrypted.key")) as terminal:
        terminal.wait_for(question(files))
        terminal.type(typed)
        terminal.finish().failed(4, message)
    assert terminal.shown.count("Passphrase") == 1


@pytest.mark.parametrize(
    ("interrupt", "code"),
    [
        (lambda terminal: terminal.type("half of it\x03"), 130),
        (lambda terminal: terminal.send_signal(signal.SIGTERM), 143),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_interrupted_question(interrupt, code, files, tmp_path):
    """Ctrl-C and SIGTERM during the question end the run with 130 and 143, without a word, with the echo on again."""
    nowhere = RunningEmulator("http://127.0.0.1:1")
    with dialogue(tmp_path, *command_line(nowhere, files, "encrypted.key")) as terminal:
        terminal.wait_for(question(files))
        interrupt(terminal)
        outcome = terminal.finish()
        assert (outcome.code, outcome.stdout, outcome.stderr.strip()) == (code, "", "")
    assert "half" not in terminal.shown


def test_question_that_nobody_answers(files, tmp_path):
    """The deadline ends the question too, and the echo is on afterwards."""
    nowhere = RunningEmulator("http://127.0.0.1:1")
    shown = []

    def run(seconds):
        with dialogue(tmp_path, *command_line(nowhere, files, "encrypted.key", "--timeout", seconds)) as terminal:
            outcome = terminal.finish()
            shown.append(terminal.shown)
            return outcome

    outcome = at_its_deadline(run, lambda: question(files) in shown[-1])
    outcome.failed(6, " s waiting for an answer on the terminal")
