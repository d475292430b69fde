"""Named identities as a user meets them: `rolekey configure`, and every command that takes a NAME."""

import configparser
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from botocore.session import Session

from rolekey.configured_options import KEYS
from rolekey.errors import ConfigurationError
from rolekey.vend.boto3 import boto3_session
from support.canaries import ON_TERMINAL
from support.emulator import running_emulator
from support.process import rolekey
from support.serve_process import ask, running_serve

# How a line starts the rolekey that the tests run: not one of the programs that every terminal finds.
PROGRAM = f"{sys.executable} -m rolekey"

pytestmark = pytest.mark.rig("emulator")
PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
HELPER = "/opt/aws/aws_signing_helper credential-process"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory with a blank in its name."""
    home = tmp_path / "the home"
    home.mkdir()
    for name in ("XDG_CONFIG_HOME", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def words(emulator, root, home):
    """The options of an identity with its key in a file."""
    certificate, key = root.issue().write(home, "leaf")
    return (*emulator.arguments, "--certificate", str(certificate), "--private-key", str(key), "--timeout", "50")


@pytest.fixture
def config(home):
    """The SDKs' config file, as somebody has it."""
    path = home / ".aws" / "config"
    path.parent.mkdir()
    path.write_text("# mine\n[default]\nregion = eu-west-1\n\n[profile other]\r\nregion=x\n")
    path.chmod(0o644)
    return path


@pytest.fixture
def configured(words):
    """An identity `prod`."""
    outcome = rolekey("configure", "prod", *words)
    assert (outcome.code, outcome.stderr) == (0, "")
    return outcome


def section(home, name="prod"):
    """What a section says."""
    return tomllib.loads((home / ".config" / "rolekey" / "config.toml").read_text())[name]


# --- configure ---


def test_configure(config, home, words, emulator):
    """The options become a section and a profile whose line has no quotes; nothing else of the config file changes."""
    before = config.read_bytes()
    outcome = rolekey("configure", "prod", *words)
    assert outcome.stdout == (
        f"identity prod: {home}/.config/rolekey/config.toml\n"
        f"profile prod: {config}\n"
        "try it: aws --profile prod sts get-caller-identity\n"
    )
    assert section(home) == {
        "trust-anchor-arn": emulator.trust_anchor_arn,
        "profile-arn": emulator.profile_arn,
        "role-arn": emulator.role_arn,
        "certificate": str(home / "leaf.pem"),
        "private-key": str(home / "leaf.key"),
        "endpoint": emulator.url,
        "timeout": 50.0,
    }
    after = config.read_bytes()
    assert after == before + f"[profile prod]\ncredential_process = {PROGRAM} credential-process prod\n\n".encode()
    assert config.stat().st_mode & 0o777 == 0o644
    assert (home / ".config" / "rolekey" / "config.toml").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def _on_path(monkeypatch, tmp_path):
    """`rolekey` is a program on the PATH."""
    program = tmp_path / "bin" / "rolekey"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m rolekey "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("config", "configured", "_on_path")
def test_botocore_uses_it(emulator):
    """Botocore gets the emulator's credentials by the profile that was written."""
    credentials = Session(profile="prod").get_credentials().get_frozen_credentials()
    assert credentials.access_key == emulator.granted[-1]


def test_configure_again(config, words, home):
    """Options that are given again change their keys, and no other; the profile stays as it is."""
    assert rolekey("configure", "prod", *words).code == 0
    before, profile = section(home), config.read_bytes()
    assert rolekey("configure", "prod", "--session-duration", "900").code == 0
    assert section(home) == {**before, "session-duration": 900}
    assert config.read_bytes() == profile


@pytest.mark.usefixtures("words")
def test_relative_paths(home, emulator):
    """Paths begin at the working directory when they are given, and mean the same from everywhere afterwards."""
    options = (*emulator.arguments, "--certificate", "leaf.pem", "--private-key", "leaf.key")
    assert rolekey("configure", "prod", *options, directory=home).code == 0
    assert rolekey("credential-process", "prod", directory=Path("/")).credentials["AccessKeyId"] in emulator.granted


