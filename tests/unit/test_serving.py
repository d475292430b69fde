"""cli/serving.py: what can be asked of `rolekey serve`, its sockets, its token file, and the service manager."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rolekey.cli.serve import serve_options_from
from rolekey.cli.serving import ServeOptions, is_credential, notify_systemd, open_sockets, token_file_of
from rolekey.errors import ConfigurationError, ListenError
from support.listener import ServerTLS

NAMES = [field.name for field in dataclasses.fields(ServeOptions)]


def options(**values):
    """As the command line has them, without any option that is not named here."""
    usual = {**dict.fromkeys(NAMES), "allow_host": None, "port": 0, "hop_limit": 64}
    return serve_options_from(usual | values)


NETWORK = {"listen": "192.0.2.1", "token_file": "token", "tls_certificate": "a.pem"}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"port": 65535, "hop_limit": 1},
        {"hop_limit": 255, "any_user": True, "token_file": "token"},
        NETWORK,
        NETWORK | {"tls_key": "a.key"},
        NETWORK | {"tls_certificate": None, "insecure_http": True},
    ],
)
def test_good_options(values):
    """What makes sense together is let through."""
    options(**values).check()


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"port": -1}, "--port"),
        ({"port": 65536}, "--port"),
        ({"hop_limit": 0}, "--hop-limit"),
        ({"hop_limit": 256}, "--hop-limit"),
        ({"tls_certificate": "a.pem"}, "for --listen"),
        ({"tls_key": "a.key"}, "for --listen"),
        ({"insecure_http": True}, "for --listen"),
        (NETWORK | {"tls_certificate": None}, "neither TLS nor --insecure-http"),
        (NETWORK | {"tls_certificate": None, "tls_key": "a.key"}, "neither TLS nor --insecure-http"),
        (NETWORK | {"listen": "0.0.0.0"}, "--listen 0.0.0.0 includes"),
        (NETWORK | {"listen": "::1"}, "--listen ::1 includes"),
        (NETWORK | {"token_file": None}, "a token"),
        (NETWORK | {"tls_certificate": None, "insecure_http": True, "token_file": None}, "a token"),
    ],
)
def test_bad_options(values, word):
    """What cannot be meant is refused with the option's name."""
    with pytest.raises(ConfigurationError, match=word) as caught:
        options(**values).check()
    assert caught.value.hint


def test_allowed_hosts():
    """Names with commas between them are taken apart; blanks and empty ones are nothing."""
    assert options(allow_host="a, b.test,,").allowed_hosts == ("a", "b.test")
    assert options().allowed_hosts == ()


def test_tls(tmp_path):
    """TLS settings come from the two files; without a certificate there are none, and bad files are refused."""
    made = ServerTLS.make(tmp_path)
    pair = {"tls_certificate": str(made.certificate), "tls_key": str(made.key)}
    assert options(**NETWORK | pair).tls() is not None
    assert options().tls() is None
    with pytest.raises(ConfigurationError, match="TLS certificate"):
        options(**NETWORK | pair | {"tls_key": str(tmp_path / "none")}).tls()


# --- sockets ---


def close(sockets):
    for each in (*sockets.loopback, *sockets.network):
        each.close()


def test_new_sockets():
    """Both loopback addresses have one port, which is announced; the packets have the hop limit."""
    sockets = open_sockets(options(hop_limit=3), {})
    try:
        port = sockets.loopback[0].getsockname()[1]
        assert sockets.urls == [f"http://127.0.0.1:{port}", f"http://[::1]:{port}"]
        assert sockets.url == sockets.urls[0]
        assert sockets.network == ()
        assert sockets.loopback[0].getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 3
        assert sockets.loopback[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) == 3
    finally:
        close(sockets)


@pytest.mark.parametrize(("certificate", "scheme"), [("a.pem", "https"), (None, "http")])
def test_socket_for_others(certificate, scheme):
    """--listen adds a socket, whose URL says whether it speaks TLS."""
    sockets = open_sockets(options(listen="127.0.0.2", tls_certificate=certificate), {})
    try:
        port = sockets.network[0].getsockname()[1]
        assert sockets.urls[2:] == [f"{scheme}://127.0.0.2:{port}"]
    finally:
        close(sockets)


def test_port_in_use():
    """A port that somebody else has, at either address, is refused."""
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with socket.create_server((host, 0), family=family) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ListenError, match=f"{port}: Address already in use"):
                open_sockets(options(port=port), {})


# Puts sockets where systemd does, and becomes a process that prints what open_sockets() makes of them.
ACTIVATED = """
import fcntl, json, os, socket, sys
from rolekey.cli.serve import serve_options_from
from rolekey.cli.serving import open_sockets
from rolekey.errors import RolekeyError
kinds, listen, pid, count = json.loads(sys.argv[1])
opened = []
for kind in kinds:
    if kind == "unix":
        opened.append(socket.socket(socket.AF_UNIX))
        opened[-1].bind("\\0" + str(os.getpid()))
        opened[-1].listen()
    elif kind == "datagrams":
        opened.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    elif kind == "not listening":
        opened.append(socket.socket())
    elif kind == "file":
        opened.append(open("/dev/null"))
    else:
        opened.append(socket.create_server((kind, 0), family=socket.AF_INET6 if ":" in kind else socket.AF_INET))
high = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 100) for each in opened]
os.closerange(3, 100)
for at, number in enumerate(high):
    os.dup2(number, 3 + at, inheritable=True)
    os.close(number)
environment = {"LISTEN_PID": pid or str(os.getpid()), "LISTEN_FDS": count or str(len(kinds))}
names = "port hop_limit listen allow_host any_user token_file tls_certificate tls_key insecure_http".split()
values = dict.fromkeys(names) | {"port": 0, "hop_limit": 7, "listen": listen}
try:
    sockets = open_sockets(serve_options_from(values), environment)
except RolekeyError as error:
    print(json.dumps([type(error).__name__, error.message]))
else:
    print(json.dumps([
        [each.getsockname()[0] for each in sockets.loopback],
        [each.getsockname()[0] for each in sockets.network],
        sorted({each.fileno() for each in (*sockets.loopback, *sockets.network)}),
        any(os.get_inheritable(each.fileno()) for each in (*sockets.loopback, *sockets.network)),
        {each.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) for each in sockets.loopback
         if each.family == socket.AF_INET} <= {7},
    ]))
"""


