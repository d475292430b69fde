"""One line in ~/.aws/config, as each of the four SDKs reads it; docs/tutorial.md's table of static keys."""

import os
import re
import sys
from pathlib import Path

import pytest

from support.emulator import running_emulator
from support.pki import make_root
from support.sdk_programs import RIGS, run_sdk
from support.service import ScriptedService, answer

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:sts::111122223333:assumed-role/reader/session</Arn><UserId>AROAEXAMPLE:session</UserId>
<Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""
BUCKETS = b"""<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Buckets><Bucket><Name>bucket-1</Name>
</Bucket></Buckets><Owner><ID>1</ID></Owner></ListAllMyBucketsResult>"""
XML = {"Content-Type": "text/xml"}
KEYS = {"aws_access_key_id": "AKIASTATIC", "aws_secret_access_key": "secret"}
SECTION = "".join(f"{name} = {value}\n" for name, value in KEYS.items())

SDKS = [pytest.param(sdk, marks=[pytest.mark.rig("emulator", *rigs)]) for sdk, rigs in RIGS.items()]


class Machine:
    """A user's ~/.aws, a Roles Anywhere, and an AWS in two places.

    Args:
        home: an existing directory, with a space in its name.
        emulator: a running one, for whose trust anchor there is a certificate in `home`.
    """

    def __init__(self, home, emulator):
        self._home = home
        self._emulator = emulator
        words = " ".join(emulator.arguments)
        self.command = f"credential_process = rolekey credential-process {words}"

    def ask(self, sdk, config, credentials="", **environment):
        """Run an SDK's program: how it ended, and the access key ids with which it asked STS and S3."""
        (self._home / "config").write_text(config)
        (self._home / "credentials").write_text(credentials)
        with (
            ScriptedService((answer(200, IDENTITY, XML),)) as sts,
            ScriptedService((answer(200, BUCKETS, XML),)) as s3,
        ):
            done = run_sdk(
                sdk,
                {
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                    "HOME": str(self._home),
                    "XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"],
                    "AWS_CONFIG_FILE": str(self._home / "config"),
                    "AWS_SHARED_CREDENTIALS_FILE": str(self._home / "credentials"),
                    "AWS_PROFILE": "prod",
                    "AWS_REGION": "us-east-1",
                    "AWS_DEFAULT_REGION": "us-east-1",
                    "AWS_EC2_METADATA_DISABLED": "true",
                    "AWS_ENDPOINT_URL_STS": sts.url,
                    "AWS_ENDPOINT_URL_S3": s3.url,
                    **environment,
                },
            )
            asked = [request.header("Authorization") for request in (*sts.requests, *s3.requests)]
        return done, [re.search("Credential=([^/]+)/", authorization)[1] for authorization in asked]

    @property
    def granted(self):
        """The access key ids that the emulator gave out."""
        return self._emulator.granted


@pytest.fixture
def machine(tmp_path):
    """One, in a directory with a space."""
    home = tmp_path / "my home"
    home.mkdir()
    root = make_root()
    ca, _ = root.write(home, "ca")
    root.issue().write(home, "leaf")
    with running_emulator(ca) as emulator:
        yield Machine(home, emulator)


def files(home, quote):
    return f" --certificate {quote(home / 'leaf.pem')} --private-key {quote(home / 'leaf.key')}\n"


QUOTINGS = {
    "double quotes": '"{}"'.format,
    "single quotes": "'{}'".format,
    "backslashes": lambda path: str(path).replace(" ", "\\ "),
}


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("quoting", QUOTINGS)
def test_paths_with_spaces(machine, tmp_path, sdk, quoting):
    """The line that the page writes works in each SDK, whichever way the shell's user quotes a path with a space.

    The SDK asks STS and S3 where AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL_S3 say, and rolekey's cache serves a program
    that asks for credentials twice.
    """
    line = machine.command + files(tmp_path / "my home", QUOTINGS[quoting])
    done, keys = machine.ask(sdk, f"[profile prod]\n{line}")
    assert done.returncode == 0, done.stderr
    assert "arn:aws:sts::111122223333:assumed-role/reader/session" in done.stdout
    assert "bucket-1" in done.stdout
    assert len(machine.granted) == 1
    assert keys == machine.granted * 2


@pytest.mark.parametrize("sdk", SDKS)
def test_a_path_with_a_space_and_no_quotes(machine, tmp_path, sdk):
    """Nobody is asked; the reader learns of the quotes, but in JavaScript, whose chain swallows what rolekey says."""
    line = machine.command + files(tmp_path / "my home", str)
    done, keys = machine.ask(sdk, f"[profile prod]\n{line}")
    assert done.returncode != 0
    assert (keys, machine.granted) == ([], [])
    check_told(sdk, done.stderr, "put values with spaces in double quotes")


@pytest.mark.parametrize("sdk", SDKS)
def test_a_line_that_ends_in_a_backslash(machine, tmp_path, sdk):
    """The cause is named; Go's shell puts the lines together, so that it works there."""
    line = f"{machine.command} \\\n {files(tmp_path / 'my home', QUOTINGS['double quotes'])}"
    done, keys = machine.ask(sdk, f"[profile prod]\n{line}")
    if sdk == "go":
        assert done.returncode == 0, done.stderr
        assert keys == machine.granted * 2
        return
    assert done.returncode != 0
    assert (keys, machine.granted) == ([], [])
    check_told(sdk, done.stderr, "a backslash stands at the end of a line: ~/.aws/config has no continuation lines")


def check_told(sdk, stderr, words):
    """Whether the SDK passes on what rolekey says, as the page tells."""
    if sdk == "javascript":
        assert "Could not load credentials from any providers" in stderr
        assert "rolekey" not in re.sub("/[^ ]*", "", stderr)
    else:
        assert words in stderr


COLUMNS = {"boto3": "boto3", "AWS CLI": "awscli", "JavaScript": "javascript", "Go": "go"}


def table():
    """The page's table: place of the keys, SDK, who wins."""
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")
    ]
    assert [COLUMNS[name] for name in header[1:]] == list(RIGS)
    for place, *winners in rows:
        for sdk, winner in zip(RIGS, winners, strict=True):
            yield pytest.param(place, sdk, winner, marks=[pytest.mark.rig("emulator", *RIGS[sdk])])


def test_the_table_has_every_place():
    """Three places of static keys and four SDKs."""
    assert len(list(table())) == 12


@pytest.mark.parametrize(("place", "sdk", "winner"), list(table()))
def test_static_keys_beside_the_line(machine, tmp_path, place, sdk, winner):
    """Who wins is what the page's table says, and rolekey makes no signature where it has lost."""
    config = f"[profile prod]\n{machine.command}{files(tmp_path / 'my home', QUOTINGS['double quotes'])}"
    if place == "the profile's section of `~/.aws/credentials`":
        done, keys = machine.ask(sdk, config, f"[prod]\n{SECTION}")
    elif place == "the profile's section of `~/.aws/config`":
        done, keys = machine.ask(sdk, config + SECTION)
    else:
        assert place == "`AWS_ACCESS_KEY_ID`, with `AWS_PROFILE`"
        done, keys = machine.ask(sdk, config, **{name.upper(): value for name, value in KEYS.items()})
    assert done.returncode == 0, done.stderr
    if winner == "keys":
        assert keys == ["AKIASTATIC"] * 2
        assert machine.granted == []
    else:
        assert winner == "rolekey"
        assert keys == machine.granted * 2
