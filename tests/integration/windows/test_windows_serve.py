"""``rolekey serve`` and ``rolekey emulator`` on Windows.

Wine knows which of its own processes has a connection. One of this machine's is to it what another user's is to
Windows: none that it can look at.
"""

import contextlib
import json
import signal
import socket
from urllib.parse import urlsplit

import pytest

from support.serve_process import ROLES, ask
from support.windows_serve import running_python, running_windows_serve

TOKEN = "a-token-that-clients-know"
BOTOCORE = """
import json
from botocore.session import Session
found = Session().get_credentials()
print(json.dumps([found.method, found.get_frozen_credentials().access_key]))
"""
# The client asks from its own socket for the family's address, as SDKs in several languages do.
ROUTES = """
import socket, sys
port = int(sys.argv[1])
for family, address in (
    (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")
):
    with socket.socket(family) as client:
        if family == socket.AF_INET6:
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        client.connect((address, port))
        client.sendall(b"PUT /latest/api/token HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
        print(address, client.makefile().readline().strip())
"""
SHARING = """
import errno, socket
from rolekey.http_protocol.addresses import bind
with bind("127.0.0.1", 0) as listener, socket.socket() as thief:
    print(listener.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE))
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        thief.bind(listener.getsockname())
    except PermissionError:
        print("refused")
"""
HOPS = """
import socket
from rolekey.http_protocol.addresses import bind_loopback, keep_hop_limit, set_hop_limit
for listener in bind_loopback(0):
    set_hop_limit(listener, 3)
    with socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as accepted, listener:
        keep_hop_limit(listener, accepted)
        v6 = listener.family == socket.AF_INET6
        print(accepted.getsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if v6
                                    else (socket.IPPROTO_IP, socket.IP_TTL))))
"""
# Ctrl-Break as C's library delivers it: Wine without a desktop has no console from which it would come.
BREAK = """
import signal, sys, threading, urllib.error, urllib.request
from rolekey.cli.main import run
def press():
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/healthz", timeout=60).close()
        except urllib.error.URLError:
            continue
        signal.raise_signal(signal.SIGBREAK)
        return
threading.Thread(target=press, daemon=True).start()
sys.exit(run(sys.argv[2:]))
"""


@pytest.fixture
def words(emulator, windows_key):
    """What a `rolekey serve` with a key in a file needs."""
    return [*emulator.arguments, *windows_key]