def test_from_aws_config(config, home, words, emulator):
    """A line of the official helper becomes a section, and the profile's line is replaced by one that names it."""
    line = f"credential_process = {HELPER} {shlex.join(words).replace(chr(39), chr(34))} --with-proxy --debug"
    config.write_text(f"[profile old]\nregion = x\n{line}\noutput = json\n\n[profile z]\n")
    outcome = rolekey("configure", "prod", "--from-aws-config", "old", "--session-duration", "900")
    assert outcome.code == 0, outcome.stderr
    new = f"credential_process = {PROGRAM} credential-process prod"
    assert config.read_text() == f"[profile old]\nregion = x\n{new}\noutput = json\n\n[profile z]\n"
    assert section(home)["certificate"] == str(home / "leaf.pem")
    assert section(home)["session-duration"] == 900
    assert rolekey("credential-process", "prod").credentials["AccessKeyId"] in emulator.granted


PIN_LINE = "--private-key 'pkcs11:token=t;object=o?pin-value=hunter2-canary'"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (None, "the credential_process of the profile old is not there"),
        (f"{HELPER} --region 'x", "a quote is open"),
        (f"{HELPER} --nonsense", "No such option"),
        (f"{HELPER} --region x stray/word", "unexpected argument 'stray/word'"),
        (f"{HELPER} --region x \\", "has a backslash"),
        (f"{HELPER} --certificate C:\\certs\\x.pem", "has a backslash"),
        (f"{HELPER} --certificate /my certs/x.pem", "unexpected argument 'certs/x.pem'"),
        ("/opt/aws_signing_helper serve", "it is no credential-process"),
        ("aws", "it is no credential-process"),
        (f"{HELPER} prod", "names an identity already"),
        (f"{HELPER} --pkcs8-password hunter2-canary", "--pkcs8-password has no place in a file"),
        (f"{HELPER} --no-verify-ssl", "--no-verify-ssl has no place in a file"),
        (f"{HELPER} {PIN_LINE}", "private-key in [prod] of "),
        (HELPER, "--trust-anchor-arn is missing"),
    ],
)
def test_line_that_cannot_be_taken_over(config, home, line, message):
    """A line that is none of ours, or holds a password or a mistake, is refused with its profile's name, unchanged."""
    config.write_text("[profile old]\n" + (f"credential_process = {line}\n" if line else ""))
    before = config.read_bytes()
    outcome = rolekey("configure", "prod", "--from-aws-config", "old")
    outcome.failed(2, message)
    assert "hunter2-canary" not in outcome.stderr
    assert config.read_bytes() == before
    assert not (home / ".config").exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config", "[profile prod]\nrole_arn = x\nsource_profile = y\n", "has role_arn in "),
        ("config", "[profile prod]\nsso_session = x\n", "has sso_session in "),
        ("config", "[profile prod]\naws_access_key_id = AKIA\n", "has aws_access_key_id in "),
        ("credentials", "[prod]\naws_access_key_id = AKIA\n", "has aws_access_key_id in "),
        ("credentials", "[DEFAULT]\naws_access_key_id = AKIA\n", "has aws_access_key_id in "),
        ("config", "[profile prod]\ncredential_process = other\n", "has another credential_process in "),
        ("config", "[DEFAULT]\ncredential_process = other\n", "has another credential_process in "),
    ],
)
def test_profile_with_other_credentials(config, home, words, file, text, message):
    """A profile whose own credentials would win is refused before either file is written."""
    path = config.with_name(file)
    path.write_text(text)
    rolekey("configure", "prod", *words).failed(2, "the profile prod", message + str(path), "nothing was changed")
    assert path.read_text() == text
    assert not (home / ".config" / "rolekey" / "config.toml").exists()


