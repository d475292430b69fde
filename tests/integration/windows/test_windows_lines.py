"""A credential_process line on Windows: what two SDKs make of it, as docs/tutorial-windows.md says.

boto3 takes the line apart itself, the AWS SDK for Go has cmd do it. Each is a program of its own under Wine, moto has
the account, and the emulator lets the certificate in.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from support import sdk_programs
from support.moto_server import running_moto
from support.pki import make_root
from support.process import running_program
from support.windows_page import masked

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/tutorial"
ANCHOR = f"arn:aws:rolesanywhere:us-east-1:{ACCOUNT}:trust-anchor/11111111-2222-4333-8444-555555555555"
PROFILE = f"arn:aws:rolesanywhere:us-east-1:{ACCOUNT}:profile/66666666-7777-4888-8999-000000000000"
BUCKETS = [f"walkthrough-{number}" for number in (1, 2, 3)]
NUMBERED = [f"Bucket {number}: {name}" for number, name in enumerate(BUCKETS, 1)]
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/tutorial/51a7c0de"
BUCKETS_PROGRAM = Path(sdk_programs.__file__).parents[1] / "interop" / "python" / "buckets.py"
CONFIGURATION = f"""
trust_anchors = [{{ arn = "{ANCHOR}", certificates = "root.pem" }}]
profiles = [{{ arn = "{PROFILE}", role_arns = ["{ROLE}"] }}]
"""

pytestmark = pytest.mark.rig("moto", "emulator", "go")


@dataclass(frozen=True)
class Account:
    """An account with a role and three buckets.

    Args:
        url: moto's.
        options: of rolekey, which get the role.
        certificate, key: of a machine that may have it.
    """

    url: str
    options: str
    certificate: Path
    key: Path

    @property
    def environment(self):
        """What a program needs to find it."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    directory = tmp_path_factory.mktemp("account")
    root = make_root()
    root.write(directory, "root")
    certificate, key = root.issue(serial=0x51A7C0DE).write(directory, "machine")
    (directory / "roles-anywhere.toml").write_text(CONFIGURATION)
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    variables = {name.upper(): value for name, value in keys.items() if name.startswith("aws_")}
    with running_moto(directory) as url:
        s3, iam = (boto3.client(name, endpoint_url=url, **keys) for name in ("s3", "iam"))
        for name in BUCKETS:
            s3.create_bucket(Bucket=name)
        iam.create_role(RoleName="tutorial", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17"}))
        words = [sdk_programs.ROLEKEY, "emulator", "--config", directory / "roles-anywhere.toml", "--sts-endpoint", url]
        with running_program(words, env=variables, stdout=subprocess.PIPE) as emulator:
            *_, endpoint = emulator.stdout.readline().split()
            arns = f"--trust-anchor-arn {ANCHOR} --profile-arn {PROFILE} --role-arn {ROLE}"
            yield Account(url, f"--endpoint {endpoint} {arns}", certificate, key)


@pytest.fixture
def keys_in(windows, account):
    """Puts certificate and key into a folder of the user's home, which is gone afterwards."""
    made = []

    def put(name):
        folder = windows.home / name
        folder.mkdir()
        made.append(folder)
        for file in (account.certificate, account.key):
            shutil.copy(file, folder)
        return rf"C:\users\{windows.home.name}\{name}"

    yield put
    for folder in made:
        shutil.rmtree(folder)


def write_config(windows, line, encoding="utf-8"):
    directory = windows.home / ".aws"
    directory.mkdir(exist_ok=True)
    text = f"[profile tutorial]\r\nregion = us-east-1\r\ncredential_process = {line}\r\n"
    (directory / "config").write_bytes(text.encode(encoding))


def run_go(windows, account, *words, **more):
    program = sdk_programs.WALKTHROUGH_FOR_WINDOWS
    return masked(windows.run(program, *words, environment={**account.environment, **more}))


def run_boto3(windows, account, **more):
    variables = {**account.environment, "AWS_PROFILE": "tutorial", **more}
    return masked(windows.run("python", BUCKETS_PROGRAM, environment=variables))


def go_gets_them(done):
    assert (done.returncode, done.stderr) == (0, "")
    access_key, secret_key, session_token, *buckets = done.stdout.splitlines()
    assert re.fullmatch("Access Key: ASIA[A-Z0-9]{16}", access_key)
    assert (secret_key, session_token) == ("Secret Key: ***", "Session Token: ***")
    assert buckets == NUMBERED


def boto3_gets_them(done):
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [SESSION, *BUCKETS]


def is_refused(done, *words):
    assert done.returncode != 0
    assert "Bucket" not in done.stdout
    for word in words:
        assert word in done.stderr


def test_whole_paths(windows, account, keys_in):
    """Single backslashes, in the program's path and in others, are what they are, in both SDKs."""
    folder = keys_in("keys")
    program = windows.path(windows.place / "python" / "rolekey.exe")
    paths = rf"--certificate {folder}\machine.pem --private-key {folder}\machine.key"
    write_config(windows, f"{program} credential-process {account.options} {paths}")
    go_gets_them(run_go(windows, account))
    boto3_gets_them(run_boto3(windows, account))


def test_slashes(windows, account, keys_in):
    """An option's value may have slashes, in both SDKs."""
    folder = keys_in("keys").replace("\\", "/")
    paths = f"--certificate {folder}/machine.pem --private-key {folder}/machine.key"
    write_config(windows, f"rolekey credential-process {account.options} {paths}")
    go_gets_them(run_go(windows, account))
    boto3_gets_them(run_boto3(windows, account))


def test_variables(windows, account, keys_in):
    """For Go cmd expands %USERPROFILE%, in the program's path, too; for boto3 nobody does, and rolekey says so."""
    keys_in("keys")
    shutil.copy(windows.place / "python" / "rolekey.exe", windows.home / "keys")
    paths = r"--certificate %USERPROFILE%\keys\machine.pem --private-key %USERPROFILE%\keys\machine.key"
    write_config(windows, rf"%USERPROFILE%\keys\rolekey.exe credential-process {account.options} {paths}")
    go_gets_them(run_go(windows, account))
    is_refused(run_boto3(windows, account), "[WinError 2]")
    write_config(windows, f"rolekey credential-process {account.options} {paths}")
    is_refused(run_boto3(windows, account), r"%USERPROFILE%\keys\machine.pem")


def test_quotes(windows, account, keys_in):
    """boto3 takes quotes away, around a program, too; Go keeps them, and rolekey says so, or cmd finds no program."""
    folder = keys_in("my keys")
    paths = rf'--certificate "{folder}\machine.pem" --private-key "{folder}\machine.key"'
    write_config(windows, f"rolekey credential-process {account.options} {paths}")
    boto3_gets_them(run_boto3(windows, account))
    is_refused(
        run_go(windows, account), "rolekey: error: an argument has a double quote in it", "`rolekey configure NAME`"
    )
    keys_in("keys")
    paths = rf'--certificate "C:\users\{windows.home.name}\keys\machine.pem"'
    write_config(windows, f"rolekey credential-process {account.options} {paths}")
    is_refused(run_go(windows, account, "-profile", "tutorial"), "rolekey: error: an argument has a double quote in it")
    shutil.copy(windows.place / "python" / "rolekey.exe", windows.home / "my keys")
    paths = rf"--certificate C:\users\{windows.home.name}\keys\machine.pem"
    paths += rf" --private-key C:\users\{windows.home.name}\keys\machine.key"
    write_config(windows, rf'"{folder}\rolekey.exe" credential-process {account.options} {paths} --no-cache')
    boto3_gets_them(run_boto3(windows, account))
    is_refused(run_go(windows, account), "as an internal or external command")


def test_letters_beyond_ascii(windows, account, keys_in):
    """Go reads the file as UTF-8, boto3 in the computer's code page: no file with such a path serves both."""
    folder = keys_in("schlüssel")
    paths = rf"--certificate {folder}\machine.pem --private-key {folder}\machine.key"
    write_config(windows, f"rolekey credential-process {account.options} {paths}")
    go_gets_them(run_go(windows, account))
    is_refused(run_boto3(windows, account, PYTHONUTF8="0"), "rolekey: error: cannot read the certificate")
    write_config(windows, f"rolekey credential-process {account.options} {paths}", "cp1252")
    boto3_gets_them(run_boto3(windows, account, PYTHONUTF8="0"))


def test_a_named_identity(windows, account, keys_in):
    """In a folder with a space and an umlaut in its name, `rolekey configure` writes a line that serves both SDKs."""
    keys_in("my schlüssel")
    folder = windows.home / "my schlüssel"
    words = ("--certificate", "machine.pem", "--private-key", "machine.key", "--profile", "tutorial")
    done = windows.run("rolekey", "configure", "named", *account.options.split(), *words, directory=folder)
    assert (done.returncode, done.stderr) == (0, "")
    config = (windows.home / ".aws" / "config").read_bytes()
    assert config.isascii()
    assert b'"' not in config
    go_gets_them(run_go(windows, account))
    boto3_gets_them(run_boto3(windows, account))


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", None], ids=["bom", "utf-16"])
def test_what_powershell_writes(windows, account, start):
    """A config file with a BOM, and one in UTF-16, are no files that boto3 reads, or has a profile in for Go."""
    write_config(windows, f"rolekey credential-process {account.options}")
    file = windows.home / ".aws" / "config"
    text = file.read_bytes()
    file.write_bytes(start + text if start else text.decode().encode("utf-16"))
    is_refused(run_boto3(windows, account), "Unable to parse config file")
    is_refused(run_go(windows, account), "failed to get shared config profile, tutorial")


def test_static_keys(windows, account, keys_in):
    """Keys in the environment lose against a profile that the program names, and those of its credentials file win."""
    folder = keys_in("keys")
    paths = rf"--certificate {folder}\machine.pem --private-key {folder}\machine.key"
    write_config(windows, f"rolekey credential-process {account.options} {paths}")
    static = {"AWS_ACCESS_KEY_ID": "AKIASTATICSTATICSTAT", "AWS_SECRET_ACCESS_KEY": "testing"}
    go_gets_them(run_go(windows, account, **static))
    lines = [f"{name.lower()} = {value}" for name, value in static.items()]
    (windows.home / ".aws" / "credentials").write_text("\n".join(["[tutorial]", *lines, ""]))
    for done in (run_go(windows, account), run_boto3(windows, account)):
        assert done.returncode == 0
        assert SESSION not in done.stdout
    assert "Access Key: AKIASTATICSTATICSTAT\n" in run_go(windows, account).stdout


def test_the_same_program_on_this_machine(account, tmp_path):
    """The Go program is none of Windows': the profile's line gets it the three buckets here, too."""
    line = f'"{sdk_programs.ROLEKEY}" credential-process {account.options}'
    paths = f'--certificate "{account.certificate}" --private-key "{account.key}"'
    # Go takes a quote at the line's beginning away together with one at its end.
    (tmp_path / "config").write_text(f"[profile tutorial]\ncredential_process = {line} {paths} --no-cache\n")
    variables = {**account.environment, "AWS_CONFIG_FILE": str(tmp_path / "config"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sdk_programs.WALKTHROUGH],
        env={"PATH": "/usr/bin:/bin", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    go_gets_them(masked(done))