@pytest.fixture
def program(tmp_path, windows):
    """Writes a program for Python, and gives its path there."""

    def write(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        return windows.path(path)

    return write


def port_of(url):
    """The port of a URL, as a word."""
    return str(urlsplit(url).port)


# --- who gets what ---


def test_sdks(windows, words, emulator, program):
    """Botocore on Windows takes the credentials from either endpoint with the variables of --print-env."""
    code = program(BOTOCORE)
    with running_windows_serve(windows, *words) as served:
        assert ask(served.urls[0], "/readyz").status == 200
        container = windows.run("python", code, environment=served.exports)
        names = [name for name in served.exports if "CONTAINER" not in name]
        metadata = windows.run("python", code, environment={name: served.exports[name] for name in names})
    assert names == ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    (granted,) = emulator.granted
    assert json.loads(container.stdout) == ["container-role", granted], container.stderr
    assert json.loads(metadata.stdout) == ["iam-role", granted], metadata.stderr


def test_processes_of_the_same_user(windows, words, program):
    """The metadata service answers a process of the user, and none that the tables do not name: over IPv6, Wine's."""
    with running_windows_serve(windows, *words) as served:
        done = windows.run("python", program(ROUTES), port_of(served.urls[0]))
    expected = [("127.0.0.1", "200 OK"), ("::1", "403 Forbidden"), ("::ffff:127.0.0.1", "403 Forbidden")]
    assert done.stdout.splitlines() == [f"{address} HTTP/1.1 {status}" for address, status in expected], done.stderr


def test_a_process_that_cannot_be_looked_at(windows, words, emulator):
    """It gets nothing from the metadata service; the container endpoint answers it with the token, and not without."""
    with running_windows_serve(windows, *words) as served:
        assert served.started == [f"rolekey: listening on {url}" for url in served.urls]
        for url in served.urls:
            refused = served.metadata_token(url)
            assert (refused.status, refused.body[:31]) == (403, b"only processes of the user who ")
            assert ask(url, ROLES).status == 403
            assert ask(url, "/creds/default").status == 401
            assert served.container(url).document["AccessKeyId"] == emulator.granted[-1]


def test_any_user(windows, words, emulator):
    """With --any-user every process gets the credentials from the metadata service."""
    with running_windows_serve(windows, *words, "--any-user") as served:
        token = served.metadata_token()
        headers = {"X-aws-ec2-metadata-token": token.body.decode()}
        role = ask(served.urls[0], ROLES, headers).body.decode()
        found = ask(served.urls[0], ROLES + role, headers).document
        assert found["AccessKeyId"] == emulator.granted[-1]
        assert ask(served.urls[0], "/metrics").status == 200


def test_named_token_file(windows, words, tmp_path):
    """--token-file names the token that the container endpoint wants."""
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text(TOKEN)
    with running_windows_serve(windows, *words, "--token-file", windows.path(tmp_path / "token")) as served:
        assert served.token_file == tmp_path / "token"
        assert served.container().status == 200


@pytest.mark.parametrize(
    ("content", "mode", "fault", "way_out"),
    [
        (f"{TOKEN}\n", 0o600, "has a line end in it", "Set-Content -NoNewline"),
        (TOKEN, 0o644, "has an access list that lets Everyone in", "icacls "),
    ],
)
def test_bad_token_file(windows, words, tmp_path, content, mode, fault, way_out):
    """A token that SDKs could not send, or that others get at, is one line of cause and one of remedy, without it."""
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    done = windows.run("rolekey", "serve", *words, "--port=0", "--token-file", windows.path(path))
    assert (done.returncode, done.stdout) == (2, "")
    cause, remedy = done.stderr.splitlines()
    assert fault in cause
    assert way_out in remedy
    assert TOKEN not in done.stderr


# --- its sockets ---


def test_port_in_use(windows, words):
    """A second one on the same port ends with the exit code for that, one line of cause and one of remedy."""
    with running_windows_serve(windows, *words) as served:
        port = port_of(served.urls[0])
        done = windows.run("rolekey", "serve", *words, "--port", port)
        assert served.container().status == 200
    assert (done.returncode, done.stdout) == (8, "")
    cause, remedy = done.stderr.splitlines()
    assert cause == f"rolekey: error: cannot listen on 127.0.0.1 port {port}: Address already in use"
    assert remedy.startswith("rolekey: hint: choose another")


def test_port_is_not_shared(windows, program):
    """No other program can listen on the same address and port, also one that asks to share it."""
    done = windows.run("python", program(SHARING))
    assert done.stdout.splitlines() == ["1", "refused"], done.stderr


def test_hop_limit(windows, program):
    """A connection has the hop limit of the socket that accepted it, over IPv4 and IPv6."""
    done = windows.run("python", program(HOPS))
    assert done.stdout.splitlines() == ["3", "3"], done.stderr


def test_more_connections_than_select_takes(windows, words):
    """Connections above a fixed number, which Windows' select() could not take, are turned away; others are served."""
    with running_windows_serve(windows, *words) as served, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", int(port_of(served.urls[0])))
        clients = [stack.enter_context(socket.create_connection(address, 60)) for _ in range(600)]
        assert clients[-1].recv(4096).startswith(b"HTTP/1.1 503 ")
        assert served.container(served.urls[1]).status == 200
        clients[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert clients[0].recv(4096).startswith(b"HTTP/1.1 200 ")


# --- its end ---


def test_interrupted(windows, words):
    """Ctrl-C ends it with 0 and without a word, though a client keeps its connection; the port is free."""
    with running_windows_serve(windows, *words) as served:
        address = ("127.0.0.1", int(port_of(served.urls[0])))
        with socket.create_connection(address, 60) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            assert served.interrupt() == (0, "")
            assert client.recv(4096) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 60)


def test_break(windows, words, program):
    """Ctrl-Break ends it likewise."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    done = windows.run("python", program(BREAK), port, "serve", *words, "--port", port)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert all(line.startswith("rolekey: listening on ") for line in done.stderr.splitlines())


# --- the emulator ---


def test_emulator(windows, windows_key, root, tmp_path):
    """The emulator on Windows gives credentials to a credential-process there, and keeps a line of each request."""
    certificate, _ = root.write(tmp_path, "ca")
    words = ("--ca", windows.path(certificate), "--requests", windows.path(tmp_path / "requests"))
    with running_python(windows, "-m", "rolekey", "emulator", *words) as process:
        said = [process.stdout.readline().decode().rstrip("\r\n") for _ in range(2)]
        url = said[0].removeprefix("listening on ")
        told = said[1].split()  # in one line, for cmd and PowerShell alike
        done = windows.run("rolekey", "credential-process", *windows_key, *told)
        assert (done.returncode, done.stderr) == (0, "")
        again = windows.run("rolekey", "emulator", *words[:2], "--port", port_of(url))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, b"", b"")
    assert json.loads(done.stdout)["AccessKeyId"]
    (line,) = (tmp_path / "requests").read_bytes().splitlines(keepends=True)
    assert json.loads(line)["status"] == 201
    assert not line.endswith(b"\r\n")
    assert again.returncode == 8
    assert [line.partition(": ")[0] for line in again.stderr.splitlines()] == ["rolekey", "rolekey"]


def test_emulator_without_its_ca(windows, tmp_path):
    """A CA that is not there is one line of cause and one of remedy."""
    done = windows.run("rolekey", "emulator", "--ca", windows.path(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    cause, remedy = done.stderr.splitlines()
    assert cause.startswith("rolekey: error: ")
    assert "none" in cause
    assert remedy.startswith("rolekey: hint: ")