def activated(kinds, listen=None, pid=None, count=None):
    """What a process makes of sockets that systemd has opened for it."""
    words = [sys.executable, "-c", ACTIVATED, json.dumps([kinds, listen, pid, count])]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("kinds", "listen", "loopback", "network"),
    [
        (["127.0.0.1"], None, ["127.0.0.1"], []),
        (["127.0.0.1", "::1"], None, ["127.0.0.1", "::1"], []),
        (["0.0.0.0"], "any", [], ["0.0.0.0"]),
        (["127.0.0.1", "::"], "any", ["127.0.0.1"], ["::"]),
    ],
)
def test_sockets_of_systemd(kinds, listen, loopback, network):
    """What systemd opened is taken, with the hop limit, and no child inherits it; nothing else is opened."""
    descriptors = list(range(3, 3 + len(kinds)))
    assert activated(kinds, listen) == [loopback, network, descriptors, False, True]


@pytest.mark.parametrize(
    ("kinds", "count", "error", "words"),
    [
        (["0.0.0.0"], None, "ConfigurationError", "systemd's socket is open to other machines"),
        (["127.0.0.1", "::"], None, "ConfigurationError", "open to other machines"),
        (["file"], None, "ListenError", "descriptor 3 cannot be used"),
        (["127.0.0.1"], "2", "ListenError", "descriptor 4 cannot be used: Bad file descriptor"),
        (["127.0.0.1", "unix"], None, "ListenError", "descriptor 4 is no listening TCP socket"),
        (["datagrams"], None, "ListenError", "descriptor 3"),
        (["not listening"], None, "ListenError", "descriptor 3 is no listening TCP socket"),
    ],
)
def test_sockets_of_systemd_that_cannot_be_used(kinds, count, error, words):
    """What is open to other machines without --listen, and what is no listening TCP socket, is refused."""
    kind, message = activated(kinds, count=count)
    assert kind == error
    assert words in message


@pytest.mark.parametrize(("pid", "count"), [("1", None), (None, "x"), (None, "-1"), (None, "0")])
def test_sockets_of_another_process(pid, count):
    """Variables that are another process's, or that make no sense, count for nothing: new sockets are opened."""
    loopback, network, _, _, _ = activated(["127.0.0.1"], pid=pid, count=count)
    assert (loopback, network) == (["127.0.0.1", "::1"], [])


# --- the service manager ---


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_notify(kind, tmp_path):
    """The service manager gets the text as one datagram, at a path or an abstract address."""
    name = f"@rolekey-test-{os.getpid()}" if kind == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1) if kind == "abstract" else name)
        manager.settimeout(30)
        notify_systemd("READY=1", {"NOTIFY_SOCKET": name})
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "nothing", "vsock:2:1", "/nowhere/at/all", "@nobody", "/" + "x" * 300])
def test_nobody_to_notify(address):
    """Where there is no service manager, or none that listens, nothing happens."""
    notify_systemd("READY=1", {"NOTIFY_SOCKET": address})
    notify_systemd("READY=1", {})


# --- the token file ---


def test_named_token_file(tmp_path):
    """A file that was named is taken as it is, and not written."""
    path = tmp_path / "token"
    assert token_file_of(options(token_file=str(path)), 1, {}) == path
    assert not path.exists()


def test_token_file_beside_the_cache(tmp_path):
    """Else a new token is made, for this port and this run, in a file that only its owner can read."""
    (tmp_path / "run").mkdir(mode=0o700)
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path)}
    path = token_file_of(options(), 9911, environment)
    assert path == tmp_path / "run" / "rolekey" / "serve-9911.token"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    first = path.read_bytes()
    assert len(first) == 43
    token_file_of(options(), 9911, environment)
    assert path.read_bytes() != first
    assert token_file_of(options(), 9912, environment) != path


@pytest.mark.parametrize("directory", ["relative", "{}/file"])
def test_no_place_for_a_token_file(tmp_path, directory):
    """Where there is no directory for it, or none that can be made, that is said."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"no directory for a token|cannot be written") as caught:
        token_file_of(options(), 1, {"XDG_RUNTIME_DIR": directory.format(tmp_path)})
    assert "token" in caught.value.message


def test_what_is_a_credential(tmp_path):
    """A file is systemd's credential where it stands in the directory that the variable names, and nowhere below."""
    variables = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert is_credential(tmp_path / "token", variables)
    for path in (tmp_path / "a" / "token", tmp_path / ".." / "token", Path("token"), tmp_path):
        assert not is_credential(path, variables)
    assert not is_credential(Path("/token"), {})
    assert not is_credential(Path("token"), {"CREDENTIALS_DIRECTORY": ""})
