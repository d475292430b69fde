"""CreateSession on real sockets: the request, its retries, and every way in which an answer is not one."""

import hashlib
import json
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rolekey.config import resolve_settings
from rolekey.create_session import request_credentials
from rolekey.credentials import format_timestamp
from rolekey.deadline import Deadline
from rolekey.errors import (
    ConfigurationError,
    CreateSessionError,
    DeadlineError,
    MalformedResponseError,
    RolekeyError,
    TransportError,
    UnsupportedKeyError,
)
from rolekey.identity import SigningIdentity
from rolekey.options import Options
from rolekey.secret import Secret
from rolekey.signers.file import FileSigner
from support.emulator import running_emulator
from support.listener import ServerTLS
from support.pki import make_root
from support.proxy import ScriptedProxy
from support.service import HANG, RESET, ScriptedService, answer, session_answer, session_document

TRUST_ANCHOR = "arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/6f4a1c11-0000-4000-8000-000000000001"
PROFILE = "arn:aws:rolesanywhere:eu-west-1:123456789012:profile/6f4a1c11-0000-4000-8000-000000000002"
ROLE = "arn:aws:iam::123456789012:role/path/example"
NOW = datetime(2030, 1, 31, 12, 0, 0, 500000, tzinfo=UTC)
LATER = "2030-01-31T13:00:00Z"
GRANTED = session_answer(ROLE, expiration=LATER)


class CountingSigner(FileSigner):
    """A key in a file that knows how often it was used."""

    uses = 0

    def sign(self, message, *, hash="sha256"):  # noqa: A002 - the Signer's own word
        """Count, and sign."""
        self.uses += 1
        return super().sign(message, hash=hash)


class Clocks:
    """A wall clock and a monotonic clock that go on only when somebody sleeps or a service answers.

    Args:
        service: the one that takes its time; None for none.
        per_answer: seconds that each of its answers takes.
    """

    def __init__(self, service=None, per_answer=0):
        self.sleeps = []
        self._service = service
        self._per_answer = per_answer

    def monotonic(self):
        """The monotonic clock."""
        answers = len(self._service.requests) if self._service else 0
        return sum(self.sleeps) + answers * self._per_answer

    def now(self):
        """The wall clock."""
        return NOW + timedelta(seconds=self.monotonic())


@pytest.fixture(scope="module")
def leaf():
    """A certificate with an intermediate above it, and its key."""
    return make_root().issue_authority().issue()


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A server's certificate for service.test."""
    return ServerTLS.make(tmp_path_factory.mktemp("tls"), "service.test", "127.0.0.1")


@pytest.fixture(autouse=True)
def longest_pauses(monkeypatch):
    """The pause before a retry is the longest that it may be."""
    monkeypatch.setattr("random.uniform", lambda _least, most: most)


@pytest.fixture
def ask(leaf):
    """Asks a service for credentials, without waiting in earnest; `ask.signer` counts the signatures."""

    def ask(url, clocks=None, seconds=20, **settings):
        clocks = clocks or Clocks()
        ask.signer = CountingSigner(leaf.key)
        identity = SigningIdentity(leaf.certificate, leaf.chain, ask.signer)
        deadline = Deadline(seconds, clock=clocks.monotonic)
        return request_credentials(
            settings_for(url, **settings), identity, deadline, clock=clocks.now, sleep=clocks.sleeps.append
        )

    return ask


def settings_for(url, **changes):
    """Settings for a service of this machine."""
    options = Options(
        trust_anchor_arn=TRUST_ANCHOR, profile_arn=PROFILE, role_arn=ROLE, certificate="unused.pem", endpoint=url
    )
    return replace(resolve_settings(options, {}), **changes)


def verify(request, certificate):
    """Recompute, from the bytes on the wire alone, what was signed, and verify the signature (EC only)."""
    text, signature = signed_text(request)
    certificate.public_key().verify(signature, text.encode(), ec.ECDSA(hashes.SHA256()))


