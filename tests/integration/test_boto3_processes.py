"""boto3 and aiobotocore with credentials from real keys, beside the processes and forks that programs have."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rolekey.config import resolve_settings
from rolekey.vend.boto3 import boto3_session
from support import aiobotocore
from support.emulator import RunningEmulator, running_emulator
from support.pki import make_root
from support.process import rolekey
from support.sdk import caller_identity_service, signed_with
from support.service import FOREVER, Pause, ScriptedService, session_answer
from support.watching import wait_until

pytestmark = pytest.mark.rig("emulator")


@pytest.fixture
def sts():
    with caller_identity_service() as service:
        yield service


@pytest.fixture
def key_file(tmp_path):
    """The CA's file, and the options of a key in a file."""
    root = make_root()
    certificate, private_key = root.issue().write(tmp_path, "leaf")
    ca, _ = root.write(tmp_path, "root")
    return ca, {"certificate": str(certificate), "private_key": str(private_key)}


@pytest.fixture
def token_options(provisioned_token):
    return {
        "private_key": provisioned_token.uri("p-256"),
        "pkcs11_lib": str(provisioned_token.module),
        "intermediates": str(provisioned_token.intermediate),
    }


def ask(session, sts):
    """A real call; gives the access key id that it was signed with."""
    session.client("sts", region_name="us-east-1", endpoint_url=sts.url).get_caller_identity()
    return signed_with(sts.requests[-1])[0]


def words_of(options):
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def children():
    listed = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=False
    )
    return [line for line in listed.stdout.splitlines() if "rolekey.worker_child" in line]


def test_a_key_in_a_token(provisioned_token, token_options, sts):
    """A key in SoftHSM, its certificate in the token: the call is signed; no process of the key's is left over."""
    with running_emulator(provisioned_token.root) as emulator:
        session = boto3_session(emulator.options(**token_options))
        assert [ask(session, sts) for _ in range(2)] == emulator.granted * 2
        assert len(emulator.granted) == 1
    assert children() == []


def test_the_program_loads_no_module(provisioned_token, token_options, sts):
    """The program that uses a key in a token has neither its module nor python-pkcs11 in its memory."""
    with running_emulator(provisioned_token.root) as emulator:
        options = {name: value for name, value in vars_of(emulator.options(**token_options)).items() if value}
        program = f"""
import sys, rolekey
options = rolekey.Options(**{options!r})
client = rolekey.boto3_session(options).client("sts", region_name="us-east-1", endpoint_url={sts.url!r})
client.get_caller_identity()
assert "pkcs11" not in sys.modules
assert "softhsm" not in open("/proc/self/maps").read()
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert signed_with(sts.requests[-1])[0] == emulator.granted[0]


def vars_of(options):
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}


@pytest.mark.parametrize("first", ["command", "program"])
@pytest.mark.parametrize("key", ["file", "token"])
def test_the_cache_is_shared(first, key, key_file, provisioned_token, token_options, sts):
    """`rolekey credential-process` and a program with the same settings make one CreateSession for both."""
    ca, options = (provisioned_token.root, token_options) if key == "token" else key_file
    with running_emulator(ca) as emulator:

        def by_command():
            return rolekey("credential-process", *emulator.arguments, *words_of(options)).credentials["AccessKeyId"]

        def by_program():
            return ask(boto3_session(emulator.options(**options)), sts)

        ways = [by_command, by_program] if first == "command" else [by_program, by_command]
        assert [way() for way in ways] == emulator.granted * 2
        assert len(emulator.granted) == 1
        assert ask(boto3_session(emulator.options(**options), use_cache=False), sts) == emulator.granted[1]


def test_known_credentials_survive_a_failure_at_first(key_file, sts, monkeypatch):
    """A program that starts while the service is away goes on with what another process left, as a command does."""
    _, options = key_file
    with ScriptedService((session_answer(RunningEmulator("").role_arn),)) as service:
        given = RunningEmulator(service.url).options(**options)
        ask(boto3_session(given), sts)
    # Of its hour ten minutes are left: new ones are due, and nobody answers any more.
    now = time.time
    monkeypatch.setattr("time.time", lambda: now() + 3000)
    before = len(sts.requests)
    assert ask(boto3_session(given), sts) == signed_with(sts.requests[0])[0]
    assert len(sts.requests) == before + 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("key", ["file", "token"])
def test_a_fork_during_a_refresh(key, key_file, token_options):
    """A process that is forked while a thread asks gets credentials by itself, and the thread's attempt goes on."""
    options = token_options if key == "token" else key_file[1]
    late = threading.Event()
    role_arn = RunningEmulator("").role_arn
    with (
        Late(late, session_answer(role_arn, accessKeyId="ASIALATE")) as slow,
        ScriptedService((session_answer(role_arn),)) as quick,
    ):
        given = RunningEmulator(slow.url).options(**options)
        credentials = boto3_session(given, use_cache=False).get_credentials()
        found = []
        thread = threading.Thread(target=lambda: found.append(credentials.access_key))
        thread.start()
        wait_until(lambda: slow.requests)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            code = 1
            try:
                fetcher = credentials._provider._fetch
                fetcher._settings = resolve_settings(RunningEmulator(quick.url).options(**options), os.environ)
                code = 0 if credentials.access_key == "ASIAEXAMPLEEXAMPLE00" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert thread.is_alive()
        late.set()
        thread.join(60)
    assert found == ["ASIALATE"]
    assert children() == []


