"""The instance metadata service: paths, tokens, codes, and who may ask, as requests without a network."""

import http.client
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import Request as URLRequest
from urllib.request import urlopen

import pytest

from rolekey.errors import ConfigurationError
from rolekey.http_protocol.messages import Connection, Request
from rolekey.vend.exports import metadata_exports
from rolekey.vend.imds import InstanceMetadata, TokenMint
from rolekey.vend.local_site import AllowedHosts
from rolekey.vend.peers import PeerCheck
from support.fake_source import FakeSource, make_credentials, make_site
from support.process import running_program

TOKEN_PATH = "/latest/api/token"
ROLES_PATH = "/latest/meta-data/iam/security-credentials"
TTL = "x-aws-ec2-metadata-token-ttl-seconds"


class Answer:
    """An answer, taken apart."""

    def __init__(self, whole: bytes) -> None:
        head, _, self.body = whole.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        self.status = int(line.split()[1])
        self.headers = dict(field.split(": ", 1) for field in fields)
        assert self.headers["content-length"] == str(len(self.body))


class Clock:
    """A time that a test sets."""

    now = 1000.7

    def __call__(self) -> float:
        return self.now


def make_request(method: str, path: str, host: str = "127.0.0.1:9911", **headers: str) -> Request:
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request(
        method.encode(), path.encode(), host.encode(), fields, Connection(("127.0.0.1", 9911), ("127.0.0.1", 5))
    )


class Service:
    """The service with made-up sources and a clock."""

    def __init__(self, *sources: FakeSource) -> None:
        self.clock = Clock()
        self.source = sources[0] if sources else FakeSource()
        self._metadata = InstanceMetadata(sources or [self.source], TokenMint(b"k" * 32, self.clock))

    def ask(self, method: str, path: str, **headers: str) -> Answer:
        return Answer(self._metadata.respond(make_request(method, path, **headers)))

    def token(self, ttl: str = "21600") -> str:
        return self.ask("PUT", TOKEN_PATH, **{TTL: ttl}).body.decode()

    def get(self, path: str, token: str | None = None) -> Answer:
        return self.ask("GET", path, x_aws_ec2_metadata_token=self.token() if token is None else token)


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_three_routes(slash):
    """Token, role, credentials: with and without a slash at the end, without a redirect, each with the seconds left."""
    service = Service()
    token = service.ask("PUT", TOKEN_PATH + slash, **{TTL: "60"})
    assert (token.status, token.headers[TTL]) == (200, "60")
    role = service.get(ROLES_PATH + slash, token.body.decode())
    assert (role.status, role.body, role.headers[TTL]) == (200, b"reader", "60")
    service.clock.now += 20
    found = service.get(f"{ROLES_PATH}/reader{slash}", token.body.decode())
    assert (found.status, found.headers[TTL]) == (200, "40")


def test_the_document():
    """The official helper's members in their order, one line; LastUpdated as the real service writes it."""
    source = FakeSource()
    text = Service(source).get(f"{ROLES_PATH}/reader").body.decode()
    credentials = source.credentials
    assert list(json.loads(text).items()) == [
        ("AccessKeyId", credentials.access_key_id),
        ("SecretAccessKey", credentials.secret_access_key),
        ("Token", credentials.session_token),
        ("Code", "Success"),
        ("Type", "AWS-HMAC"),
        ("Expiration", f"{credentials.expiration:%Y-%m-%dT%H:%M:%SZ}"),
        ("LastUpdated", "2027-01-15T08:00:00Z"),
    ]
    assert text.count("\n") == 1
    assert ", " not in text


def test_new_credentials_are_handed_out_at_once():
    """An answer is kept as long as the credentials are the same, and no longer."""
    source = FakeSource()
    service = Service(source)
    before = service.get(f"{ROLES_PATH}/reader").body
    assert service.get(f"{ROLES_PATH}/reader").body == before
    source.credentials = make_credentials(1)
    assert json.loads(service.get(f"{ROLES_PATH}/reader").body)["AccessKeyId"] == "ASIAEXAMPLEEXAMPLE01"


def test_nothing_valid_left():
    """Without credentials: 503 with a code and a message, nothing old; the role is still named. Later they are back."""
    source = FakeSource()
    service = Service(source)
    credentials = source.credentials
    assert service.get(f"{ROLES_PATH}/reader").status == 200
    source.credentials = None
    answer = service.get(f"{ROLES_PATH}/reader")
    assert answer.status == 503
    assert json.loads(answer.body) == {"Code": "TransportError", "Message": "no answer from the service"}
    assert service.get(ROLES_PATH).body == b"reader"
    source.credentials = credentials
    assert service.get(f"{ROLES_PATH}/reader").status == 200