def signed_text(request):
    """String to sign and signature of a captured request, as AWS's "Signing process" describes them."""
    algorithm, _, rest = request.header("Authorization").partition(" ")
    fields = dict(part.split("=", 1) for part in rest.split(", "))
    scope = fields["Credential"].partition("/")[2]
    names = fields["SignedHeaders"].split(";")
    assert names == sorted(names)
    assert {"host", "x-amz-date", "x-amz-x509", "content-type"} <= set(names)
    method, target, _ = request.request_line.split(" ")
    pairs = sorted((quote(n, safe=""), quote(v, safe="")) for n, v in parse_qsl(urlsplit(target).query))
    canonical = [
        method,
        "/sessions",
        "&".join(f"{n}={v}" for n, v in pairs),
        *(f"{name}:{' '.join(request.header(name).split(' '))}" for name in names),
        "",
        ";".join(names),
        hashlib.sha256(request.body).hexdigest(),
    ]
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    text = "\n".join((algorithm, request.header("X-Amz-Date"), scope, digest))
    return text, bytes.fromhex(fields["Signature"])


# The key


def test_an_identity_that_was_not_looked_at(leaf):
    """Where the key must not be exportable, an identity that was opened without that signs nothing."""
    with ScriptedService((GRANTED,)) as service:
        settings = settings_for(service.url, require_non_exportable=True)
        signer = CountingSigner(leaf.key)
        identity = SigningIdentity(leaf.certificate, leaf.chain, signer)
        with pytest.raises(UnsupportedKeyError, match="--require-non-exportable"):
            request_credentials(settings, identity, Deadline(20))
        assert (signer.uses, service.requests) == (0, [])
        vouched = SigningIdentity(leaf.certificate, leaf.chain, signer, non_exportable=True)
        assert request_credentials(settings, vouched, Deadline(20))
        assert signer.uses == 1


# The request


def test_the_request(ask, leaf):
    """One signed POST: ARNs in the query, the rest in the body, certificates in their headers, nothing compressed."""
    with ScriptedService((GRANTED,)) as service:
        credentials = ask(service.url, session_duration=900, role_session_name="machine-1")
    (request,) = service.requests
    method, target, _ = request.request_line.split(" ")
    assert (method, urlsplit(target).path) == ("POST", "/sessions")
    assert parse_qsl(urlsplit(target).query) == [
        ("profileArn", PROFILE),
        ("roleArn", ROLE),
        ("trustAnchorArn", TRUST_ANCHOR),
    ]
    assert request.body == b'{"durationSeconds":900,"roleSessionName":"machine-1"}'
    assert request.header("X-Amz-Date") == "20300131T120000Z"
    assert request.header("X-Amz-X509") == leaf.base64
    assert request.header("X-Amz-X509-Chain").count(",") == 0
    assert request.header("Accept-Encoding") == "identity"
    assert request.header("User-Agent").startswith("rolekey/")
    assert f"Credential={leaf.certificate.serial_number}/20300131/eu-west-1/" in request.header("Authorization")
    verify(request, leaf.certificate)
    assert ask.signer.uses == 1
    assert credentials.access_key_id == "ASIAEXAMPLEEXAMPLE00"
    assert credentials.secret_access_key == "example-secret-access-key"
    assert credentials.session_token == "example-session-token"
    assert format_timestamp(credentials.expiration) == LATER


