"""rolekey's commands on Windows, with a key in a file: what they write, and where."""

import contextlib
import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ANCHOR = "arn:aws:rolesanywhere:us-east-1:123456789012:trust-anchor/4f1d7a0c-2c4f-4c12-9c55-1a2b3c4d5e6f"


@pytest.fixture
def options(emulator, windows_key):
    """Everything that credential-process needs."""
    return [*emulator.arguments, *windows_key]


def succeeded(done):
    """What a program printed that ended well, and said nothing on stderr."""
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_update(windows, options, emulator):
    r"""`update --once` writes the profile into %USERPROFILE%\.aws\credentials, which nobody else gets at; and again."""
    path = windows.home / ".aws" / "credentials"
    for number in range(2):
        assert succeeded(windows.run("rolekey", "update", "--once", "--profile", "web", *options)) == ""
        text = path.read_text("utf-8")
        assert text.startswith("[web]\n")
        assert f"aws_access_key_id = {emulator.granted[number]}\n" in text
        assert not path.stat().st_mode & 0o007
    # Another program's profile stays.
    path.write_text("[other]\naws_access_key_id = AKIAOTHER\n" + text, "utf-8")
    assert succeeded(windows.run("rolekey", "update", "--once", "--profile", "web", *options)) == ""
    assert path.read_text("utf-8").startswith("[other]\naws_access_key_id = AKIAOTHER\n[web]\n")
    assert emulator.granted[2] in path.read_text("utf-8")


def test_exec(windows, options, emulator):
    """`exec` runs a command with the credentials in its environment and ends with its exit code.

    What stands after the two dashes reaches the command as it was written: %VARIABLES%, ~ and * are its own affair.
    """
    show = "import os, sys; print(os.environ['AWS_ACCESS_KEY_ID'], *sys.argv[1:]); sys.exit(7)"
    done = windows.run("rolekey", "exec", *options, "--", "python", "-c", show, "%TEMP%", "~", "*", "a b")
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"{emulator.granted[0]} %TEMP% ~ * a b\n"


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        (["nothing-like-it"], 127, "rolekey: error: the command nothing-like-it is not found\n"),
        ([r"C:\windows"], 126, "rolekey: error: the command C:\\windows is a directory\n"),
        ([r"C:\windows\win.ini"], 126, "rolekey: error: the command C:\\windows\\win.ini is not executable\n"),
    ],
)
def test_exec_of_no_program(command, code, error, windows, options, emulator):
    """What cannot be run is refused before anything is asked or signed, without a word of chmod."""
    done = windows.run("rolekey", "exec", *options, "--", *command)
    assert done.returncode == code
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == 2
    assert "chmod" not in done.stderr
    assert emulator.requests == []


def test_login(windows, options, emulator):
    """`login` keeps the credentials; credential-process then has them without signing."""
    done = windows.run("rolekey", "login", *options)
    assert done.returncode == 0, done.stderr
    answer = json.loads(succeeded(windows.run("rolekey", "credential-process", *options)))
    assert [answer["AccessKeyId"]] == emulator.granted


def test_configure(windows, options, emulator, tmp_path):
    r"""`configure` writes %APPDATA%\rolekey\config.toml and a profile whose line works from any other terminal.

    The line starts rolekey by its whole path, since the machine's PATH does not lead to it; boto3 goes by it.
    """
    succeeded(windows.run("rolekey", "configure", "web", *options))
    section = tomllib.loads((windows.home / "AppData/Roaming/rolekey/config.toml").read_text("utf-8"))["web"]
    assert section["certificate"] == options[options.index("--certificate") + 1]
    config = (windows.home / ".aws/config").read_text("utf-8")
    program = windows.path(windows.place / "python" / "rolekey.exe")
    assert config == f"[profile web]\ncredential_process = {program} credential-process web\n\n"
    # What it has written itself it can change.
    succeeded(windows.run("rolekey", "configure", "web", "--timeout", "40"))
    assert (windows.home / ".aws/config").read_text("utf-8") == config
    # As from another directory and with another PATH.
    program = "import boto3; print(boto3.Session(profile_name='web').get_credentials().access_key)"
    python = windows.path(windows.place / "python" / "python.exe")
    assert succeeded(windows.run(python, "-c", program, directory=tmp_path)) == f"{emulator.granted[0]}\n"
    doctor = windows.run("rolekey", "doctor", "--profile", "web")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "warning" not in doctor.stdout
    assert "chmod" not in doctor.stdout


