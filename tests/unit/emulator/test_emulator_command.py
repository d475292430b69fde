"""The command ``emulator``: its options, what it prints, and its end."""

import contextlib
import json
import shlex
import signal
import ssl
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from rolekey import errors
from rolekey.cli.emulator import emulator
from rolekey.emulator.configuration import DEFAULT_PROFILE_ARN, DEFAULT_ROLE_ARN, DEFAULT_TRUST_ANCHOR_ARN
from support.emulator_caller import make_caller
from support.pki import make_root, make_tls_certificate
from support.process import running_program

PATIENCE = 60.0
COMMAND = [sys.executable, "-c", "from rolekey.cli.emulator import emulator; emulator()"]


@contextlib.contextmanager
def started(*options):
    """The command in a process of its own, and its announcement's lines."""
    command = [*COMMAND, *map(str, options)]
    with running_program(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process, [process.stdout.readline().rstrip("\n") for _ in range(5)]


def test_the_command_serves_and_tells_how_to_call_it(tmp_path: Path):
    """First line the URL, then options ready to paste; TLS, the requests file, and an orderly end at SIGTERM."""
    caller = make_caller()
    caller.now = datetime.now(UTC)
    ca, _ = caller.root.write(tmp_path, "ca")
    certificate, key = make_tls_certificate(tmp_path)
    requests = tmp_path / "requests"
    tls = ["--tls-certificate", certificate, "--tls-key", key]
    with started("--ca", ca, *tls, "--requests", requests) as (process, lines):
        assert lines[0].startswith("listening on https://127.0.0.1:")
        url = lines[0].removeprefix("listening on ")
        assert shlex.split(" ".join(lines[1:]).replace("\\", "")) == [
            *("--endpoint", url),
            *("--trust-anchor-arn", DEFAULT_TRUST_ANCHOR_ARN),
            *("--profile-arn", DEFAULT_PROFILE_ARN),
            *("--role-arn", DEFAULT_ROLE_ARN),
        ]
        query = {
            "profileArn": DEFAULT_PROFILE_ARN,
            "roleArn": DEFAULT_ROLE_ARN,
            "trustAnchorArn": DEFAULT_TRUST_ANCHOR_ARN,
        }
        host = url.removeprefix("https://")
        body = {"roleSessionName": "demo"}
        wire = caller.wire(query=query, region="us-east-1", headers={"host": host}, body=body)
        request = urllib.request.Request(f"{url}/sessions?{wire.query.decode()}", data=wire.body, method="POST")
        for name, value in wire.headers:
            request.add_header(name.decode(), value.decode())
        context = ssl.create_default_context(cafile=str(certificate))
        with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as response:
            assert response.status == 201
            document = json.loads(response.read())
        process.send_signal(signal.SIGTERM)
        output, problems = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, problems) == (0, "", "")
    (entry,) = [json.loads(line) for line in requests.read_text().splitlines()]
    assert (entry["status"], entry["role_session_name"]) == (201, "demo")
    assert document["credentialSet"][0]["credentials"]["secretAccessKey"] not in requests.read_text()


def test_a_configuration_file_is_served(tmp_path: Path):
    """With --config the announcement names the file's own ARNs; --port is the port."""
    make_root().write(tmp_path, "ca")
    role, arn = "arn:aws:iam::123456789012:role/a b", "arn:aws:rolesanywhere:eu-west-1:123456789012"
    config = tmp_path / "emulator.toml"
    config.write_text(
        f'[[trust_anchors]]\narn = "{arn}:trust-anchor/x"\ncertificates = "ca.pem"\n'
        f'[[profiles]]\narn = "{arn}:profile/x"\nrole_arns = ["{role}"]\n'
    )
    with started("--config", config) as (_, lines):
        assert lines[0].startswith("listening on http://127.0.0.1:")
        assert lines[2:] == [
            f"--trust-anchor-arn {arn}:trust-anchor/x \\",
            f"--profile-arn {arn}:profile/x \\",
            f"--role-arn '{role}'",
        ]
        taken = lines[0].rpartition(":")[2]
        result = CliRunner().invoke(emulator, ["--config", str(config), "--port", taken])
        assert isinstance(result.exception, errors.ListenError)
        assert result.output == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "exactly one of --ca and --config is needed"),
        (["--ca", "x", "--config", "y"], "exactly one of --ca and --config is needed"),
        (["--config", "x", "--crl", "y"], "--crl belongs to --ca"),
        (["--ca", "x", "--tls-key", "y"], "--tls-key needs --tls-certificate"),
        (["--ca", "/nonexistent/ca.pem"], "/nonexistent/ca.pem: No such file or directory"),
        (["--config", "/nonexistent/x.toml"], "/nonexistent/x.toml: No such file or directory"),
        (["--ca", "x", "--tls-certificate", "/nonexistent/tls.pem"], "the TLS certificate and key cannot be used"),
    ],
)
def test_options_that_cannot_be_used_are_configuration_errors(options, told):
    """One line that names the cause, one that names the remedy, nothing on stdout."""
    result = CliRunner().invoke(emulator, options)
    assert isinstance(result.exception, errors.ConfigurationError)
    assert told in result.exception.message
    assert result.exception.hint
    assert result.output == ""