def has_ipv6():
    """Whether this machine has ::1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", *(["[::1]"] if has_ipv6() else [])])
@pytest.mark.parametrize("path", ["", "/prefix", "/a/b%20c/"])
def test_signed_host_on_another_port(host, path, ask, leaf):
    """The Host header on the wire is the signed one, with its port; a path prefix is sent and not signed."""
    with ScriptedService((GRANTED,), host="::1" if host == "[::1]" else "127.0.0.1") as service:
        ask(f"http://{host}:{service.port}{path}")
    (request,) = service.requests
    assert request.header("Host") == f"{host}:{service.port}"
    assert request.request_line.startswith(f"POST {path.rstrip('/')}/sessions?")
    verify(request, leaf.certificate)


@pytest.mark.parametrize(
    ("url", "connect", "host"),
    [
        ("https://service.test", "service.test:443", "service.test"),
        ("https://service.test:443", "service.test:443", "service.test"),
        ("https://SERVICE.test:8443", "service.test:8443", "service.test:8443"),
    ],
)
def test_signed_host_behind_a_proxy(url, connect, host, ask, leaf, tls):
    """The scheme's own port is not in the Host header, another one is, and what is sent is what was signed."""
    with (
        ScriptedService((GRANTED,), tls=tls) as service,
        ScriptedProxy({connect: service.port}) as proxy,
    ):
        ask(url, ca_bundle=tls.ca, proxy=Secret(f"http://user:password@{proxy.address}"))
    assert proxy.connects[0].request_line.split(" ")[1] == connect
    (request,) = service.requests
    assert request.header("Host") == host
    verify(request, leaf.certificate)


@pytest.mark.rig("openssl", "emulator")
@pytest.mark.parametrize("key", ["rsa2048", "p256", "p384"])
def test_two_other_programs_accept_a_real_request(key, tmp_path):
    """What the command sends is verified by openssl, over a text that is put together anew, and by the emulator."""
    root = make_root()
    leaf = root.issue_authority().issue(key)
    certificate, private_key = leaf.write(tmp_path, "leaf")
    chain, anchor = tmp_path / "chain.pem", tmp_path / "root.pem"
    chain.write_bytes(leaf.chain_pem)
    anchor.write_bytes(root.pem)
    with running_emulator(anchor) as emulator, ScriptedService((session_answer(emulator.role_arn),)) as service:
        words = [*emulator.arguments, "--endpoint", service.url, "--certificate", certificate]
        words += ["--private-key", private_key, "--intermediates", chain]
        command = [sys.executable, "-m", "rolekey", "credential-process", *words]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (run.returncode, run.stderr) == (0, "")
        (request,) = service.requests
        answered = replay(request.raw, emulator.url)
        tampered = replay(request.raw.replace(b"3600", b"3601"), emulator.url)
    assert json.loads(run.stdout)["SessionToken"] == "example-session-token"
    text, signature = signed_text(request)
    assert openssl_verifies(tmp_path, leaf.certificate, text, signature)
    assert not openssl_verifies(tmp_path, leaf.certificate, text.replace("2", "3"), signature)
    assert answered.startswith(b"HTTP/1.1 201 ")
    assert tampered.startswith(b"HTTP/1.1 403 ")


def replay(raw, url):
    """Send a captured request to another service; the answer's first bytes."""
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 10) as connection:
        connection.sendall(raw)
        return connection.recv(4096)


def openssl_verifies(directory, certificate, text, signature):
    """What `openssl dgst -verify` says."""
    key = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, data in (("key", key), ("text", text.encode()), ("signature", signature)):
        (directory / name).write_bytes(data)
    command = ["openssl", "dgst", "-sha256", "-verify", "key", "-signature", "signature", "text"]
    run = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert run.stdout.strip() in ("Verified OK", "Verification failure", "Verification Failure"), run.stderr
    return run.returncode == 0


# The answer


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    ("expiration", "normalised"),
    [
        ("2030-01-31T13:00:00Z", "2030-01-31T13:00:00Z"),
        ("2030-01-31T13:00:00.987654Z", "2030-01-31T13:00:00Z"),
        ("2030-01-31T13:00:00.9+00:00", "2030-01-31T13:00:00Z"),
        ("2030-01-31T18:30:00+05:30", "2030-01-31T13:00:00Z"),
        ("2030-01-31T05:00:00-08:00", "2030-01-31T13:00:00Z"),
    ],
)
def test_expiration_is_normalised(status, expiration, normalised, ask):
    """Any 2xx counts; a fraction and an offset in the expiration are understood and come out as UTC, whole seconds."""
    body = json.dumps(session_document(ROLE, expiration=expiration)).encode()
    with ScriptedService((answer(status, body),)) as service:
        found = ask(service.url).expiration
    assert found.utcoffset() == timedelta()
    assert format_timestamp(found) == normalised