class Late(ScriptedService):
    """Answers when it is told to."""

    def __init__(self, told, answer):
        super().__init__((answer,))
        self._told = told

    def _do(self, connection, step):
        assert self._told.wait(60)
        super()._do(connection, step)


FORKS = """
import json, os, sys, threading, time
import rolekey
session = rolekey.boto3_session(rolekey.Options(**json.loads(sys.argv[1])))
threading.Thread(target=session.get_credentials().get_frozen_credentials, daemon=True).start()
sys.stdin.readline()
child = os.fork()
if not child:
    time.sleep(300)
print(child, flush=True)
time.sleep(300)
"""


def test_a_forked_process_holds_no_lock(key_file):
    """A process that was forked during a refresh and lives on keeps nobody from asking once its parent died."""
    _, options = key_file
    with ScriptedService((Pause(FOREVER),), (session_answer(RunningEmulator("").role_arn),)) as service:
        emulator = RunningEmulator(service.url)
        given = json.dumps({name: value for name, value in vars_of(emulator.options(**options)).items() if value})
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FORKS, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            wait_until(lambda: service.requests)
            print(file=process.stdin, flush=True)
            child = int(process.stdout.readline())
            process.kill()
            process.wait()
            try:
                outcome = rolekey("credential-process", *emulator.arguments, *words_of(options), "--timeout=30")
            finally:
                os.kill(child, signal.SIGKILL)
        assert outcome.credentials["AccessKeyId"] == "ASIAEXAMPLEEXAMPLE00"


@pytest.mark.rig("aiobotocore")
@pytest.mark.parametrize("key", ["file", "token"])
def test_aiobotocore(key, key_file, provisioned_token, token_options, sts):
    """32 calls at once, in an environment of its own, share one CreateSession; a failure is everybody's."""
    ca, options = (provisioned_token.root, token_options) if key == "token" else key_file
    with running_emulator(ca) as emulator:
        given = {name: value for name, value in vars_of(emulator.options(**options)).items() if value}
        document = aiobotocore.call({"options": given, "sts": sts.url, "clients": 32}, os.environ)
        (granted,) = emulator.granted
    assert document == {
        "arns": ["arn:aws:sts::000000000000:assumed-role/r/s"] * 32,
        "method": "rolekey",
        "access_key": granted,
        "refresh_needed": False,
        "failures": ["CancelledError", *["CertificateError"] * 3],
    }
    assert {signed_with(request)[0] for request in sts.requests} == {granted}
