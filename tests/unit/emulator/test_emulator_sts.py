"""Credentials from the STS that --sts-endpoint names: what it is asked, and what becomes of each of its answers."""

import asyncio
import contextlib
import json
import socket
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from click.testing import CliRunner

from rolekey import errors
from rolekey.cli.emulator import emulator
from rolekey.config import resolve_settings
from rolekey.create_session import request_credentials
from rolekey.deadline import Deadline
from rolekey.emulator import STS, Emulator, EmulatorConfigurationError, RequestLog, for_certificate_authority
from rolekey.emulator.refusals import Refusal
from rolekey.emulator.session import Session
from rolekey.http_server import running
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from support.canaries import canary, found_in
from support.emulator import LIMITS, RunningEmulator
from support.pki import make_root
from support.process import rolekey
from support.service import RESET, ScriptedService, answer

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ROLE = "arn:aws:iam::123456789012:role/path/reader"
SESSION = Session(
    role_arn=ROLE,
    role_session_name="0a1b",
    source_identity="CN=machine",
    tags={"x509Subject/CN": "machine", "x509Issuer/CN": "Größe & Co"},
    expiration=NOW,
    duration_seconds=900,
    subject_arn="arn:aws:rolesanywhere:eu-west-1:123456789012:subject/0",
)
KEY, SECRET, TOKEN = canary("sts-user"), canary("secret-access-key"), canary("session-token")
USER = {"AWS_ACCESS_KEY_ID": "AKIAUSER", "AWS_SECRET_ACCESS_KEY": KEY}
CREDENTIALS = f"""<Credentials><AccessKeyId>ASIAMINTED</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>
<SessionToken>{TOKEN}</SessionToken><Expiration>2099-01-01T00:00:00.5Z</Expiration></Credentials>"""
GRANTED = f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>{CREDENTIALS}
<AssumedRoleUser><AssumedRoleId>AROAREADER:0a1b</AssumedRoleId><Arn>x</Arn></AssumedRoleUser></AssumeRoleResult>
</AssumeRoleResponse>""".encode()


def error(code: str, message: str) -> bytes:
    text = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{text}</ErrorResponse>'.encode()


def mint(*script):
    with ScriptedService(tuple(script)) as service:
        sts = STS(service.url, "AKIAUSER", KEY, clock=lambda: NOW)
        try:
            return asyncio.run(sts(SESSION)), service
        except Refusal as refusal:
            return refusal, service


def test_what_sts_is_asked():
    """One AssumeRole with the session's name, length, source identity and tags, signed as botocore signs it."""
    credentials, service = mint(answer(200, GRANTED))
    (request,) = service.requests
    asked = {name: value for name, (value,) in parse_qs(request.body.decode(), strict_parsing=True).items()}
    assert asked == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "0a1b",
        "DurationSeconds": "900",
        "SourceIdentity": "CN=machine",
        "Tags.member.1.Key": "x509Subject/CN",
        "Tags.member.1.Value": "machine",
        "Tags.member.2.Key": "x509Issuer/CN",
        "Tags.member.2.Value": "Größe & Co",
    }
    headers = {name: request.header(name) for name in ("Content-Type", "Host", "X-Amz-Date")}
    theirs = AWSRequest("POST", f"{service.url}/", headers=headers, data=request.body)
    theirs.context["timestamp"] = "20260304T050607Z"
    signer = SigV4Auth(Credentials("AKIAUSER", KEY), "sts", "eu-west-1")
    signature = signer.signature(signer.string_to_sign(theirs, signer.canonical_request(theirs)), theirs)
    assert request.header("X-Amz-Date") == "20260304T050607Z"
    assert request.header("Authorization") == (
        "AWS4-HMAC-SHA256 Credential=AKIAUSER/20260304/eu-west-1/sts/aws4_request,"
        f" SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
    )
    assert (credentials.access_key_id, credentials.secret_access_key) == ("ASIAMINTED", SECRET)
    assert credentials.session_token == TOKEN
    assert credentials.expiration == datetime(2099, 1, 1, tzinfo=UTC)
    assert credentials.assumed_role_id == "AROAREADER:0a1b"
    assert not found_in(repr(credentials))


def test_a_denial_is_told_in_the_services_words():
    """AccessDenied of STS is what Roles Anywhere calls a role that it cannot assume; the record has the reason."""
    refusal, _ = mint(answer(403, error("AccessDenied", "User: x is\nnot authorized")))
    assert (refusal.status, refusal.message) == (403, f"Unable to assume role for {ROLE}.")
    assert refusal.detail == "STS: AccessDenied: User: x is not authorized"


SOMETHING_ELSE = b"<ListAllMyBucketsResult><Owner/></ListAllMyBucketsResult>"
WITHOUT_TOKEN = GRANTED.replace(TOKEN.encode(), b"")
NO_TIME = GRANTED.replace(b"2099-01-01T00:00:00.5Z", SECRET.encode())
NO_CREDENTIALS = "gives no credentials for AssumeRole"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ([answer(403, error("InvalidClientTokenId", "The key is not known."))], "InvalidClientTokenId: The key is not"),
        ([answer(400, error("ValidationError", "x" * 9999))], "answers ValidationError: xxx"),
        ([answer(503, SOMETHING_ELSE)], "answers HTTP status 503"),
        ([answer(200, SOMETHING_ELSE)], NO_CREDENTIALS),
        ([answer(200, WITHOUT_TOKEN)], NO_CREDENTIALS),
        ([answer(200, NO_TIME)], NO_CREDENTIALS),
        ([answer(200, GRANTED[:-20])], "answers HTTP status 200 without XML"),
        ([answer(200, b"<!DOCTYPE html><p>" + SECRET.encode())], "answers HTTP status 200 without XML"),
        ([answer(307, b"", {"Location": "/"})], "answers HTTP status 307 without XML"),
        ([answer(200, b" " * 1_000_000 + GRANTED)], "answers HTTP status 200 without XML"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "does not answer"),
        ([RESET], "does not answer: [Errno"),
        ([], "does not answer"),
    ],
    ids=range(13),
)
def test_everything_else_is_told_as_it_is(script, problem):
    """Whatever else STS does is named with its address, in a line of bounded length, without what may be secret."""
    refusal, service = mint(*script)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.error_type) == (500, "InternalServerException")
    assert refusal.message.startswith(f"The STS at {service.url.removeprefix('http://')} ")
    assert problem in refusal.message
    assert len(refusal.message) < 600
    assert not found_in(refusal.message + refusal.detail + repr(refusal))