DOCUMENT = session_document(ROLE, expiration=LATER)
SET = DOCUMENT["credentialSet"][0]


def credentials_with(**fields):
    """The document with other credentials."""
    return session_document(ROLE, **{"expiration": LATER} | fields)


NO_CREDENTIALS = {
    "nothing": b"",
    "a blank": b" ",
    "null": None,
    "a list": [],
    "a number": 5,
    "a giant number": b"1" * 10000,
    "a text": "credentialSet",
    "an empty object": {},
    "half a document": json.dumps(DOCUMENT).encode()[:-40],
    "two documents": json.dumps(DOCUMENT).encode() * 2,
    "a deep list": b"[" * 100_000,
    "deep objects": b'{"credentialSet":' * 50_000,
    "HTML": b"<!DOCTYPE html><html><title>Sign in</title></html>",
    "no UTF-8": b'{"credentialSet": "\xff"}',
    "no set": {"credentialSet": None},
    "an empty set": {"credentialSet": []},
    "a set that is no list": {"credentialSet": SET},
    "a set of nothing": {"credentialSet": [None]},
    "a set of texts": {"credentialSet": ["credentials"]},
    "a set of lists": {"credentialSet": [[]]},
    "no credentials": {"credentialSet": [SET | {"credentials": None}]},
    "credentials that are a text": {"credentialSet": [SET | {"credentials": "accessKeyId"}]},
    "no role": {"credentialSet": [{"credentials": SET["credentials"]}]},
    "a role that is null": {"credentialSet": [SET | {"roleArn": None}]},
    "a role that is empty": {"credentialSet": [SET | {"roleArn": ""}]},
    **{
        f"{name}: {value!r}": credentials_with(**{name: value})
        for name in ("accessKeyId", "secretAccessKey", "sessionToken", "expiration")
        for value in ("", 5, True, [], {})
    },
    **{f"{name} missing": credentials_with(**{name: None}) for name in SET["credentials"]},
    **{
        f"{name} null": {"credentialSet": [SET | {"credentials": SET["credentials"] | {name: None}}]}
        for name in SET["credentials"]
    },
    **{
        f"expiration {text}": credentials_with(expiration=text)
        for text in (
            "tomorrow",
            "1893456000",
            "2030-01-31",
            "2030-01-31T13:00:00",  # no offset: whose time is it?
            "2030-13-31T13:00:00Z",
            "2030-01-31T11:59:59Z",  # over
            "2030-01-31T12:00:00Z",  # over for half a second
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
        )
    },
    "another role": session_document(ROLE + "2", expiration=LATER),
    "a role in another case": session_document(ROLE.upper(), expiration=LATER),
}


@pytest.mark.parametrize("document", NO_CREDENTIALS.values(), ids=NO_CREDENTIALS)
def test_what_is_no_answer_to_the_question(document, ask):
    """A 2xx without exactly the credentials that were asked for is refused, said to be so, and not asked for again."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with (
        ScriptedService((answer(201, body, {"Content-Type": "application/json"}),)) as service,
        pytest.raises(MalformedResponseError, match=r"^the answer ") as caught,
    ):
        ask(service.url)
    assert len(service.requests) == 1
    assert "nothing of the answer was used" in caught.value.hint
    assert "example-se" not in f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}"


def test_the_other_role_is_named(ask):
    """Credentials of another role are refused with that role's name, without what a terminal would obey."""
    other = "arn:aws:iam::123456789012:role/\x1b[31mother" + "x" * 5000
    with (
        ScriptedService((session_answer(other, expiration=LATER),)) as service,
        pytest.raises(MalformedResponseError, match=r"another role, arn:.*\\x1b\[31mother") as caught,
    ):
        ask(service.url)
    assert len(caught.value.message) < 500