def test_several_identities():
    """The list names the first role alone, since SDKs take the whole list for one name; the others have their paths."""
    second = FakeSource(name="b", role_name="admin", credentials=make_credentials(7))
    service = Service(FakeSource(name="a"), second, FakeSource(name="c"))
    assert service.get(ROLES_PATH).body == b"reader"
    assert json.loads(service.get(f"{ROLES_PATH}/admin").body)["AccessKeyId"].endswith("07")
    assert json.loads(service.get(f"{ROLES_PATH}/reader").body)["AccessKeyId"].endswith("00")


@pytest.mark.parametrize("path", [f"{ROLES_PATH}/a+=,.@-_b", f"{ROLES_PATH}/a%2B%3D%2C%2E%40-_b"])
def test_names_with_every_character(path):
    """A role's name is found as it is, and with %-escapes."""
    assert Service(FakeSource(role_name="a+=,.@-_b")).get(path).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{ROLES_PATH}/other", 404),
        (f"{ROLES_PATH}/reader/x", 404),
        (f"{ROLES_PATH}//", 404),
        (f"{ROLES_PATH}-extended/", 404),
        ("/latest/meta-data/", 404),
        ("/latest/dynamic/instance-identity/document", 404),
        ("/latest/../latest/api/token", 404),
        (f"{TOKEN_PATH}/x", 404),
    ],
)
def test_what_is_not_there(path, status):
    """404, also for another role's name."""
    assert Service().get(path).status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", [ROLES_PATH, f"{ROLES_PATH}/reader", f"{ROLES_PATH}/other"])
def test_only_get(method, path):
    """Credentials and their names are for GET; the answer says so."""
    answer = Service().ask(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_only_put_makes_a_token(method):
    """A token is made by PUT, which no web page may send without being asked first."""
    answer = Service().ask(method, TOKEN_PATH)
    assert (answer.status, answer.headers["allow"]) == (405, "PUT")


# --- tokens


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1", 1), ("60", 60), ("+60", 60), ("21600", 21600), ("0021600", 21600), ("0" * 9000 + "5", 5), ("", 21600)],
)
def test_lifetimes(value, seconds):
    """1 to 21600 seconds, written as Go writes and reads them; 21600 where none is given."""
    answer = Service().ask("PUT", TOKEN_PATH, **{TTL: value})
    assert (answer.status, answer.headers[TTL]) == (200, str(seconds))


def test_a_lifetime_need_not_be_given():
    """Without the header a token is good for six hours."""
    assert Service().ask("PUT", TOKEN_PATH).headers[TTL] == "21600"


@pytest.mark.parametrize(
    "value",
    ["0", "-1", "21601", "99999999999", "9" * 9000, "1.5", "1e3", "0x10", "1_0", "++1", "six", "1, 1", "\u0661"],
)
def test_lifetimes_that_are_none(value):
    """400, with the official helper's words."""
    answer = Service().ask("PUT", TOKEN_PATH, **{TTL: value})
    assert (answer.status, answer.body) == (400, b"invalid token TTL\n")


def test_a_token_ends():
    """Good to its last second, then 401."""
    service = Service()
    token = service.token("10")
    service.clock.now += 9
    assert service.get(ROLES_PATH, token).headers[TTL] == "1"
    service.clock.now += 1
    answer = service.get(ROLES_PATH, token)
    assert (answer.status, answer.body) == (401, b"invalid token provided\n")


@pytest.mark.parametrize("path", [ROLES_PATH, f"{ROLES_PATH}/reader", f"{ROLES_PATH}/other"])
def test_no_token(path):
    """401, with the official helper's words; an empty one is none."""
    for answer in (Service().ask("GET", path), Service().ask("GET", path, x_aws_ec2_metadata_token="")):
        assert (answer.status, answer.body) == (401, b"no token provided\n")


def test_a_token_cannot_be_made_up_or_prolonged():
    """Every single character counts, and so does the length; one of another process is none."""
    service = Service()
    token = service.token("60")
    assert re.fullmatch("[0-9a-f]{68}", token)
    for place in range(len(token)):
        changed = token[:place] + ("0" if token[place] != "0" else "1") + token[place + 1 :]
        assert service.get(ROLES_PATH, changed).status == 401
    other = TokenMint(b"K" * 32, service.clock).mint(60).decode()
    for bad in (token[:-1], token + "0", token.upper(), token + ", " + token, other, "0", "\u00e9" * 68, "f" * 68):
        assert service.get(ROLES_PATH, bad).status == 401, bad
    assert service.get(ROLES_PATH, token).status == 200