def test_configure_from_a_folder_with_a_space(windows, options, emulator):
    """Where rolekey's own path has a space, the line has the short name of it, and boto3 goes by it."""
    folder = windows.place / "prefix" / "drive_c" / "my tools"
    folder.mkdir(exist_ok=True)
    shutil.copy(windows.place / "python" / "rolekey.exe", folder)
    try:
        succeeded(windows.run(r"C:\my tools\rolekey.exe", "configure", "web", *options))
        config = (windows.home / ".aws/config").read_text("utf-8")
        line = config.partition("credential_process = ")[2].splitlines()[0]
        program = line.removesuffix(" credential-process web")
        assert program != line
        assert " " not in program
        assert '"' not in program
        ask = "import boto3; print(boto3.Session(profile_name='web').get_credentials().access_key)"
        assert succeeded(windows.run("python", "-c", ask)) == f"{emulator.granted[0]}\n"
    finally:
        shutil.rmtree(folder)


def test_a_file_that_is_read_only(windows, options):
    """A file that is marked read-only stops `configure` before anything is written, and the remedy undoes the mark."""
    config, identities = windows.home / ".aws/config", windows.home / "AppData/Roaming/rolekey/config.toml"
    config.parent.mkdir()
    config.write_text("[profile other]\n", "utf-8")
    config.chmod(0o444)
    done = windows.run("rolekey", "configure", "web", *options)
    assert done.returncode == 8
    assert done.stderr.splitlines()[1].startswith('rolekey: hint: attrib -r "C:\\users\\')
    assert not identities.exists()
    assert config.read_text("utf-8") == "[profile other]\n"
    config.chmod(0o644)
    succeeded(windows.run("rolekey", "configure", "web", *options))


def test_exec_of_a_batch_file(windows, options, tmp_path):
    """A batch file's argument that cmd would act on is refused: it would run with the credentials."""
    batch = tmp_path / "show.CMD"
    batch.write_text("@echo off\r\necho got %1\r\n")
    odd = ["x&ver", '"&ver"', "%TEMP%", "a^b", "a|b", "a>b", "!x!"]
    lines = [["exec", *options, "--", windows.path(batch), word] for word in ("plain", *odd)]
    plain, *others = windows.run_lines(lines, tmp_path / "lines")
    assert (plain[0], plain[1]) == (0, "got plain\n")
    for code, output, errors in others:
        assert (code, output) == (126, "")
        assert errors.startswith(f"rolekey: error: {windows.path(batch)} is a batch file")


def test_many_processes(windows, options, emulator):
    """Twelve processes that find the cache empty at once ask the service once, and print the same credentials."""
    with contextlib.ExitStack() as stack:
        words = ("rolekey", "credential-process", "--timeout", "100", *options)
        started = [stack.enter_context(windows.start(*words)) for _ in range(12)]
        answers = [process.communicate(timeout=120) for process in started]
    assert {process.returncode for process in started} == {0}
    assert len(set(answers)) == 1
    assert len(emulator.requests) == 1