def test_an_expired_answer_names_both_times(ask):
    """Credentials that are over say when they ended and what this machine's clock says."""
    with (
        ScriptedService((session_answer(ROLE, expiration="2030-01-31T11:59:59Z"),)) as service,
        pytest.raises(MalformedResponseError, match=r"2030-01-31 11:59:59.*12:00:00 UTC"),
    ):
        ask(service.url)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_refusals(status, ask):
    """A redirect is not followed: it is a refusal with its status."""
    with (
        ScriptedService((GRANTED,)) as elsewhere,
        ScriptedService((answer(status, b"", {"Location": f"{elsewhere.url}/sessions"}),)) as service,
        pytest.raises(CreateSessionError, match=f"HTTP status {status}") as caught,
    ):
        ask(service.url)
    assert (len(service.requests), elsewhere.connections, caught.value.status) == (1, 0, status)


# Refusals

ERROR_FORMS = {
    "header": ({"X-Amzn-ErrorType": "AccessDeniedException"}, {"message": "No"}),
    "header with a URL": ({"X-Amzn-ErrorType": "AccessDeniedException:http://internal.test/coral/"}, {"message": "No"}),
    "header with a namespace": ({"X-Amzn-ErrorType": "com.amazonaws.ra#AccessDeniedException"}, {"Message": "No"}),
    "header with both": ({"x-amzn-errortype": "com.test#AccessDeniedException:http://a.test/b#c"}, {"message": "No"}),
    "__type": ({}, {"__type": "AccessDeniedException", "message": "No"}),
    "__type with a namespace": ({}, {"__type": "com.amazonaws.ra#AccessDeniedException", "Message": "No"}),
    "code": ({}, {"code": "AccessDeniedException", "Message": "No"}),
    "header before body": ({"X-Amzn-ErrorType": "AccessDeniedException"}, {"__type": "Other", "message": "No"}),
}


@pytest.mark.parametrize(("headers", "document"), ERROR_FORMS.values(), ids=ERROR_FORMS)
def test_forms_of_a_refusal(headers, document, ask):
    """A refusal has the service's code, its words, its status and its request id, in whatever form they come."""
    refusal = answer(403, json.dumps(document).encode(), {"X-Amzn-RequestId": "c0ffee"} | headers)
    with ScriptedService((refusal,)) as service, pytest.raises(CreateSessionError) as caught:
        ask(service.url)
    error = caught.value
    assert (error.code, error.status, error.request_id) == ("AccessDeniedException", 403, "c0ffee")
    assert error.message == "AccessDeniedException: No (HTTP status 403, request id c0ffee)"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, b"<html>Forbidden</html>"),
        (404, b""),
        (403, b'{"message": "half a docu'),
        (403, b"null"),
        (403, b'"text"'),
        (403, b"[]"),
        (403, b"[" * 100_000),
        (502, b"<html>Bad gateway</html>"),
        (400, b"\xff\xfe"),
        (304, b""),
    ],
)
def test_a_refusal_that_is_not_the_service_s(status, body, ask):
    """A refusal without the service's form names its status, and says that something else may answer there."""
    with ScriptedService((answer(status, body),)) as service, pytest.raises(CreateSessionError) as caught:
        ask(service.url)
    error = caught.value
    assert (error.code, error.status, error.request_id) == ("UnknownError", status, None)
    assert f"HTTP status {status}" in error.message
    assert "something else" in error.hint
    assert "--endpoint" in error.hint