def test_no_two_tokens_are_the_same():
    """Also of the same second."""
    service = Service()
    assert len({service.token() for _ in range(1000)}) == 1000


def test_tokens_need_no_memory():
    """Ten thousand tokens leave the process as large as it was, and the first is still good."""
    command = [sys.executable, "-m", "support.fake_source"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with running_program(command, stdout=subprocess.PIPE, env=environment) as server:
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        first = fetch(url + TOKEN_PATH, "PUT")
        ask_for_tokens(url, 2000)
        before = resident(server.pid)
        ask_for_tokens(url, 10_000)
        assert resident(server.pid) - before < 1024
        assert fetch(url + ROLES_PATH, "GET", {"x-aws-ec2-metadata-token": first.decode()}) == b"reader"


def fetch(url: str, method: str, headers: dict[str, str] | None = None) -> bytes:
    with urlopen(URLRequest(url, method=method, headers=headers or {}), timeout=60) as answer:
        return answer.read()


def ask_for_tokens(url: str, number: int) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    for _ in range(number):
        connection.request("PUT", TOKEN_PATH)
        assert len(connection.getresponse().read()) == 68
    connection.close()


def resident(pid: int) -> int:
    """Kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


# --- who may ask


def ask_site(method: str, path: str, host: str = "127.0.0.1:9911", peers=None, hosts=(), **headers: str) -> Answer:
    site = make_site([FakeSource()], hosts=hosts, peers=peers)
    return Answer(site.respond(make_request(method, path, host, **headers)))


ALL_PATHS = [("PUT", TOKEN_PATH), ("GET", ROLES_PATH), ("GET", "/creds/prod"), ("GET", "/healthz"), ("GET", "/none")]


@pytest.mark.parametrize(("method", "path"), ALL_PATHS)
def test_a_proxys_requests_are_refused(method, path):
    """X-Forwarded-For is 400 on every path, not only for tokens; an empty one says nothing."""
    answer = ask_site(method, path, x_forwarded_for="10.0.0.1")
    assert (answer.status, answer.body) == (400, b"unable to process requests with X-Forwarded-For header\n")
    assert ask_site(method, path, x_forwarded_for="").status != 400


@pytest.mark.parametrize(("method", "path"), ALL_PATHS)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:9911", "127.0.0.1.evil.example", "[::2]:9911", ":9911"])
def test_a_foreign_host_is_refused(method, path, host):
    """A name that a web page's owner chose (DNS rebinding) is 403 on every path."""
    assert ask_site(method, path, host).status == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9911", "localhost", "LocalHost:80", "localhost:", "[::1]", "[::1]:9911"]
)
def test_hosts_of_the_loopback_interface(host):
    """Every name of it is served, with any port."""
    assert ask_site("PUT", TOKEN_PATH, host).status == 200


def test_more_hosts_can_be_allowed():
    """Names and addresses, in any case, with any port."""
    more = ["metadata.example", "192.0.2.1", "2001:db8::1", "[2001:DB8::2]"]
    for host in ("metadata.example", "Metadata.Example:80", "192.0.2.1:1", "[2001:db8::1]:9911", "[2001:db8::2]"):
        assert ask_site("PUT", TOKEN_PATH, host, hosts=more).status == 200
    assert ask_site("PUT", TOKEN_PATH, "x.metadata.example", hosts=more).status == 403


@pytest.mark.parametrize("host", ["", "[]", "a b", "a/b", "http://a", "a:80", "*", "a,b", "\u00e4", "a\r\nb", "u@h"])
def test_hosts_that_are_none(host):
    """Refused when the server starts: nothing that would never match, or match too much."""
    if host == "*":
        assert b"evil.example" not in AllowedHosts([host])
        return
    with pytest.raises(ConfigurationError):
        AllowedHosts([host])


def test_another_users_processes_are_refused():
    """The metadata service is for one user; who cannot be told is not that user. The other paths are not looked at."""
    for found, status in ((1000, 200), (1001, 403), (0, 403), (None, 403)):
        peers = PeerCheck(lambda _, found=found: found, 1000)
        assert ask_site("PUT", TOKEN_PATH, peers=peers).status == status
        assert ask_site("GET", "/healthz", peers=peers).status == 200
        assert ask_site("GET", "/creds/prod", peers=peers).status == 401


def test_exports():
    """A line for a shell, without the final slash that some SDKs double."""
    assert metadata_exports("http://127.0.0.1:9911") == [
        "export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:9911"
    ]