LINES = {
    "the official helper, in quotes": '"C:\\My Tools\\aws_signing_helper.exe" credential-process {}',
    "an interpreter": "python -m rolekey credential-process {}",
    "the launcher of a version": r"C:\Windows\py.exe -3.12 -m rolekey credential-process {}",
    "a variable": r"%TEMP%\rolekey.exe credential-process {}",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_is_taken_over(line, windows, options):
    """`configure --from-aws-config` takes over a credential_process of any spelling that works on Windows.

    A certificate that the line names by %USERPROFILE%, which cmd puts in, has its whole path from then on.
    """
    certificate = options[options.index("--certificate") + 1]
    short = certificate.replace("Z:", r"%DRIVE%", 1)
    words = " ".join(f'"{short}"' if word == certificate else word for word in options)
    home = windows.home / ".aws"
    home.mkdir()
    (home / "config").write_text(f"[profile old]\ncredential_process = {line.format(words)}\n", "utf-8")
    succeeded(windows.run("rolekey", "configure", "web", "--from-aws-config", "old", environment={"DRIVE": "Z:"}))
    section = tomllib.loads((windows.home / "AppData/Roaming/rolekey/config.toml").read_text("utf-8"))["web"]
    assert section["certificate"] == certificate
    assert section["private-key"] == options[options.index("--private-key") + 1]
    assert (home / "config").read_text("utf-8").rstrip().endswith("rolekey.exe credential-process web")


def test_doctor(windows, options, key_options):
    """Doctor finds nothing wrong with a key file that only its owner reads, and says whom another one lets in.

    The remedy is a command of Windows.
    """
    done = windows.run("rolekey", "doctor", "--sign", *options)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout
    key = Path(key_options[3])
    key.chmod(0o644)
    try:
        done = windows.run("rolekey", "doctor", *options)
    finally:
        key.chmod(0o600)
    warning, remedy = done.stdout.split("warning  ")[1].splitlines()[:2]
    path = windows.path(key)
    assert f"{path} has an access list that lets Everyone in, so that others than its owner get at" in warning
    assert remedy.strip().startswith(f'icacls "{path}" /inheritance:r /grant:r *S-1-5-21-')


def test_a_certificate_request(windows, options, tmp_path):
    """`key csr` signs a request that OpenSSL verifies."""
    request = tmp_path / "request.pem"
    key = options[options.index("--private-key") + 1]
    done = windows.run("rolekey", "key", "csr", key, "--subject", "CN=machine", "--out", request)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        ["openssl", "req", "-in", request, "-noout", "-verify", "-subject"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "CN = machine" in done.stdout


def test_boto3_in_the_process(windows, emulator, windows_key):
    """boto3_session() signs in the program itself, which has the credentials from the cache the next time."""
    program = """if 1:
        import sys, rolekey
        names = ("endpoint", "trust_anchor_arn", "profile_arn", "role_arn", "certificate", "private_key")
        options = rolekey.Options(**dict(zip(names, sys.argv[1:], strict=True)))
        print(rolekey.boto3_session(options, region_name="us-east-1").get_credentials().access_key)
    """
    values = (emulator.url, emulator.trust_anchor_arn, emulator.profile_arn, emulator.role_arn, *windows_key[1::2])
    for _ in range(2):
        assert succeeded(windows.run("python", "-c", program, *values)) == f"{emulator.granted[0]}\n"
    assert len(emulator.requests) == 1


def test_other_commands(windows, windows_key):
    """sign-string, read-certificate-data, trust-policy, cache list and pin list do what they do elsewhere."""
    signed = succeeded(windows.run("rolekey", "sign-string", *windows_key, "--format", "text"))
    assert len(bytes.fromhex(signed.strip())) > 64
    data = succeeded(windows.run("rolekey", "read-certificate-data", *windows_key[:2]))
    assert json.loads(data)["keyType"] == "EC"
    policy = json.loads(
        succeeded(windows.run("rolekey", "trust-policy", "--trust-anchor-arn", ANCHOR, *windows_key[:2]))
    )
    assert policy["Statement"]
    assert succeeded(windows.run("rolekey", "cache", "list")) == ""
    assert succeeded(windows.run("rolekey", "pin", "list")) == ""
