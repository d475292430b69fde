"""`rolekey exec` before anything is asked: whose words are whose, which program is meant, which variables it gets."""

from datetime import UTC, datetime

import pytest

from rolekey.cli.ending import exit_code
from rolekey.cli.exec import find_program, split_command
from rolekey.cli.main import run
from rolekey.config import resolve_settings
from rolekey.credentials import Credentials
from rolekey.errors import CommandError, CommandNotFoundError
from rolekey.options import Options
from rolekey.vend.environment import CONTRADICTING, environment_with

CREDENTIALS = Credentials("ASIAEXAMPLE", "secret", "token", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))
OWN = {
    "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_CREDENTIAL_EXPIRATION": "2030-01-02T03:04:05Z",
}
REGION = dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "eu-west-1")
ID = "11111111-2222-3333-4444-555555555555"
OPTIONS = Options(
    trust_anchor_arn=f"arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/{ID}",
    profile_arn=f"arn:aws:rolesanywhere:eu-west-1:123456789012:profile/{ID}",
    role_arn="arn:aws:iam::123456789012:role/web",
    certificate="leaf.pem",
    private_key="pkcs11:token=t",
    pin_source="env:HSM_PIN",
    tpm_parent_password_source="env:PARENT_PIN",
)


@pytest.mark.parametrize(
    ("line", "own", "command"),
    [
        ("prod -- ls", "prod", "ls"),
        ("-- ls -- -h", "", "ls -- -h"),
        ("--region x --debug -- aws --region=y --debug", "--region x --debug", "aws --region=y --debug"),
        ("--region -- -- ls", "--region --", "ls"),
        ("--region --region -- ls", "--region --region", "ls"),
        ("--region=x -- --", "--region=x", "--"),
        ("prod ls", "prod ls", ""),
        ("prod --", "prod", ""),
        ("prod --region --", "prod --region --", ""),
        ("", "", ""),
    ],
)
def test_two_dashes_part_the_line(line, own, command):
    """What follows the first -- that is no option's value is the command's, all of it."""
    assert split_command(line.split(), {"--region"}) == (own.split(), command.split())


@pytest.mark.parametrize("line", ["", "prod", "prod --", "prod aws s3 ls --recursive", "--region -h", "--region --"])
def test_no_command(line, capfd):
    """Without a command it says where one belongs, whatever an option behind the name might be taken for."""
    assert run(["exec", *line.split()]) == 2
    text = capfd.readouterr().err
    assert text.splitlines()[0] == "rolekey: error: no command is given"
    assert "rolekey exec NAME -- COMMAND" in text


@pytest.mark.parametrize("words", [["-h"], ["prod", "--help"], ["--help", "--", "ls"]])
def test_help(words, capfd):
    """Before the two dashes --help is rolekey's."""
    assert run(["exec", *words]) == 0
    assert capfd.readouterr().out.startswith("Usage: rolekey exec [OPTIONS] [NAME] -- COMMAND [ARGUMENT]...\n")


def test_a_word_beside_the_name(capfd):
    """A second word before the dashes is refused: it is no part of the command."""
    assert run(["exec", "prod", "ls", "--", "-l"]) == 2
    assert "unexpected argument 'ls'" in capfd.readouterr().err


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A directory with a program, a file that is none, and a directory; PATH leads there, and we are there."""
    for name, mode in (("program", 0o755), ("text", 0o644)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "directory").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["program", "./program", "directory/../program", "{}/program"])
def test_the_program_that_a_shell_would_run(name, files):
    """A name is looked for in PATH, a path is taken as it is."""
    found = find_program(name.format(files), {"PATH": f"/nowhere:{files}"})
    assert (files / found).samefile(files / "program")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *((name, 127) for name in ("nothing", "./nothing", "directory", "", "./text/x", "x" * 5000)),
        *((name, 126) for name in ("text", "./text", "./directory")),
    ],
)
def test_no_program(name, code, files):
    """127 where there is none and 126 where it cannot be run, as in a shell."""
    with pytest.raises(CommandError) as caught:
        find_program(name, {"PATH": str(files)})
    assert exit_code(caught.value) == code
    assert isinstance(caught.value, CommandNotFoundError) is (code == 127)


def given(environment):
    """What a command gets of an environment, less the credentials' own variables."""
    everything = environment_with(CREDENTIALS, resolve_settings(OPTIONS, {}), environment)
    assert {name: everything.pop(name) for name in OWN} == OWN
    return everything


def test_an_empty_environment():
    """The four variables of the credentials, and the region under both of its names."""
    assert given({}) == REGION


@pytest.mark.parametrize("name", [*CONTRADICTING, *OWN, "AWS_BEARER_TOKEN_BEDROCK", "HSM_PIN", "PARENT_PIN"])
def test_what_is_taken_out(name):
    """What would win over the credentials, say other ones, or is a PIN."""
    assert given({name: "x"}) == REGION


@pytest.mark.parametrize("value", ["pkcs11:token=t?pin-value=1234", "x PIN-VALUE=1234"])
def test_a_pin_in_a_value_is_taken_out(value):
    """A variable with a PIN inside is one of a PIN."""
    assert given({"ROLEKEY_PRIVATE_KEY": value}) == REGION


def test_what_stays():
    """Everything else, also what rolekey itself reads, and files and endpoints that no credentials come from."""
    kept = {
        "PATH": "/bin",
        "ROLEKEY_PIN_SOURCE": "env:HSM_PIN",
        "AWS_CONFIG_FILE": "x",
        "AWS_ENDPOINT_URL": "http://localhost",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": "x.pem",
    }
    assert given(kept) == kept | REGION


@pytest.mark.parametrize("name", REGION)
def test_a_region_that_is_set_stays(name):
    """A region under either of the names is the user's choice; an empty one is none."""
    assert given({name: "us-east-1"}) == {name: "us-east-1"}
    assert given({name: ""}) == REGION