def test_entities_do_not_make_an_answer_large():
    """An answer that would grow to gigabytes is refused like any other that is no answer."""
    nested = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "{"x" * 1000}">{nested}]><AssumeRoleResponse>&e11;</AssumeRoleResponse>'
    refusal, _ = mint(answer(200, bomb.encode()))
    assert "without XML" in refusal.message


@pytest.mark.parametrize(
    "url",
    [
        "https://sts.eu-west-1.amazonaws.com",
        "http://sts.eu-west-1.amazonaws.com",
        "http://127.0.0.1.example.com:5000",
        "http://user@127.0.0.1:5000",
        "http://10.0.0.1:5000",
        "http://127.0.0.1:5000/path",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:5000\n",
        "127.0.0.1:5000",
        "",
    ],
)
def test_only_a_stand_in_on_this_machine_is_asked(url):
    """Neither the keys nor the roles of a real account: nothing beyond the loopback interface is an STS here."""
    with pytest.raises(EmulatorConfigurationError, match="an address of this machine"):
        STS(url, "AKIAUSER", KEY)


@pytest.mark.parametrize("url", ["http://localhost", "http://127.0.0.1:5000/", "http://[::1]:65535"])
def test_addresses_of_this_machine(url):
    """By name, in both families, with and without port."""
    STS(url, "AKIAUSER", KEY)


@pytest.mark.parametrize(
    ("environment", "url", "told"),
    [
        ({}, "http://127.0.0.1:1", "needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (USER | {"AWS_SECRET_ACCESS_KEY": ""}, "http://127.0.0.1:1", "needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS"),
        (USER | {"AWS_ACCESS_KEY_ID": "a b"}, "http://127.0.0.1:1", "may have letters, digits and _ only"),
        (USER | {"AWS_SECRET_ACCESS_KEY": f"{KEY}\udcff"}, "http://127.0.0.1:1", "may have printable ASCII only"),
        (USER, "http://192.0.2.1", "an address of this machine"),
    ],
)
def test_what_the_option_needs(tmp_path, environment, url, told):
    """The user's keys come from the environment; without them, and with a strange URL, nothing is started."""
    ca, _ = make_root().write(tmp_path, "ca")
    result = CliRunner(env=environment).invoke(emulator, ["--ca", str(ca), "--sts-endpoint", url])
    assert isinstance(result.exception, errors.ConfigurationError)
    assert told in result.exception.message
    assert result.exception.hint
    assert (result.output, found_in(repr(vars(result.exception)))) == ("", [])


@pytest.mark.rig("emulator")
def test_through_the_emulator(tmp_path):
    """A client gets what STS gave out, until STS says no; then the client says what the emulator answered.

    The record says why, and holds no secret.
    """
    root = make_root()
    ca, _ = root.write(tmp_path, "ca")
    certificate, private_key = root.issue().write(tmp_path, "leaf")
    record = tmp_path / "requests"
    scripts = (answer(200, GRANTED),), (answer(403, error("AccessDenied", "not for you")),)
    with ScriptedService(*scripts) as service, contextlib.closing(RequestLog(record)) as log:
        app = Emulator(for_certificate_authority(ca), mint=STS(service.url, "AKIAUSER", KEY), record=log)
        with running(app, limits=LIMITS) as url:
            options = RunningEmulator(url).options(certificate=str(certificate), private_key=str(private_key))
            settings, deadline = resolve_settings(options, {}), Deadline(30)
            with open_identity(settings, NoInteraction(), deadline) as identity:
                credentials = request_credentials(settings, identity, deadline)
                with pytest.raises(errors.CreateSessionError, match="Unable to assume role for") as refused:
                    request_credentials(settings, identity, deadline)
    assert credentials.access_key_id == "ASIAMINTED"
    assert f"{credentials.expiration:%Y-%m-%dT%H:%M:%SZ}" == "2099-01-01T00:00:00Z"
    assert "not for you" not in str(refused.value)
    granted, denied = [json.loads(line) for line in record.read_text().splitlines()]
    assert (granted["status"], denied["status"]) == (201, 403)
    assert denied["detail"] == "STS: AccessDenied: not for you"
    assert not found_in(record.read_bytes())


@pytest.mark.rig("emulator")
def test_an_sts_that_is_not_there(tmp_path):
    """The client's one line names the address at which nobody listens."""
    root = make_root()
    ca, _ = root.write(tmp_path, "ca")
    certificate, private_key = root.issue().write(tmp_path, "leaf")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    app = Emulator(for_certificate_authority(ca), mint=STS(f"http://127.0.0.1:{port}", "AKIAUSER", KEY))
    with running(app, limits=LIMITS) as url:
        words = [*RunningEmulator(url).arguments, "--certificate", str(certificate), "--private-key", str(private_key)]
        done = rolekey("credential-process", *words)
    done.failed(7, f"The STS at 127.0.0.1:{port} does not answer: [Errno 111] Connection refused")
