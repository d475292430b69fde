"""docs/recipes.md: each unit file and command works as it stands there, in the surroundings that it is for."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.credentials import ContainerProvider

from rolekey.cli.serving import DEFAULT_PORT
from support.emulator import running_emulator
from support.process import GENEROUS, finish, patient, running_program, start_program
from support.serve_process import TTL, ask
from support.systemd_unit import DYNAMIC_USER, Unit
from support.watching import is_alive, wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
TOKEN_COMMAND, ONE_CONTAINER, SERVING_CONTAINER, ASKING_CONTAINER = [text for kind, text in BLOCKS if kind == "sh"]
SERVICE, DROP_IN = [text for kind, text in BLOCKS if kind == "ini"]
WRONG = "hunter2-canary"
BIN = Path(sys.executable).parent


def test_every_block_is_here():
    """No block of the page is left out."""
    assert len(BLOCKS) == 6


@pytest.fixture
def emulator(provisioned_token):
    with running_emulator(provisioned_token.root) as running:
        yield running


@pytest.fixture
def etc(tmp_path, provisioned_token, emulator):
    """What stands for the host's /etc/rolekey: the PIN, the token that the page's command makes, and the options."""
    directory = tmp_path / "host" / "etc" / "rolekey"
    directory.mkdir(parents=True, mode=0o700)
    subprocess.run(["bash", "-euc", TOKEN_COMMAND.replace("/etc/rolekey", str(directory))], check=True)
    (directory / "pin").touch(mode=0o600)
    (directory / "pin").write_text(provisioned_token.user_pin)
    (directory / "intermediate.pem").write_bytes(provisioned_token.intermediate.read_bytes())
    options = [
        *(*emulator.arguments, "--pkcs11-lib", str(provisioned_token.module)),
        *("--private-key", provisioned_token.uri("p-256", with_pin=False)),
        *("--intermediates", str(directory / "intermediate.pem")),
    ]
    variables = [f"{name}={value}" for name, value in provisioned_token.environment.items()]
    (directory / "options").write_text("\n".join([f"OPTIONS={' '.join(options)}", *variables]))
    return directory


# --- a systemd service ---


@pytest.mark.rig("systemd")
def test_systemd_knows_the_units(tmp_path):
    """`systemd-analyze verify` has nothing to say of the service and of the other one's drop-in."""
    unit = SERVICE.replace("/usr/local/bin/rolekey", str(BIN / "rolekey"))
    (tmp_path / "rolekey.service").write_text(unit)
    (tmp_path / "app.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / "app.service.d").mkdir()
    (tmp_path / "app.service.d" / "rolekey.conf").write_text(DROP_IN)
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
    for name in ("rolekey.service", "app.service"):
        done = subprocess.run([*words, tmp_path / name], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Service:
    """The service of the page, to be started as systemd starts it."""

    def __init__(self, etc, directory) -> None:
        self.unit = Unit.parse("rolekey", SERVICE)
        self._etc, self._directory = etc, directory
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        self.log = directory / "log"
        self.environment = self.unit.environment(etc)

    @contextmanager
    def running(self, *before, **variables):
        """It, as a Popen; killed at the end of the block."""
        program, *words = self.unit.command(self.environment)
        words += ["--port", "0"]  # the usual one may be somebody's
        assert Path(program).name == "rolekey"
        command = [*before, sys.executable, "-m", "rolekey", *patient(words)]
        # The environment stands on the command line: unshare and mount need other paths than the service has.
        variables = [f"{name}={value}" for name, value in (self.environment | variables).items()]
        words = self.unit.sandboxed(self._etc, self.state, ["env", "-i", *variables, *command])
        streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        with (
            self.log.open("w") as log,
            running_program(words, stdout=log, start_new_session=True, **streams) as process,
        ):
            yield process

    def end(self):
        """How it ends by itself, and what it said."""
        with self.running() as process:
            code = process.wait(120)
        return code, self.log.read_text()


@pytest.fixture
def service(etc, tmp_path):
    return Service(etc, tmp_path)


@pytest.mark.rig("softhsm", "emulator", "namespace")
def test_the_service(service, etc, emulator, tmp_path):
    """The service is ready with its first credentials, hands them to the other one, and ends.

    It has neither home nor terminal; what it leaves is the record of PINs.
    """
    assert "HOME" not in service.environment
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        with service.running(NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            assert manager.recv(100) == b"READY=1", service.log.read_text()
            urls = re.findall("listening on (.*)", service.log.read_text())
            assert ask(urls[0], "/readyz").status == 200
            assert client_of(urls[0], etc).access_key == emulator.granted[-1]
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(60) == 0
    said = service.log.read_text()
    assert said == "".join(f"rolekey: listening on {url}\n" for url in urls)
    assert [path.name for path in (service.state / "rolekey").iterdir()] == ["pins"]


def client_of(url, etc):
    """The credentials that botocore gets as the other service, with the variables of the page."""
    unit = Unit.parse("app", DROP_IN)
    directory = etc / "app"
    directory.mkdir()
    for name, path in unit.credentials.items():
        (directory / name).write_bytes((etc / Path(path).name).read_bytes())
    of_the_page = unit.variables()
    assert len(of_the_page) == 2
    variables = {
        name: value.replace(unit.credentials_directory, str(directory)).replace(str(DEFAULT_PORT), str(port_of(url)))
        for name, value in of_the_page.items()
    }
    return ContainerProvider(environ=variables).load().get_frozen_credentials()


def port_of(url):
    """The port that stands for the page's."""
    return urlsplit(url).port


@pytest.mark.rig("softhsm", "emulator", "namespace", "strace")
def test_sockets_of_the_service(service):
    """The service opens sockets of the families that its unit allows, and of no others; it needs the kernel's, too."""
    strace = ["strace", "-D", "-f", "-o", "/var/lib/rolekey/trace", "-e", "trace=socket"]
    with service.running(*strace) as process:
        wait_until(lambda: service.log.read_text().count("listening on") == 2 or process.poll() is not None)
        assert process.poll() is None, service.log.read_text()
        url = service.log.read_text().split()[-1]
        assert ask(url, "/latest/api/token", {TTL: "60"}, "PUT").status == 200
        process.terminate()
        process.wait(60)
    families = set(re.findall(r"socket\((AF_\w+)", (service.state / "trace").read_text()))
    assert "AF_NETLINK" in families
    assert families <= set(service.unit.one("RestrictAddressFamilies").split())


@pytest.mark.rig("softhsm", "emulator", "namespace")
def test_wrong_pin_of_the_service(service, etc, emulator):
    """A wrong PIN is one try of the token, however often the service is started; systemd does not start it again."""
    (etc / "pin").write_text(WRONG)
    code, said = service.end()
    assert code == 4, said
    assert "CKR_PIN_INCORRECT" in said
    assert str(code) in service.unit.one("RestartPreventExitStatus").split()
    for _ in range(2):
        code, said = service.end()
        assert code == 4
        assert "the PIN from the systemd credential pin was refused" in said
        assert "it is not sent again" in said
    assert WRONG not in said
    assert emulator.requests == []


PROBE = """
for at in / /tmp /etc /usr /run /var/lib /dev/shm PLACES; do if [ -w "$at" ]; then echo "$at"; fi; done
echo "${HOME-no home}"
id -un 2>/dev/null || true
(exec </dev/tty) 2>/dev/null || echo no terminal
"""


@pytest.mark.rig("softhsm", "emulator", "namespace")
def test_surroundings_of_the_service(service, etc, tmp_path):
    """What stands for systemd leaves nothing to write but the service's directories, no home and no terminal."""
    probe = [
        "env",
        "-i",
        "PATH=/usr/bin:/bin",
        "sh",
        "-c",
        PROBE.replace("PLACES", "/run/rolekey /var/lib/rolekey /run/credentials"),
    ]
    words = service.unit.sandboxed(etc, tmp_path / "state", probe)
    outcome = finish(start_program(*words))
    expected = ["/dev/shm", "/run/rolekey", "/var/lib/rolekey", "no home", str(DYNAMIC_USER), "no terminal"]
    assert outcome.stdout.splitlines() == expected, outcome.stderr


# --- a container ---


@pytest.fixture
def shell(tmp_path, etc, provisioned_token):
    """Runs a block of the page, with something that stands for docker."""
    host = tmp_path / "host"
    (host / "rolekey-state").mkdir(mode=0o700)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "docker").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m support.container "$@"\n')
    (programs / "docker").chmod(0o755)
    image = {"PATH": f"{BIN}:/usr/bin:/bin", **provisioned_token.environment}
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "CONTAINER_HOST": str(host),
        "CONTAINER_IMAGE": json.dumps(image),
    }
    options = (etc / "options").read_text().splitlines()[0].partition("=")[2] + f" --timeout {GENEROUS}"

    def run(block, *more):
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            env=environment | {"OPTIONS": f"{options} {' '.join(more)}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            start_new_session=True,
        )

    run.host = host
    return run


@pytest.mark.rig("softhsm", "emulator", "namespace")
def test_surroundings_of_the_container(shell):
    """What stands for docker leaves nothing to write but the volume, no list of users, no home and no terminal."""
    block, count = re.subn("rolekey credential-process .*", 'sh -c "$PROBE"', ONE_CONTAINER)
    assert count == 1
    done = shell(f"export PROBE={shlex.quote(PROBE.replace('PLACES', '/etc/rolekey /var/lib/rolekey'))}; {block}")
    assert done.stdout.splitlines() == ["/dev/shm", "/var/lib/rolekey", "no home", "10001", "no terminal"], done.stderr


@pytest.mark.rig("softhsm", "emulator", "namespace")
def test_one_container(shell, emulator):
    """`credential-process` in a container prints credentials, and nothing else."""
    done = shell(ONE_CONTAINER)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["AccessKeyId"] == emulator.granted[-1]
    assert done.stderr == ""


@pytest.mark.rig("softhsm", "emulator", "namespace")
def test_wrong_pin_in_a_container(shell, etc, emulator):
    """A wrong PIN is one try of the token, however many containers are started: the record is on the volume."""
    (etc / "pin").write_text(WRONG)
    first, second = shell(ONE_CONTAINER), shell(ONE_CONTAINER)
    assert (first.returncode, second.returncode) == (4, 4)
    assert "CKR_PIN_INCORRECT" in first.stderr
    assert "it is not sent again" in second.stderr
    assert "/etc/rolekey/pin" in second.stderr
    assert emulator.requests == []


@pytest.mark.rig("softhsm", "emulator", "namespace")
def test_two_containers(shell, emulator):
    """The application gets credentials from the container that has the key, with boto3 and the page's variables."""
    done = shell(SERVING_CONTAINER, "--port", "0")
    assert (done.returncode, done.stdout) == (0, "rolekey\n"), done.stderr
    number, log = int((shell.host / "rolekey.pid").read_text()), shell.host / "rolekey.log"
    try:
        wait_until(lambda: "[::1]" in log.read_text() or not is_alive(number))
        assert is_alive(number), log.read_text()
        url = log.read_text().split()[-1]
        asked = shell(ASKING_CONTAINER.replace(str(DEFAULT_PORT), str(port_of(url))))
        assert asked.stdout == f"{emulator.granted[-1]}\n", (asked.stderr, log.read_text())
    finally:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
