"""boto3 with credentials from a key: when they are asked for, who shares them, and what else boto3 might have found."""

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import boto3
import botocore.credentials
import botocore.session
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

import rolekey
from rolekey.config import resolve_settings
from rolekey.emulator.configuration import DEFAULT_PROFILE_ARN, DEFAULT_ROLE_ARN, DEFAULT_TRUST_ANCHOR_ARN
from rolekey.errors import ConfigurationError, CreateSessionError, PinRequiredError, SignerError
from rolekey.identity import SigningIdentity
from rolekey.options import Options
from rolekey.secret import Secret
from rolekey.vend.boto3 import add_to_chain, boto3_session
from rolekey.vend.botocore import RolekeyCredentials, RolekeyProvider
from rolekey.vend.in_process import provider_for
from support.pki import key_to_pem, make_root
from support.sdk import caller_identity_service, signed_with
from support.service import ScriptedService, answer, session_answer

ARNS = {
    "trust_anchor_arn": DEFAULT_TRUST_ANCHOR_ARN,
    "profile_arn": DEFAULT_PROFILE_ARN,
    "role_arn": DEFAULT_ROLE_ARN,
}
REFUSAL = answer(403, b'{"message":"Untrusted signing certificate"}', {"x-amzn-ErrorType": "AccessDeniedException"})


class CountingSigner:
    """A signer of the program's own."""

    def __init__(self, key):
        self._key = key
        self.signatures = 0
        self.public_key = key.public_key()

    def sign(self, message, **_):
        self.signatures += 1
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def close(self):
        raise AssertionError("the program closes what it opened")


class Numbered(ScriptedService):
    """Gives out ASIA1, ASIA2 and so on, with tokens to match, each good for some seconds by a clock."""

    def __init__(self, life=3600.0, clock=lambda: datetime.now(UTC).timestamp()):
        super().__init__()
        self._life, self._clock = life, clock
        self.number = 0

    def serve(self, connection, number):
        self.number += 1
        expiration = datetime.fromtimestamp(self._clock(), UTC) + timedelta(seconds=self._life)
        self.follow(
            session_answer(
                DEFAULT_ROLE_ARN,
                accessKeyId=f"ASIA{self.number}",
                sessionToken=f"token-{self.number}",
                expiration=f"{expiration:%Y-%m-%dT%H:%M:%SZ}",
            )
        )
        super().serve(connection, number)


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    leaf = make_root().issue()
    return leaf, *leaf.write(tmp_path_factory.mktemp("pki"), "leaf")


@pytest.fixture
def options(issued):
    _, certificate, private_key = issued

    def options(service, **more):
        files = {"certificate": str(certificate), "private_key": str(private_key)}
        return Options(**ARNS, **(files | more), endpoint=service.url)

    return options


@pytest.fixture
def sts():
    with caller_identity_service() as service:
        yield service


def ask(session, sts):
    """A real call of a new client; gives the access key id and the token that it was signed with."""
    session.client("sts", region_name="us-east-1", endpoint_url=sts.url).get_caller_identity()
    return signed_with(sts.requests[-1])


def test_a_call_is_signed_with_the_credentials(options, sts):
    """A client of the session signs with what CreateSession gave; further clients and calls ask for nothing more."""
    with Numbered() as service:
        session = boto3_session(options(service))
        assert [ask(session, sts) for _ in range(3)] == [("ASIA1", "token-1")] * 3
        assert len(service.requests) == 1
    assert session.get_credentials().method == "rolekey"
    assert isinstance(session.get_credentials(), botocore.credentials.RefreshableCredentials)


def test_nothing_is_asked_before_it_is_needed(sts, runtime_directory):
    """Session, client and credentials are made without files, key, PIN, network, or a directory for the cache."""

    class Nobody:
        def ask(self, question, _opens):
            raise AssertionError(question)

        def remind(self, text):
            raise AssertionError(text)

    with ScriptedService() as service:
        given = Options(**ARNS, certificate="/no/file.pem", private_key="pkcs11:token=none", endpoint=service.url)
        session = boto3_session(given, interaction=Nobody())
        session.client("sts", region_name="us-east-1", endpoint_url=sts.url)
        assert session.get_credentials() is not None
        add_to_chain(boto3.Session(), given, interaction=Nobody())
        assert service.requests == sts.requests == []
    assert list(runtime_directory.iterdir()) == []


def test_settings_that_cannot_be_right():
    """What can be judged without a key is said where the session is made."""
    with pytest.raises(ConfigurationError, match="--role-arn is missing"):
        boto3_session(Options(trust_anchor_arn=DEFAULT_TRUST_ANCHOR_ARN, profile_arn=DEFAULT_PROFILE_ARN))