@pytest.mark.parametrize(
    "document", [{"message": None}, {"message": ""}, {"Message": []}, {"code": None}, {"__type": ":"}, {"code": {}}]
)
def test_a_refusal_without_words(document, ask):
    """A refusal that lacks its code or message says so."""
    with (
        ScriptedService((answer(403, json.dumps(document).encode()),)) as service,
        pytest.raises(CreateSessionError, match="UnknownError: the answer holds no message"),
    ):
        ask(service.url)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("Untrusted signing certificate", "--intermediates"),
        ("Untrusted Certificate. Insufficient certificate", "keyUsage"),
        ("Invalid signature", "clock"),
        ("Certificate revoked", "new one"),
        ("Specified Trust Anchor wasn't found.", "--trust-anchor-arn"),
        ("Invalid or empty profile provided.", "--profile-arn"),
        ("Requested Role isn't one of those listed in the Profile.", "--role-arn"),
        (f"Unable to assume role for {ROLE}.", "sts:TagSession"),
        (
            f"Unable to assume role for ARN {ROLE}. The requested DurationSeconds exceeds the MaxSessionDuration set.",
            "--session-duration",
        ),
        ("Not authorized to set roleSessionName", "--role-session-name"),
        ("Something new", "--debug"),
    ],
)
def test_remedies(words, remedy, ask):
    """Each refusal that users have met comes with what to do about it."""
    with (
        ScriptedService((answer(403, json.dumps({"message": words}).encode()),)) as service,
        pytest.raises(CreateSessionError) as caught,
    ):
        ask(service.url)
    assert words in caught.value.message
    assert remedy in caught.value.hint


HOSTILE = "\x1b]0;title\x07\x1b[2J\r\n\x00\x9b\u202e\u2028\ud800é"


@pytest.mark.parametrize(
    ("headers", "document"),
    [
        ({}, {"message": HOSTILE}),
        ({}, {"__type": HOSTILE, "message": "No"}),
        ({}, {"code": HOSTILE}),
        ({"X-Amzn-ErrorType": "\x1b[2J\x9b\x07"}, {}),
        ({"X-Amzn-RequestId": "\x1b[2J\x9b\x07"}, {}),
    ],
)
def test_nothing_that_a_terminal_obeys(headers, document, ask):
    """Control characters, line ends, and overrides of the writing direction come out as escapes, in every part."""
    refusal = answer(403, json.dumps(document).encode(), headers)
    with ScriptedService((refusal,)) as service, pytest.raises(CreateSessionError) as caught:
        ask(service.url)
    error = caught.value
    for text in (error.message, error.hint, error.code, error.request_id or "", str(error)):
        assert text.isprintable()
    assert r"\x1b" in error.message


@pytest.mark.parametrize("place", ["message", "__type", "X-Amzn-ErrorType", "X-Amzn-RequestId"])
def test_a_giant_refusal_is_cut(place, ask):
    """However much a service has to say, it stays a line that can be read."""
    headers = {place: "x" * 60_000} if place.startswith("X") else {}
    document = {place: "\x1b" * 500_000} if not headers else {}
    with (
        ScriptedService((answer(403, json.dumps(document).encode()[: 1 << 20], headers),)) as service,
        pytest.raises(CreateSessionError) as caught,
    ):
        ask(service.url)
    error = caught.value
    assert len(error.message) < 5000
    assert len(error.code) < 500
    assert len(error.request_id or "") < 500


# Clocks

INVALID_SIGNATURE = json.dumps({"message": "Invalid signature"}).encode()


def refused_at(moment, body=INVALID_SIGNATURE):
    """A refusal with a Date header."""
    return answer(403, body, {"Date": moment if isinstance(moment, str) else format_datetime(moment, usegmt=True)})


