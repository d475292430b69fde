"""The table of docs/compatibility.md: each command, run here and on Windows; scripts/module-table writes it."""

import subprocess
import sys

import pytest

from rolekey.cli.key import key as key_group
from rolekey.cli.main import COMMANDS
from support.page_table import PageTable
from support.process import rolekey, running_program
from support.serve_process import running_serve
from support.windows_serve import running_python, running_windows_serve
from support.windows_token import LABEL

TABLE = PageTable("compatibility.md", "command", ("Linux", "Windows (Wine)", "macOS"))
# {all} is what credential-process needs, {pair} the certificate and the key, each as options of their own.
LINES = {
    "cache": "cache list",
    "configure": "configure table {all}",
    "credential-process": "credential-process {all}",
    "doctor": "doctor --sign {all}",
    "exec": "exec {all} -- {python} -c pass",
    "key csr": "key csr {key} --subject CN=table --out {directory}/request.pem --force",
    "key inspect": "key inspect {key}",
    "login": "login {all}",
    "pin": "pin list",
    "read-certificate-data": "read-certificate-data --certificate {certificate}",
    "sign-string": "sign-string {pair}",
    "trust-policy": "trust-policy {all}",
    "update": "update --once --profile updated {all}",
    "version": "version",
}
# On Windows the token of the tests has no room for new keys.
ON_TOKENS = {
    "key generate": "key generate {token};object=table --type p256",
    "key import-certificate": "key import-certificate {token};object=p-256 {certificates}/p-256.pem --force",
    "key list": "key list",
}
TOKEN = "pkcs11:token=rolekey-softhsm"
SERVERS = ("emulator", "serve")


def values_of(emulator, pair, directory, python):
    """What is put into the lines."""
    return {
        "all": [*emulator.arguments, *pair],
        "pair": pair,
        "certificate": pair[1],
        "key": pair[3],
        "directory": directory,
        "python": python,
    }


def words_of(line, values):
    """The words of a line; one that stands for several becomes these."""
    words = []
    for word in line.split():
        whole = values.get(word.strip("{}"))
        words += whole if isinstance(whole, list) else [word.format_map(values)]
    return words


def emulator_listens(process):
    """Whether a `rolekey emulator` says that it does."""
    line = process.stdout.readline()
    return (line if isinstance(line, str) else line.decode()).startswith("listening on ")


@pytest.fixture
def on_linux(emulator, root, key_options, provisioned_token, tmp_path, monkeypatch):
    """What ran on this machine, and was there to be asked where it serves."""
    monkeypatch.setenv("HOME", str(tmp_path))
    token = provisioned_token.copy(tmp_path / "softhsm")
    values = values_of(emulator, key_options, tmp_path, sys.executable)
    ran = {name for name, line in LINES.items() if rolekey(*words_of(line, values)).code == 0}
    more = ("--pkcs11-lib", str(token.module), "--pin-source", f"file:{token.directory}/user-pin")
    for name, line in ON_TOKENS.items():
        words = words_of(line, {"token": TOKEN, "certificates": token.directory / "certificates"})
        if rolekey(*words, *more, environment=token.environment).code == 0:
            ran.add(name)
    with running_serve(tmp_path, *emulator.arguments, *key_options) as served:
        if served.container().status == 200:
            ran.add("serve")
    certificate, _ = root.write(tmp_path, "ca")
    command = [sys.executable, "-m", "rolekey", "emulator", "--ca", str(certificate)]
    with running_program(command, stdout=subprocess.PIPE) as process:
        if emulator_listens(process):
            ran.add("emulator")
    return ran


@pytest.fixture
def on_windows(emulator, root, windows_key, windows, token, tmp_path):
    """What ran on Windows, and was there to be asked where it serves."""
    values = values_of(emulator, windows_key, windows.path(tmp_path), "python")
    outcomes = windows.run_lines([words_of(line, values) for line in LINES.values()], tmp_path / "lines")
    ran = {name for name, (code, _, _) in zip(LINES, outcomes, strict=True) if code == 0}
    listed = windows.run("rolekey", "key", "list", "--pkcs11-lib", token.module, environment=token.environment)
    if listed.returncode == 0 and LABEL in listed.stdout:
        ran.add("key list")
    with running_windows_serve(windows, *emulator.arguments, *windows_key) as served:
        if served.container().status == 200:
            ran.add("serve")
    certificate, _ = root.write(tmp_path, "ca")
    with running_python(windows, "-m", "rolekey", "emulator", "--ca", windows.path(certificate)) as process:
        if emulator_listens(process):
            ran.add("emulator")
    return ran


def test_the_table(on_linux, on_windows, request):
    """docs/compatibility.md says of each command, without exception, where it was run; nothing was on macOS."""
    every = {*COMMANDS, *(f"key {name}" for name in key_group.commands)} - {"key"}
    assert every == {*LINES, *ON_TOKENS, *SERVERS}
    assert on_linux == every
    rows = {
        f"`{name}`": {"Linux": "run", "Windows (Wine)": "run" if name in on_windows else "not run", "macOS": "not run"}
        for name in sorted(every)
    }
    TABLE.check(rows, write=request.config.getoption("--write-module-table"))