def test_another_profile(home, words):
    """--profile names the SDKs' profile; a name with blanks is quoted as the AWS CLI writes it."""
    assert rolekey("configure", "two", *words, "--profile", "my own").code == 0
    parser = configparser.RawConfigParser()
    parser.read(home / ".aws" / "config")
    assert parser['profile "my own"']["credential_process"] == f"{PROGRAM} credential-process two"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no NAME is given"),
        (("a", "b"), "unexpected argument 'b'"),
        (("true",), "unexpected argument 'true'"),
        (("prod", "--use-last-try"), "--use-last-try has no place in a file"),
        (("prod", "--profile", "a]b"), "--profile names no profile"),
    ],
)
def test_wrong_command_lines(home, words, arguments, message):
    """A missing or second name, and what has no place in a file, is refused, and nothing is written."""
    rolekey("configure", *arguments, *(words if arguments else ())).failed(2, message)
    assert not (home / ".aws").exists()


def test_directory_that_cannot_be_written(home, words, monkeypatch):
    """Where the file cannot be written, the error names it, and the SDKs' file is not touched."""
    (home / "file").write_text("")
    monkeypatch.setenv("ROLEKEY_CONFIG", str(home / "file" / "config.toml"))
    outcome = rolekey("configure", "prod", *words)
    assert outcome.code in (2, 8)
    assert f"{home}/file" in outcome.stderr
    assert not (home / ".aws").exists()


# --- the commands that take a name ---


@pytest.mark.usefixtures("configured")
def test_credential_process(emulator):
    """`credential-process NAME` is answered from the cache until the section changes."""
    first = rolekey("credential-process", "prod")
    assert first.credentials["AccessKeyId"] == emulator.granted[-1]
    assert rolekey("credential-process", "prod").stdout == first.stdout
    assert len(emulator.requests) == 1
    assert rolekey("configure", "prod", "--session-duration", "900").code == 0
    assert rolekey("credential-process", "prod").credentials["AccessKeyId"] == emulator.granted[1]
    assert len(emulator.requests) == 2


@pytest.mark.usefixtures("configured")
def test_variable_changes_the_answer(emulator):
    """A variable that counts makes another question of the same command line."""
    first = rolekey("credential-process", "prod")
    environment = {"ROLEKEY_SESSION_DURATION": "900"}
    second = rolekey("credential-process", "prod", environment=environment)
    assert second.credentials["AccessKeyId"] != first.credentials["AccessKeyId"]
    assert second.credentials["AccessKeyId"] in emulator.granted
    assert second.credentials["Expiration"] < first.credentials["Expiration"]


@pytest.mark.usefixtures("configured")
def test_unknown_name():
    """A name that is not there lists those that are."""
    rolekey("credential-process", "dev").failed(2, "no identity is named 'dev'", "it has prod")


@pytest.mark.usefixtures("configured")
def test_boto3(emulator):
    """`boto3_session(NAME)` shares the identity's credentials with `credential-process NAME`."""
    credentials = boto3_session("prod").get_credentials().get_frozen_credentials()
    assert credentials.access_key == emulator.granted[-1]
    assert rolekey("credential-process", "prod").credentials["AccessKeyId"] == credentials.access_key
    with pytest.raises(ConfigurationError, match="no identity is named 'dev'"):
        boto3_session("dev")


@pytest.mark.usefixtures("configured")
def test_update(emulator, home):
    """`update NAME --once` writes the identity's credentials."""
    assert rolekey("update", "prod", "--once", "--profile", "p").code == 0
    assert emulator.granted[-1] in (home / ".aws" / "credentials").read_text()