def test_a_short_session_under_a_frozen_clock(issued, options, sts):
    """A session of 900 s: calls every ten seconds make one CreateSession, and one signature, for each 450 seconds."""
    leaf, _, _ = issued
    start = datetime.now(UTC).timestamp()
    now = [start]
    signer = CountingSigner(leaf.key)
    with Numbered(900, lambda: now[0]) as service:
        given = options(service, session_duration=900)
        provider = provider_for(given, SigningIdentity(leaf.certificate, (), signer), None, use_cache=True)
        provider._clock, provider._chance = (lambda: now[0]), (lambda: 0.0)
        session = botocore.session.Session()
        resolver = botocore.credentials.CredentialResolver([RolekeyProvider(provider)])
        session.register_component("credential_provider", resolver)
        client = session.create_client("sts", region_name="us-east-1", endpoint_url=sts.url)
        while now[0] < start + 2700:
            client.get_caller_identity()
            now[0] += 10
        assert json.loads(service.requests[0].body)["durationSeconds"] == 900
        used = [signed_with(request)[0] for request in sts.requests]
        assert len(used) == 270
        assert [used.index(f"ASIA{number}") for number in range(1, 7)] == [0, 45, 90, 135, 180, 225]
        assert (len(service.requests), signer.signatures) == (6, 6)