@pytest.mark.parametrize(("minutes", "words"), [(10, "behind"), (-10, "ahead of"), (60 * 24 * 400, "behind")])
def test_a_wrong_clock_is_named(minutes, words, ask):
    """A signature that was refused while the clocks differ says by how much, in which direction, and what to do."""
    with (
        ScriptedService((refused_at(NOW.replace(microsecond=0) + timedelta(minutes=minutes)),)) as service,
        pytest.raises(CreateSessionError, match=f"this machine's clock is .* s {words} the service's") as caught,
    ):
        ask(service.url)
    seconds = next(int(word) for word in caught.value.message.split("clock is ")[1].split() if word.isdigit())
    assert abs(seconds - abs(minutes) * 60) <= 1
    assert "set this machine's clock" in caught.value.hint
    assert "Invalid signature" in caught.value.message


@pytest.mark.parametrize(
    "date",
    [
        NOW,
        NOW + timedelta(seconds=60),
        NOW - timedelta(seconds=60),
        *("", "yesterday", "Thu, 99 Jan 2030 12:00:00 GMT", "Thu, 31 Jan 99999 12:00:00 GMT", "\xff", "0"),
        "Thu, 31 Jan 2030 12:00:00 -0000",
        "Thu, 31 Jan 2030 14:00:00 +0200",
    ],
)
def test_a_right_clock_is_not_blamed(date, ask):
    """Clocks that agree, and a Date that says nothing, are not named as the cause."""
    with ScriptedService((refused_at(date),)) as service, pytest.raises(CreateSessionError) as caught:
        ask(service.url)
    assert "'s clock is" not in caught.value.message


def test_another_refusal_is_not_blamed_on_the_clock(ask):
    """Clocks that differ are named for a refused signature only."""
    body = json.dumps({"message": "Certificate revoked"}).encode()
    with (
        ScriptedService((refused_at(NOW + timedelta(hours=1), body),)) as service,
        pytest.raises(CreateSessionError) as caught,
    ):
        ask(service.url)
    assert "clock" not in caught.value.message


# Retries

THROTTLED = json.dumps({"message": "Rate exceeded"}).encode()
PASSING = {
    "500": (answer(500),),
    "502": (answer(502, b"<html>"),),
    "503": (answer(503),),
    "504": (answer(504),),
    "429": (answer(429, THROTTLED),),
    "ThrottlingException": (answer(400, THROTTLED, {"X-Amzn-ErrorType": "ThrottlingException"}),),
    "TooManyRequestsException": (answer(400, THROTTLED, {"X-Amzn-ErrorType": "TooManyRequestsException"}),),
    "closed": (),
    "reset": (RESET,),
    "cut short": (answer(201, b"{", length=2),),
}


@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again(script, failures, ask, leaf):
    """What may pass is tried again with the very same bytes: one signature, one date, whatever time has gone by."""
    with ScriptedService(*[script] * failures, (GRANTED,)) as service:
        clocks = Clocks(service, per_answer=1)
        assert ask(service.url, clocks).session_token == "example-session-token"
    assert len({request.raw for request in service.requests}) == 1
    assert len(service.requests) == failures + 1
    assert ask.signer.uses == 1
    assert clocks.sleeps == [2, 4][:failures]
    verify(service.requests[-1], leaf.certificate)


@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING)
def test_three_attempts_at_most(script, ask):
    """After the third attempt its failure is the answer."""
    with ScriptedService(script) as service, pytest.raises((CreateSessionError, TransportError)):
        ask(service.url)
    assert (service.connections, ask.signer.uses) == (3, 1)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((status, "AccessDeniedException") for status in (401, 403, 404, 409)),
        (400, "ValidationException"),
        (404, "ResourceNotFoundException"),
        (403, "NotThrottlingException"),
        (501, "UnknownOperationException"),
        (307, ""),
    ],
)
def test_a_refusal_is_final(status, code, ask):
    """What the service has decided is not asked again."""
    clocks = Clocks()
    with (
        ScriptedService((answer(status, b"{}", {"X-Amzn-ErrorType": code}),)) as service,
        pytest.raises(CreateSessionError),
    ):
        ask(service.url, clocks)
    assert (service.connections, clocks.sleeps) == (1, [])


