"""The container credentials endpoint, the file of its token, and what is beside it: health and metrics."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rolekey.errors import ConfigurationError
from rolekey.http_protocol.messages import Connection, Request
from rolekey.secret import Secret
from rolekey.vend.container import ContainerCredentials
from rolekey.vend.exports import container_exports
from rolekey.vend.health import Health
from rolekey.vend.token_file import make_token_file, read_token
from support.fake_source import FakeMetrics, FakeSource, make_credentials

TOKEN = "a-token-of-this-test"


def ask(endpoint, path="/creds/prod", method="GET", token=TOKEN):
    """Status, headers and body."""
    headers = {} if token is None else {b"authorization": token.encode()}
    ends = Connection(("127.0.0.1", 9911), ("127.0.0.1", 5))
    whole = endpoint.respond(Request(method.encode(), path.encode(), b"127.0.0.1", headers, ends))
    head, _, body = whole.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    found = dict(field.split(": ", 1) for field in fields)
    assert found["content-length"] == str(len(body))
    return int(line.split()[1]), found, body


def serve(*sources, token=TOKEN):
    return ContainerCredentials(sources or [FakeSource()], lambda: Secret(token))


def test_the_document():
    """The four members that SDKs read, in one line of JSON."""
    source = FakeSource()
    status, headers, body = ask(serve(source))
    assert (status, headers["content-type"]) == (200, "application/json")
    assert list(json.loads(body).items()) == [
        ("AccessKeyId", source.credentials.access_key_id),
        ("SecretAccessKey", source.credentials.secret_access_key),
        ("Token", source.credentials.session_token),
        ("Expiration", f"{source.credentials.expiration:%Y-%m-%dT%H:%M:%SZ}"),
    ]


def test_several_identities():
    """Each has its path, whatever characters are in its name."""
    names = ("a", "b c", "d/e", "\u00e4")
    endpoint = serve(*(FakeSource(name=name, credentials=make_credentials(i)) for i, name in enumerate(names)))
    for i, path in enumerate(("/creds/a", "/creds/b%20c", "/creds/d%2Fe", "/creds/%C3%A4")):
        assert json.loads(ask(endpoint, path)[2])["AccessKeyId"].endswith(f"0{i}")


def test_new_credentials_are_handed_out_at_once():
    """An answer is kept as long as the credentials are the same, and no longer."""
    source = FakeSource()
    endpoint = serve(source)
    assert ask(endpoint) == ask(endpoint)
    source.credentials = make_credentials(1)
    assert json.loads(ask(endpoint)[2])["AccessKeyId"].endswith("01")


def test_nothing_valid_left():
    """503 with a code and a message, never what has expired; later the credentials are back."""
    source = FakeSource()
    endpoint = serve(source)
    credentials = source.credentials
    assert ask(endpoint)[0] == 200
    source.credentials = None
    status, headers, body = ask(endpoint)
    assert (status, headers["content-type"]) == (503, "application/json")
    assert json.loads(body) == {"code": "TransportError", "message": "no answer from the service"}
    source.credentials = credentials
    assert ask(endpoint)[0] == 200


@pytest.mark.parametrize(
    "token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), f"Bearer {TOKEN}", "\u00e9"]
)
@pytest.mark.parametrize("path", ["/creds/prod", "/creds/none", "/creds/"])
def test_the_token_has_to_be_shown(token, path):
    """401 without it, whether or not the name is known; the token itself is in no answer."""
    status, _, body = ask(serve(), path, token=token)
    assert status == 401
    assert json.loads(body)["code"] == "Unauthorized"
    assert TOKEN.encode() not in body


@pytest.mark.parametrize(
    ("path", "status"), [("/creds/none", 404), ("/creds/", 404), ("/creds/prod/", 404), ("/creds", 404), ("/", 404)]
)
def test_what_is_not_there(path, status):
    """404 for whoever has the token."""
    found, _, body = ask(serve(), path)
    assert found == status
    assert json.loads(body)["code"] == "NotFound"


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "DELETE"])
def test_only_get(method):
    """405, and what is allowed."""
    status, headers, _ = ask(serve(), method=method)
    assert (status, headers["allow"]) == (405, "GET")


def test_the_token_is_read_anew(tmp_path):
    """After reload() the new token counts and the old one no longer; what cannot be read changes nothing."""
    path = tmp_path / "token"
    make_token_file(path)
    endpoint = ContainerCredentials([FakeSource()], lambda: read_token(path))
    old = path.read_text()
    make_token_file(path)
    new = path.read_text()
    assert [ask(endpoint, token=token)[0] for token in (old, new)] == [200, 401]
    endpoint.reload()
    assert [ask(endpoint, token=token)[0] for token in (old, new)] == [401, 200]
    path.unlink()
    with pytest.raises(ConfigurationError):
        endpoint.reload()
    assert [ask(endpoint, token=token)[0] for token in (old, new)] == [401, 200]


# --- the file of the token


def test_a_token_file_is_made(tmp_path):
    """Random letters and digits without a line end, for this user alone, in a directory for this user alone."""
    path = tmp_path / "a" / "token"
    make_token_file(path)
    first = path.read_text()
    assert len(first) == 43
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert read_token(path).reveal() == first
    make_token_file(path)
    assert path.read_text() != first


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"0123456789abcdef\n", "line end"),
        (b"0123456789abcdef\r\nX-Evil: 1", "line end"),
        (b"0123456789\rabcdef", "line end"),
        (b"", "0 bytes"),
        (b"0123456789abcde", "15 bytes"),
        (b"x" * 4097, "4097 bytes"),
        (b"0123456789 abcdef", "no header"),
        (b"0123456789abcde\x00", "no header"),
        ("0123456789abcde\u00e9".encode(), "no header"),
    ],
)
def test_tokens_that_cannot_be_used(tmp_path, content, words):
    """The error says why, and not what the file holds."""
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        read_token(path)
    assert words in caught.value.message
    assert "0123456789" not in caught.value.message + caught.value.hint


def test_token_files_that_cannot_be_used(tmp_path):
    """One that is missing, open to others, a link or a directory is refused, by name."""
    good = tmp_path / "good"
    make_token_file(good)
    for mode in (0o640, 0o604, 0o660):
        good.chmod(mode)
        with pytest.raises(ConfigurationError):
            read_token(good)
    good.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(good)
    for bad in (tmp_path / "none", link, tmp_path):
        with pytest.raises(ConfigurationError) as caught:
            read_token(bad)
        assert str(bad) in caught.value.message
    with pytest.raises(ConfigurationError):
        make_token_file(good / "below-a-file")


@pytest.mark.rig("root")
def test_a_token_that_systemd_guards(tmp_path):
    """A credential may be root's, with an access list's mask for its mode; a link and a bad token are refused still."""
    path = tmp_path / "token"
    path.write_text("0123456789abcdef")
    path.chmod(0o440)
    os.chown(path, 1, 1)
    with pytest.raises(ConfigurationError):
        read_token(path)
    assert read_token(path, guarded=True).reveal() == "0123456789abcdef"
    (tmp_path / "link").symlink_to(path)
    path.with_name("short").write_text("short")
    for bad in ("link", "short", "none"):
        with pytest.raises(ConfigurationError):
            read_token(tmp_path / bad, guarded=True)


def test_exports(tmp_path):
    """A shell that runs the lines has exactly the values, whatever is in them."""
    lines = container_exports("http://127.0.0.1:9911", "b c/'d", tmp_path / "a $HOME")
    names = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    script = "; ".join([*lines, *(f'printf "%s\\n" "${name}"' for name in names)])
    found = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert found == ["http://127.0.0.1:9911/creds/b%20c%2F%27d", str(tmp_path / "a $HOME")]
    assert [shlex.split(line)[0] for line in lines] == ["export", "export"]


def test_exports_for_powershell(tmp_path, monkeypatch):
    """On Windows PowerShell has the values: nothing is special between single quotes but these, which are doubled."""
    monkeypatch.setattr(sys, "platform", "win32")
    uri, file = container_exports("http://127.0.0.1:9911", "b", tmp_path / "a '$HOME")
    assert uri == "$env:AWS_CONTAINER_CREDENTIALS_FULL_URI = 'http://127.0.0.1:9911/creds/b'"
    assert file == f"$env:AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = '{tmp_path}/a ''$HOME'"


# --- health and metrics


def test_alive():
    """/healthz is 200 whatever becomes of the credentials."""
    assert ask(Health([FakeSource(credentials=None)]), "/healthz")[0] == 200


def test_ready():
    """/readyz is 200 while every identity has credentials, else 503 with each one that has none, and why."""
    good, bad = FakeSource(name="a"), FakeSource(name="b")
    health = Health([good, bad])
    assert ask(health, "/readyz")[0] == 200
    bad.credentials = None
    status, _, body = ask(health, "/readyz")
    assert (status, body) == (503, b"b: TransportError: no answer from the service\n")


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/", "GET", 404), ("/metrics/", "GET", 404), ("/healthz", "POST", 405)]
)
def test_nothing_else(path, method, status):
    """Other paths are 404, other methods 405."""
    assert ask(Health([FakeSource()]), path, method)[0] == status


def test_metrics():
    """prometheus_client's own parser finds every number under the identity's name, and none that is not known."""
    numbers = FakeMetrics(expires=None, certificate_expires=None, last_success=None, refreshes=0)
    health = Health([FakeSource(name='a"b'), FakeSource(name="new", numbers=numbers)])
    status, headers, body = ask(health, "/metrics")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    samples = {
        (sample.name, sample.labels["identity"]): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples == {
        ("rolekey_credentials_expiration_timestamp_seconds", 'a"b'): 1_900_000_000,
        ("rolekey_certificate_expiration_timestamp_seconds", 'a"b'): 1_950_000_000,
        ("rolekey_last_refresh_timestamp_seconds", 'a"b'): 1_800_000_000,
        ("rolekey_refresh_duration_seconds", 'a"b'): 0.25,
        ("rolekey_refreshes_total", 'a"b'): 3,
        ("rolekey_refresh_failures_total", 'a"b'): 1,
        ("rolekey_signatures_total", 'a"b'): 4,
        ("rolekey_refresh_duration_seconds", "new"): 0.25,
        ("rolekey_refreshes_total", "new"): 0,
        ("rolekey_refresh_failures_total", "new"): 1,
        ("rolekey_signatures_total", "new"): 4,
    }
    assert b"ASIA" not in body


def test_metrics_follow():
    """Each answer has the numbers of its moment."""
    source = FakeSource()
    health = Health([source])
    assert b'rolekey_refreshes_total{identity="prod"} 3.0' in ask(health, "/metrics")[2]
    source.numbers.refreshes = 4
    assert b'rolekey_refreshes_total{identity="prod"} 4.0' in ask(health, "/metrics")[2]


def test_without_prometheus_client(monkeypatch):
    """The answer says what to install; everything else goes on."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    health = Health([FakeSource()])
    status, _, body = ask(health, "/metrics")
    assert (status, b"rolekey[server]" in body) == (501, True)
    assert ask(health, "/healthz")[0] == 200


def test_prometheus_client_is_imported_when_somebody_asks():
    """Not before: it is a seventh of the process."""
    code = (
        "import sys\nfrom support.fake_source import FakeSource\nfrom rolekey.vend.health import Health\n"
        "health = Health([FakeSource()])\nassert 'prometheus_client' not in sys.modules\n"
        "health._metrics()\nassert 'prometheus_client' in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