def test_threads_share_one_create_session(options, sts):
    """32 threads, each with a client, that call for the first time at once, make one CreateSession."""
    with Numbered() as service:
        session = boto3_session(options(service), use_cache=False)
        clients = [session.client("sts", region_name="us-east-1", endpoint_url=sts.url) for _ in range(32)]
        start, failures = threading.Barrier(32), []

        def call(client):
            try:
                start.wait(20)
                client.get_caller_identity()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails
                failures.append(error)

        threads = [threading.Thread(target=call, args=[client]) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert len(service.requests) == 1
    assert [signed_with(request) for request in sts.requests] == [("ASIA1", "token-1")] * 32


def test_a_failure_reaches_the_caller(options, sts):
    """The call that needed credentials raises the RolekeyError itself; nothing is sent to AWS."""
    with ScriptedService((REFUSAL,)) as service:
        session = boto3_session(options(service))
        with pytest.raises(CreateSessionError, match="Untrusted signing certificate") as raised:
            ask(session, sts)
    assert raised.value.hint
    assert sts.requests == []


def test_no_other_credentials_take_its_place(options, sts, monkeypatch, tmp_path):
    """Static keys in the environment and in the profile are not used: not before the key's, and not instead."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    (tmp_path / "config").write_text(
        "[profile p]\nregion = eu-west-2\naws_access_key_id = AKIAP\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with Numbered() as service:
        session = boto3_session(options(service), profile_name="p")
        assert session.region_name == "eu-west-2"
        assert ask(session, sts) == ("ASIA1", "token-1")
        service_down = boto3_session(options(service, certificate="/no/file.pem"), profile_name="p")
    with pytest.raises(rolekey.RolekeyError):
        ask(service_down, sts)
    assert len(sts.requests) == 1


def test_properties_and_copies(options):
    """The properties that older programs read are of the same credentials; a copy shares them, a pickle is refused."""
    with Numbered() as service:
        credentials = boto3_session(options(service)).get_credentials()
        assert credentials.refresh_needed()
        assert credentials._expiry_time is None
        assert (credentials.access_key, credentials.token, credentials.account_id) == ("ASIA1", "token-1", None)
        assert credentials.get_frozen_credentials() == copy.copy(credentials).get_frozen_credentials()
        assert credentials.secret_key == credentials.get_frozen_credentials().secret_key
        assert (credentials.refresh_needed(), credentials.refresh_needed(60), credentials.refresh_needed(3601)) == (
            False,
            False,
            True,
        )
        assert credentials._expiry_time.tzinfo is not None
        assert len(service.requests) == 1
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(credentials)


def test_settings_travel(options, sts):
    """Options and Settings can be pickled, for another process to make a session of."""
    with Numbered() as service:
        for given in (options(service), resolve_settings(options(service), os.environ)):
            there = pickle.loads(pickle.dumps(given))
            assert there == given
            assert ask(boto3_session(there), sts) == ("ASIA1", "token-1")


def test_a_person_is_asked_by_the_program(tmp_path, sts):
    """Without an interaction a passphrase is missing; with one it is asked for once, and kept for the next time."""
    leaf = make_root().issue()
    certificate, private_key = leaf.write(tmp_path, "leaf")
    private_key.write_bytes(key_to_pem(leaf.key, b"passphrase"))
    asked = []

    class Person:
        def ask(self, question, _opens):
            asked.append(question)
            return Secret("passphrase")

        def remind(self, text):
            raise AssertionError(text)

    with Numbered(life=11) as service:
        given = Options(**ARNS, certificate=str(certificate), private_key=str(private_key), endpoint=service.url)
        with pytest.raises(PinRequiredError):
            ask(boto3_session(given), sts)
        session = boto3_session(given, interaction=Person(), use_cache=False)
        first = ask(session, sts)
        session.get_credentials()._provider._due = 0
        assert ask(session, sts) != first
    assert len(asked) == 1


# --- an open identity ---


def test_an_open_identity(issued, options, sts):
    """An identity of the program's own signs, and is left open; the cache neither gives nor takes."""
    leaf, _, _ = issued
    signer = CountingSigner(leaf.key)
    with Numbered() as service:
        ask(boto3_session(options(service)), sts)  # in the cache
        session = boto3_session(options(service), identity=SigningIdentity(leaf.certificate, (), signer))
        assert ask(session, sts) == ("ASIA2", "token-2")
        assert ask(boto3_session(options(service)), sts) == ("ASIA1", "token-1")
    assert signer.signatures == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_an_open_identity_after_a_fork(issued, options):
    """A forked process uses the credentials that are there, and refuses to sign with the parent's open identity."""
    leaf, _, _ = issued
    with Numbered() as service:
        identity = SigningIdentity(leaf.certificate, (), CountingSigner(leaf.key))
        credentials = boto3_session(options(service), identity=identity).get_credentials()
        credentials.get_frozen_credentials()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            code = 1
            try:
                if credentials.get_frozen_credentials().access_key == "ASIA1":
                    credentials._provider._fetched = None
                    credentials.get_frozen_credentials()
            except SignerError as error:
                code = 0 if "forked" in error.message else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(service.requests) == 1


# --- an existing session's chain ---


@pytest.mark.parametrize("make", [boto3.Session, botocore.session.Session])
def test_added_to_a_chain(make, options, sts, monkeypatch):
    """It is the first link of the chain of a session of boto3 or botocore, before the environment's static keys."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with Numbered() as service:
        session = make()
        add_to_chain(session, options(service))
        assert isinstance(session.get_credentials(), RolekeyCredentials)
        create = getattr(session, "create_client", None) or session.client
        create("sts", region_name="us-east-1", endpoint_url=sts.url).get_caller_identity()
    assert signed_with(sts.requests[-1]) == ("ASIA1", "token-1")


def test_added_behind_another_source(options, sts, monkeypatch):
    """Where the program wants another source first, that one decides while it has something."""
    with Numbered() as service:
        session = boto3.Session()
        add_to_chain(session, options(service), before="shared-credentials-file")
        assert ask(session, sts)[0] == "ASIA1"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        session = boto3.Session()
        add_to_chain(session, options(service), before="shared-credentials-file")
        session.client("sts", region_name="us-east-1", endpoint_url=sts.url)
        assert session.get_credentials().access_key == "AKIAENV"


def test_added_too_late_or_nowhere(options, monkeypatch):
    """A session that has credentials would never look, and a chain without the named source has no such place."""
    with ScriptedService() as service:
        with pytest.raises(ConfigurationError, match="no source nothing") as raised:
            add_to_chain(boto3.Session(), options(service), before="nothing")
        assert "env" in raised.value.hint
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        session = boto3.Session()
        session.get_credentials()
        with pytest.raises(ConfigurationError, match="has credentials already"):
            add_to_chain(session, options(service))


# --- without the extra ---


@pytest.mark.parametrize(
    ("absent", "code", "extra"),
    [
        ("boto3", "import rolekey; rolekey.boto3_session(rolekey.Options())", "boto3"),
        ("botocore", "from rolekey.vend.boto3 import add_to_chain; add_to_chain(None, None)", "boto3"),
        ("aiobotocore", "import rolekey.vend.aiobotocore", "aiobotocore"),
    ],
)
def test_without_the_extra(absent, code, extra):
    """Where the SDK is not installed, the error says what to install; the name itself can be had."""
    program = f"""
import sys
sys.modules[{absent!r}] = None
from rolekey.errors import MissingExtraError
try:
    {code}
except MissingExtraError as error:
    print(error.message)
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    message, hint = done.stdout.splitlines()
    assert absent in message
    assert hint == f"pip install 'rolekey[{extra}]'"