def test_a_tls_failure_is_final(ask, tls):
    """A server that is not trusted is not tried again."""
    clocks = Clocks()
    with ScriptedService((GRANTED,), tls=tls) as service, pytest.raises(TransportError, match="no TLS connection"):
        ask(service.url, clocks)
    assert (service.connections, clocks.sleeps) == (1, [])


def test_a_refused_proxy_password_is_final(ask, tls):
    """A proxy's 407 is not tried again: it may be counting wrong passwords."""
    with ScriptedProxy(authorization="Basic b3RoZXI=") as proxy, pytest.raises(TransportError, match="407"):
        ask("https://service.test", ca_bundle=tls.ca, proxy=Secret(f"http://user:password@{proxy.address}"))
    assert proxy.connections == 1


def test_an_unusable_proxy_url_is_final(ask):
    """A proxy URL that cannot be used is no reason to wait and try again."""
    clocks = Clocks()
    with pytest.raises(ConfigurationError):
        ask("https://service.test", clocks, proxy=Secret("http://user:pass/word@proxy.test:80"))
    assert clocks.sleeps == []


@pytest.mark.parametrize(
    ("per_answer", "attempts"),
    [
        (0, 3),
        (28, 2),  # after the second attempt and its pause it would be 28 + 2 + 28 + 4 seconds old
        (59, 1),  # its pause would make it a minute old
        (3600, 1),  # the attempt itself took an hour
    ],
)
def test_no_retry_of_an_old_request(per_answer, attempts, ask):
    """A request that would be a minute old is not sent again: nearer to five, its date would be the next failure."""
    with ScriptedService((answer(503),)) as service, pytest.raises(CreateSessionError, match="503"):
        ask(service.url, Clocks(service, per_answer), seconds=100_000)
    assert len(service.requests) == attempts


def test_no_retry_past_the_deadline(ask):
    """Where the pause would outlast the deadline, the failure is told at once: it says more than a deadline does."""
    with ScriptedService((answer(503),)) as service:
        clocks = Clocks(service, per_answer=8)
        with pytest.raises(CreateSessionError, match="503"):
            ask(service.url, clocks, seconds=9.5)
    assert len(service.requests) == 1
    assert clocks.sleeps == []


def test_a_retry_that_the_deadline_cuts_off(ask):
    """A retry without an answer in time leaves the failure before it as the cause: it says more than a deadline."""
    with ScriptedService((answer(503),), (HANG,)) as service, pytest.raises(CreateSessionError, match="503"):
        ask(service.url, seconds=3)
    assert service.connections == 2


def test_a_hanging_service_ends_at_the_deadline(ask):
    """A service that never answers is waited for once, to the deadline."""
    with ScriptedService((HANG,)) as service, pytest.raises(DeadlineError, match=service.address):
        ask(service.url, Clocks(service, per_answer=1), seconds=1)
    assert service.connections == 1


def test_nobody_at_home(ask):
    """An address at which nobody listens is tried three times, and then named."""
    with ScriptedService() as service:
        url, address = service.url, service.address
    clocks = Clocks()
    with pytest.raises(TransportError, match=f"no answer from {address}: Connection refused"):
        ask(url, clocks)
    assert clocks.sleeps == [2, 4]


def test_every_error_is_one_line_with_a_remedy(ask):
    """Cause and remedy are one printable line each, for every refusal of this file's tables."""
    bodies = [b if isinstance(b, bytes) else json.dumps(b).encode() for b in NO_CREDENTIALS.values()]
    scripts = [(answer(status, body),) for body in bodies for status in (201, 403)]
    with ScriptedService(*scripts) as service:
        for _ in scripts:
            with pytest.raises(RolekeyError) as caught:
                ask(service.url)
            assert caught.value.message.isprintable()
            assert caught.value.hint.isprintable()
            assert caught.value.hint