@pytest.mark.usefixtures("configured")
def test_serve_several(emulator, root, home, tmp_path):
    """`serve A B` hands out both by name; the metadata service has the first one's role."""
    leaf = root.issue()
    certificate, key = leaf.write(home, "second")
    options = ("--certificate", str(certificate), "--private-key", str(key))
    assert rolekey("configure", "second", *emulator.arguments, *options, "--timeout", "50").code == 0
    with running_serve(tmp_path, "prod", "second") as served:
        prod, second = served.container("prod").document, served.container("second").document
        assert [prod["AccessKeyId"], second["AccessKeyId"]] == emulator.granted
        assert served.metadata().document["AccessKeyId"] == prod["AccessKeyId"]
        assert served.container("default").status == 404
        metrics = ask(served.url, "/metrics").body.decode()
        assert all(f'identity="{name}"' in metrics for name in ("prod", "second"))


@pytest.fixture
def two_roles(provisioned_token, home):  # noqa: ARG001 - it is where the file goes
    """Identities `p256` and `rsa` with two keys of one token, beside an emulator that takes both."""
    with running_emulator(provisioned_token.root) as emulator:
        for name, label in (("p256", "p-256"), ("rsa", "rsa-2048")):
            key = ("--private-key", provisioned_token.uri(label, with_pin=False), "--timeout", "50")
            module = ("--pkcs11-lib", str(provisioned_token.module))
            issuers = ("--intermediates", str(provisioned_token.intermediate))
            outcome = rolekey("configure", name, *emulator.arguments, *key, *module, *issuers)
            assert outcome.code == 0, outcome.stderr
        yield emulator


@pytest.mark.rig("softhsm")
def test_serve_several_from_one_variable(two_roles, provisioned_token, tmp_path):
    """A PIN that can be read once opens the token for each identity."""
    environment = {"ROLEKEY_PIN_SOURCE": "env:THE_PIN", "THE_PIN": provisioned_token.user_pin}
    with running_serve(tmp_path, "p256", "rsa", environment=environment) as served:
        found = [served.container(name).document["AccessKeyId"] for name in ("p256", "rsa")]
    assert found == two_roles.granted


@pytest.mark.rig("softhsm")
def test_serve_several_from_one_answer(two_roles, provisioned_token, tmp_path):
    """Somebody who types the PIN of a token types it once, however many identities are in it."""
    master, slave = os.openpty()
    try:
        before = [sys.executable, "-I", "-S", "-c", ON_TERMINAL, os.ttyname(slave)]
        # What is typed before the question is asked is thrown away: it waits for the question.
        typist = threading.Thread(target=type_once, args=(master, provisioned_token.user_pin), daemon=True)
        typist.start()
        with running_serve(tmp_path, "p256", "rsa", before=before) as served:
            found = [served.container(name).document["AccessKeyId"] for name in ("p256", "rsa")]
        typist.join()
    finally:
        os.close(slave)
        os.close(master)
    assert found == two_roles.granted


def type_once(terminal: int, text: str) -> None:
    """Answer the first question on a terminal."""
    shown = b""
    while b"PIN of token" not in shown or not shown.endswith(b": "):
        shown += os.read(terminal, 4096)
    os.write(terminal, f"{text}\n".encode())


@pytest.mark.usefixtures("configured")
def test_serve_wrong_names(emulator):
    """A name that is given twice, or that is not there, is refused before anything is asked for."""
    rolekey("serve", "prod", "prod").failed(2, "identity prod is named twice")
    rolekey("serve", "prod", "none").failed(2, "no identity is named 'none'")
    assert emulator.requests == []


# --- the page ---


@pytest.mark.usefixtures("_on_path")
def test_the_page(home):
    """The command of docs/configuration.md writes the file that the page shows, and the page names every key."""
    (command,) = re.findall(r"```sh\n(rolekey configure .*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(["sh", "-c", f"{command.rstrip()} --timeout 20"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert {"prod": section(home)} == tomllib.loads(shown)
    (keys,) = re.findall(r"options without their dashes: (.*?)\. Any other", PAGE, re.DOTALL)
    assert tuple(re.findall(r"`(.*?)`", keys)) == tuple(KEYS)
