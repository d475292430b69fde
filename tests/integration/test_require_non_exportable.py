"""--require-non-exportable with keys in files: refused everywhere, before anything of them is asked for."""

import os
import subprocess
import sys

import pytest

from rolekey.config import resolve_settings
from rolekey.errors import UnsupportedKeyError
from rolekey.options import Options
from rolekey.vend.boto3 import boto3_session
from support.emulator import running_emulator
from support.pki import key_to_pem, make_root
from support.process import GENEROUS, rolekey

pytestmark = pytest.mark.rig("emulator")
FLAG = "--require-non-exportable"
SAYS = "is not used (--require-non-exportable): this key is a file"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A certificate, its key, and the same key encrypted."""
    directory = tmp_path_factory.mktemp("files")
    root = make_root()
    leaf = root.issue(common_name="machine")
    (directory / "root.pem").write_bytes(root.pem)
    (directory / "leaf.pem").write_bytes(leaf.pem)
    (directory / "leaf.key").write_bytes(leaf.key_pem)
    (directory / "encrypted.key").write_bytes(key_to_pem(leaf.key, b"passphrase"))
    return directory


@pytest.fixture(scope="module")
def emulator(files):
    """A Roles Anywhere that trusts the certificate."""
    with running_emulator(files / "root.pem") as running:
        yield running


@pytest.fixture
def options(files, emulator):
    """The words of a command that would succeed."""
    pair = ["--certificate", str(files / "leaf.pem"), "--private-key", str(files / "leaf.key")]
    return [*emulator.arguments, *pair, "--timeout", GENEROUS]


@pytest.mark.parametrize("command", ["credential-process", "update --once", "serve --port 0"])
def test_every_command(command, options):
    """A key in a file is refused by every command that signs."""
    rolekey(*command.split(), *options, FLAG).failed(3, SAYS, "leaf.key")


def test_a_key_that_is_tried(files):
    """sign-string uses it no more than the others, with its certificate and by itself; looking at it is allowed."""
    pair = ("--private-key", str(files / "leaf.key"), "--certificate", str(files / "leaf.pem"))
    for words in (pair, pair[:2]):
        rolekey("sign-string", *words, FLAG).failed(3, SAYS, "leaf.key")
    variables = {"ROLEKEY_REQUIRE_NON_EXPORTABLE": "true"}
    rolekey("sign-string", *pair, environment=variables).failed(3, SAYS, "leaf.key")
    assert rolekey("key", "inspect", pair[1], environment=variables).code == 0


def test_before_anything_is_asked(files, options):
    """The passphrase of an encrypted one is not asked for, and its certificate is not looked at."""
    words = ["--private-key", str(files / "encrypted.key"), "--certificate", str(files / "nowhere.pem")]
    rolekey("credential-process", *options, *words, FLAG).failed(3, SAYS, "encrypted.key")


def test_variable_and_section(options, tmp_path):
    """The variable and the section of the configuration file say the same; an option counts before them."""
    variable = {"ROLEKEY_REQUIRE_NON_EXPORTABLE": "true"}
    rolekey("credential-process", *options, environment=variable).failed(3, SAYS)
    config = tmp_path / "config.toml"
    config.write_text("[strict]\nrequire-non-exportable = true\n")
    section = {"ROLEKEY_CONFIG": str(config)}
    rolekey("credential-process", "strict", *options, environment=section).failed(3, SAYS)
    for environment in (variable, section):
        name = ["strict"] if environment is section else []
        assert rolekey("credential-process", *name, *options, f"{FLAG}=false", environment=environment).credentials


def test_a_known_answer(options):
    """Credentials that were obtained without the requirement are no answer to a command with it."""
    known = rolekey("credential-process", *options).credentials
    assert rolekey("credential-process", *options).credentials == known
    rolekey("credential-process", *options, FLAG).failed(3, SAYS)
    rolekey("credential-process", *options, environment={"ROLEKEY_REQUIRE_NON_EXPORTABLE": "true"}).failed(3, SAYS)
    assert rolekey("credential-process", *options).credentials == known


def test_configure(options, tmp_path):
    """`rolekey configure` keeps it, and the profile's line then refuses the file."""
    environment = {"ROLEKEY_CONFIG": str(tmp_path / "config.toml"), "AWS_CONFIG_FILE": str(tmp_path / "aws")}
    assert rolekey("configure", "strict", *options, FLAG, environment=environment).code == 0
    assert "require-non-exportable = true" in (tmp_path / "config.toml").read_text()
    rolekey("credential-process", "strict", environment=environment).failed(3, SAYS)


def test_boto3(files, emulator):
    """A session of boto3 is refused its credentials."""
    names = [word.removeprefix("--").replace("-", "_") for word in emulator.arguments[::2]]
    given = dict(zip(names, emulator.arguments[1::2], strict=True))
    given |= {"certificate": str(files / "leaf.pem"), "private_key": str(files / "leaf.key")}
    session = boto3_session(Options(**given, require_non_exportable=True))
    with pytest.raises(UnsupportedKeyError, match="this key is a file"):
        session.get_credentials().get_frozen_credentials()
    assert resolve_settings(Options(**given), os.environ).require_non_exportable is False


def test_help():
    """Each of the commands lists the option."""
    for command in ("credential-process", "serve", "update"):
        words = [sys.executable, "-m", "rolekey", command, "--help"]
        assert FLAG in subprocess.run(words, capture_output=True, text=True, check=True).stdout
