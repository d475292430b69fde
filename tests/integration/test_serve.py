"""`rolekey serve` as a user runs it: a process of its own, against the emulator or a service that follows a script."""

import os
import random
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.credentials import ContainerProvider
from botocore.utils import InstanceMetadataFetcher

from support.emulator import RunningEmulator, running_emulator
from support.listener import ServerTLS
from support.process import rolekey, running_program
from support.serve_process import NAME, ROLES, TTL, ask, running_serve, short_lived
from support.service import HANG, RESET, ScriptedService, answer
from support.watching import children_of, wait_until

REFUSAL = answer(403, b'{"message": "Untrusted signing certificate"}', {"x-amzn-ErrorType": "AccessDeniedException"})
PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
TOKEN = "a-token-that-clients-know"


@pytest.fixture(scope="module")
def emulator(running: RunningEmulator) -> RunningEmulator:
    """A Roles Anywhere that trusts the key; what it was asked stays in its list."""
    return running


@pytest.fixture
def words(emulator, key_options):
    """What a `rolekey serve` with a key in a file needs."""
    return [*emulator.arguments, *key_options]


@pytest.fixture
def token_file(tmp_path):
    """A token that clients know."""
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN)
    return path


# --- the endpoints ---


@pytest.mark.rig("emulator")
def test_both_endpoints(tmp_path, words, emulator):
    """Both addresses hand out the emulator's credentials at both endpoints; the first ones were there before."""
    asked = len(emulator.requests)
    with running_serve(tmp_path, *words) as served:
        assert len(emulator.requests) == asked + 1
        assert [urlsplit(url).hostname for url in served.urls] == ["127.0.0.1", "::1"]
        assert len({urlsplit(url).port for url in served.urls}) == 1
        for url in served.urls:
            container, metadata = served.container(url=url).document, served.metadata(url).document
            assert set(container) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
            assert container["AccessKeyId"] == emulator.granted[-1]
            assert {name: metadata[name] for name in container} == container
            assert ask(url, "/readyz").status == 200
        assert len(emulator.requests) == asked + 1
        assert served.stderr == "".join(f"rolekey: listening on {url}\n" for url in served.urls)


@pytest.mark.rig("emulator")
def test_botocore_with_what_is_printed(tmp_path, words, emulator):
    """Botocore takes the credentials from either endpoint with the variables of --print-env, and nothing else."""
    with running_serve(tmp_path, *words) as served:
        assert set(served.exports) == {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        }
        base = served.exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
        metadata = InstanceMetadataFetcher(base_url=base).retrieve_iam_role_credentials()
        container = ContainerProvider(environ=served.exports).load().get_frozen_credentials()
    assert metadata["access_key"] == container.access_key == emulator.granted[-1]
    assert metadata["token"] == container.token


@pytest.mark.rig("emulator")
def test_what_the_page_shows(tmp_path, words):
    """--print-env prints the lines of docs/serve.md, with its own port and directory."""
    (shown,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    with running_serve(tmp_path, *words) as served:
        port = str(urlsplit(served.url).port)
        printed = "".join(f"export {name}={value}\n" for name, value in served.exports.items())
    directory = os.environ["XDG_RUNTIME_DIR"]
    assert printed.replace(port, "9911").replace(directory, "/run/user/1000") == shown


@pytest.mark.rig("emulator")
def test_key_in_a_token(tmp_path, provisioned_token):
    """A key in a token serves, and its PIN's file is read; the process that loaded the module has ended."""
    with (
        running_emulator(provisioned_token.root) as emulator,
        running_serve(
            tmp_path,
            *emulator.arguments,
            *("--private-key", provisioned_token.uri("p-256"), "--pkcs11-lib", str(provisioned_token.module)),
            *("--intermediates", str(provisioned_token.intermediate)),
        ) as served,
    ):
        assert served.credentials()["AccessKeyId"] == emulator.granted[-1]
        assert children_of(served.process.pid) == []
        assert "softhsm" not in Path(f"/proc/{served.process.pid}/maps").read_text()


def free_port():
    """A port that is free at both addresses, below the range from which the system takes ports for clients."""
    for port in random.sample(range(20_000, 30_000), 100):
        with (
            suppress(OSError),
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("::1", port), family=socket.AF_INET6),
        ):
            return port
    raise RuntimeError("no port is free")


@pytest.mark.rig("emulator")
def test_given_port_and_hosts(tmp_path, words):
    """--port is the port of both addresses; a host is refused unless --allow-host names it."""
    port = free_port()
    with running_serve(tmp_path, *words, "--port", str(port), "--allow-host", "gateway.test,other.test") as served:
        assert served.urls == [f"http://127.0.0.1:{port}", f"http://[::1]:{port}"]
        assert ask(served.url, ROLES, {"Host": "evil.test"}).status == 403
        assert served.container(headers={"Host": "evil.test"}).status == 403
        assert served.container(headers={"Host": f"gateway.test:{port}"}).status == 200


# What is imported after setuid() might not be readable.
_ASK_AS_NOBODY = """
import os, socket, sys
os.setuid(65534)
with socket.socket() as client:
    client.connect(("127.0.0.1", int(sys.argv[1])))
    client.sendall(b"PUT /latest/api/token HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n")
    client.sendall(b"x-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n")
    print(client.makefile().readline().strip())
"""


@pytest.mark.rig("emulator", "root")
@pytest.mark.parametrize(("more", "status"), [([], "403 Forbidden"), (["--any-user"], "200 OK")])
def test_another_user(tmp_path, words, more, status):
    """Another user's process gets no token of the metadata service, unless --any-user is given."""
    with running_serve(tmp_path, *words, *more) as served:
        port = str(urlsplit(served.url).port)
        words = [sys.executable, "-c", _ASK_AS_NOBODY, port]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        assert done.stdout == f"HTTP/1.1 {status}\n", done.stderr
        assert served.metadata().status == 200


# Root's own number has none in this namespace: it looks like everybody else's that has none there.
WITHOUT_A_NUMBER = ("unshare", "--user")


@pytest.mark.rig("emulator", "namespace")
@pytest.mark.parametrize("more", [[], ["--any-user"]])
def test_a_system_that_does_not_tell_users_apart(tmp_path, words, more, emulator):
    """There the metadata service is off, which is said and not printed, unless --any-user is given."""
    with running_serve(tmp_path, *words, *more, before=WITHOUT_A_NUMBER) as served:
        assert served.container().document["AccessKeyId"] == emulator.granted[-1]
        assert ask(served.url, "/readyz").status == 200
        listening = [f"rolekey: listening on {url}" for url in served.urls]
        if more:
            assert served.metadata().status == 200
            assert served.stderr.splitlines() == listening
            return
        for reply in (ask(served.url, "/latest/api/token", {TTL: "60"}, "PUT"), ask(served.url, ROLES)):
            assert reply.status == 404
            assert reply.body.startswith(b"there is no metadata service: ")
            assert b"--any-user" in reply.body
        said, *rest = served.stderr.splitlines()
        assert said.startswith("rolekey: no metadata service: ")
        assert "--any-user" in said
        assert rest == listening
        assert [name for name in served.exports if "METADATA" in name] == []


# --- before it listens ---


@pytest.mark.parametrize(("script", "code", "cause"), [(REFUSAL, 7, "Untrusted signing"), (RESET, 6, "")])
def test_first_credentials_fail(key_options, script, code, cause):
    """Without first credentials it ends with the cause, and nobody could ever connect."""
    with socket.create_server(("127.0.0.1", 0)) as taken, ScriptedService((script,)) as service:
        # It would fail with another code if it came to listening.
        port = str(taken.getsockname()[1])
        arguments = RunningEmulator(service.url).arguments
        outcome = rolekey("serve", *arguments, *key_options, "--port", port)
        assert service.requests
    outcome.failed(code, cause)


@pytest.mark.rig("emulator")
def test_port_in_use(words):
    """A port that somebody else has ends it with the exit code for that; it says nothing of listening."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = str(taken.getsockname()[1])
        rolekey("serve", *words, "--port", port).failed(8, f"port {port}: Address already in use")


@pytest.mark.rig("emulator")
@pytest.mark.parametrize(("content", "mode"), [("short", 0o600), (TOKEN + "\n", 0o600), (TOKEN, 0o640), (None, 0)])
def test_bad_token_file(words, tmp_path, content, mode):
    """A token file that cannot be used ends it, and no token is shown."""
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    outcome = rolekey("serve", *words, "--port=0", "--token-file", str(path))
    outcome.failed(2, str(path))
    assert TOKEN not in outcome.stderr


# --- signals ---


@pytest.mark.rig("emulator")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end(tmp_path, words, number):
    """SIGTERM and SIGINT end it with 0 and without a word, though a client keeps its connection; the port is free."""
    with running_serve(tmp_path, *words) as served:
        address = ("127.0.0.1", urlsplit(served.url).port)
        with socket.create_connection(address, 30) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            assert served.stop(number) == 0
            assert client.recv(4096) == b""
        assert len(served.stderr.splitlines()) == 2
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 30)


def test_end_during_a_refresh(tmp_path, key_options):
    """SIGTERM ends it, and the key's process, while the service does not answer a refresh."""
    with ScriptedService((short_lived("ASIAFIRST"),), (HANG,)) as service:
        with running_serve(tmp_path, *RunningEmulator(service.url).arguments, *key_options) as served:
            wait_until(lambda: len(service.requests) == 2)
            children = children_of(served.process.pid)
            assert len(children) == 1
            assert served.key_id() == "ASIAFIRST"
            assert served.stop() == 0
        wait_until(lambda: not Path(f"/proc/{children[0]}").exists())


@pytest.mark.rig("emulator")
def test_hangup(tmp_path, words, token_file):
    """SIGHUP reads the token anew; one that cannot be used leaves the old one, and says so without showing it."""
    with running_serve(tmp_path, *words, "--token-file", str(token_file)) as served:

        def status(token):
            return served.container(headers={"Authorization": token}).status

        assert (status(TOKEN), status("another-token-for-it")) == (200, 401)
        token_file.write_text("another-token-for-it")
        assert (status(TOKEN), status("another-token-for-it")) == (200, 401)
        served.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status("another-token-for-it") == 200)
        assert status(TOKEN) == 401
        token_file.write_text("bad-token-with-an-end\n")
        served.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the token stays as it was: " in served.stderr)
        assert (status("another-token-for-it"), status("bad-token-with-an-end")) == (200, 401)
        assert "bad-token" not in served.stderr


# --- other machines ---


@pytest.mark.rig("emulator")
def test_listen_with_tls(tmp_path, words, token_file):
    """--listen hands credentials out over TLS to whoever has the token, and has no other endpoint."""
    made = ServerTLS.make(tmp_path / "tls", "127.0.0.2")
    trust = ssl.create_default_context(cafile=str(made.ca))
    more = ["--listen", "127.0.0.2", "--tls-certificate", str(made.certificate), "--tls-key", str(made.key)]
    with running_serve(tmp_path, *words, *more, "--token-file", str(token_file)) as served:
        url = served.urls[2]
        assert url.startswith("https://127.0.0.2:")
        assert served.container(url=url, tls=trust, headers={"Host": "any.test"}).status == 200
        assert served.container(url=url, tls=trust, headers={"Authorization": "x"}).status == 401
        for path in (ROLES, "/healthz", "/readyz", "/metrics", "/"):
            assert ask(url, path, {"Authorization": TOKEN}, tls=trust).status == 404, path
        assert ask(url, "/latest/api/token", method="PUT", tls=trust).status == 404
        assert served.metadata().status == 200


@pytest.mark.rig("emulator")
def test_listen_without_tls(tmp_path, words, token_file):
    """With --insecure-http it does so in the clear."""
    more = ["--listen", "127.0.0.2", "--insecure-http", "--token-file", str(token_file)]
    with running_serve(tmp_path, *words, *more) as served:
        assert served.urls[2].startswith("http://127.0.0.2:")
        assert served.container(url=served.urls[2]).status == 200
        assert ask(served.urls[2], f"/creds/{NAME}").status == 401


# --- the service manager ---

# Puts a listening socket where systemd does, and becomes the program.
_ACTIVATE = """
import os, socket, sys
listener = socket.create_server((sys.argv[1], 0))
port = listener.getsockname()[1]
number = os.dup(listener.fileno())
os.dup2(number, 3, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.rig("emulator")
def test_socket_activation(tmp_path, words):
    """The socket that systemd opened is served, and no other."""
    with running_serve(tmp_path, *words, before=[sys.executable, "-c", _ACTIVATE, "127.0.0.1"]) as served:
        assert len(served.urls) == 1
        assert served.container().status == 200
        assert served.metadata().status == 200


@pytest.mark.rig("emulator")
def test_socket_activation_for_others(tmp_path, words, token_file):
    """A socket that is open to other machines has the container endpoint alone, and nothing else is printed."""
    more = ["--listen", "127.0.0.2", "--insecure-http", "--token-file", str(token_file)]
    before = [sys.executable, "-c", _ACTIVATE, "0.0.0.0"]
    with running_serve(tmp_path, *words, *more, before=before) as served:
        assert "AWS_EC2_METADATA_SERVICE_ENDPOINT" not in served.exports
        (url,) = served.urls
        assert served.container(url=url).status == 200
        assert ask(url, ROLES).status == 404


@pytest.mark.rig("emulator")
def test_the_service_manager_is_told(tmp_path, words):
    """READY=1 comes when clients are answered, STOPPING=1 at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        with running_serve(tmp_path, *words, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as served:
            assert manager.recv(100) == b"READY=1"
            assert served.container().status == 200
            assert served.stop() == 0
            assert manager.recv(100) == b"STOPPING=1"


def test_the_service_manager_is_not_told_of_failure(tmp_path, key_options):
    """READY=1 does not come where it ends with the first refresh."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, ScriptedService((REFUSAL,)) as service:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        rolekey("serve", *RunningEmulator(service.url).arguments, *key_options, environment=variables).failed(7)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


# --- the memory ---


def limits_of(pid):
    """A process's soft and hard limit of the size of a core file."""
    return resource.prlimit(pid, resource.RLIMIT_CORE)


# Without this capability root is a user like others. Whoever looks needs no fewer capabilities than who is looked at.
WITHOUT_PTRACE = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")


def can_look_into(pid):
    """Whether another process of the user can read a process's memory."""
    words = [*WITHOUT_PTRACE, "head", "-c", "0", f"/proc/{pid}/mem"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 or "Permission denied" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.rig("emulator", "root")
def test_nobody_looks_into_it(tmp_path, words):
    """There is no core file, and no other process of the same user can read its memory, as it can with others'."""
    with running_serve(tmp_path, *words, before=WITHOUT_PTRACE) as served:
        assert served.metadata().status == 200
        assert limits_of(served.process.pid) == (0, 0)
        assert not can_look_into(served.process.pid)
    with running_program([*WITHOUT_PTRACE, "sleep", "60"]) as other:
        wait_until(lambda: Path(f"/proc/{other.pid}/comm").read_text() == "sleep\n")
        assert can_look_into(other.pid)


# --- refreshes ---


def pipe_with(text):
    """The reading end of a pipe with a PIN in it."""
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    return reading


class Watching(ScriptedService):
    """Gives credentials with a new number each time, and looks at who asks while they wait."""

    def __init__(self):
        super().__init__()
        self.pid = None
        #: Arguments and environment of the children of the process `pid`.
        self.seen = []

    def serve(self, connection, number):
        """Look first."""
        for child in children_of(self.pid) if self.pid else ():
            self.seen += ["".join(Path(f"/proc/{child}/{name}").read_text() for name in ("cmdline", "environ"))]
        self.follow(short_lived(f"ASIANUMBER{number}"))
        super().serve(connection, number)


def token_words(token, module, *more):
    """The options of a key in a token."""
    return [
        *("--private-key", token.uri("p-256", with_pin=False), "--pkcs11-lib", str(module)),
        *("--intermediates", str(token.intermediate), *more),
    ]


@pytest.mark.rig("softhsm")
@pytest.mark.parametrize("kind", ["env", "fd"])
def test_pin_that_can_be_read_once(tmp_path, provisioned_token, kind):
    """A PIN from a variable or descriptor serves the second refresh too, and no child has it in its environment."""
    pin = provisioned_token.user_pin
    service = Watching()
    reading = pipe_with(pin) if kind == "fd" else -1
    source = f"fd:{reading}" if kind == "fd" else "env:ROLEKEY_TEST_PIN"
    with service:
        arguments = RunningEmulator(service.url).arguments
        words = token_words(provisioned_token, provisioned_token.module, "--pin-source", source)
        variables = {"ROLEKEY_TEST_PIN": pin} if kind == "env" else {}
        descriptors = (reading,) if kind == "fd" else ()
        with running_serve(tmp_path, *arguments, *words, environment=variables, pass_fds=descriptors) as served:
            service.pid = served.process.pid
            wait_until(lambda: served.key_id() == "ASIANUMBER1")
            assert pin not in served.stderr
    if kind == "fd":
        os.close(reading)
    assert service.seen
    assert all("rolekey.worker_child" in each and pin not in each for each in service.seen)


@pytest.mark.parametrize("fault", ["hang", "crash"])
def test_module_that_goes_wrong(tmp_path, provisioned_token, pkcs11_shim, fault):
    """A module that hangs or crashes costs one refresh: the last good credentials go on, the next refresh works."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    source = f"file:{provisioned_token.pin_file}"
    with ScriptedService((short_lived("ASIAFIRST", 34),)) as service:
        arguments = RunningEmulator(service.url).arguments
        words = token_words(provisioned_token, shimmed.module, "--pin-source", source, "--timeout=5")
        with running_serve(tmp_path, *arguments, *words, environment=shimmed.environment) as served:
            service.follow(short_lived("ASIASECOND", 3600))
            shimmed.rule("C_Sign", **{fault: True})
            wait_until(lambda: "no new credentials: " in served.stderr)
            shimmed.clear()
            assert served.key_id() == "ASIAFIRST"
            assert served.metadata().document["AccessKeyId"] == "ASIAFIRST"
            assert len(service.requests) == 1
            wait_until(lambda: served.key_id() != "ASIAFIRST")
            assert served.key_id() == "ASIASECOND"
            assert served.stderr.count("no new credentials: ") == 1
            assert ("timed out" if fault == "hang" else "the process that uses the token ended") in served.stderr


def test_nothing_valid_is_left(tmp_path, key_options):
    """Credentials that have expired are followed by 503 with the cause's code and message, and by new ones."""
    with (
        ScriptedService((short_lived("ASIAFIRST", 12),), (REFUSAL,)) as service,
        running_serve(tmp_path, *RunningEmulator(service.url).arguments, *key_options) as served,
    ):
        assert served.key_id() == "ASIAFIRST"
        # On a busy machine they may expire before the first refresh has failed.
        wait_until(lambda: served.container().document.get("code") == "CreateSessionError")
        container, metadata = served.container(), served.metadata()
        assert (container.status, metadata.status) == (503, 503)
        assert "Untrusted signing certificate" in container.document["message"]
        assert ask(served.url, "/readyz").status == 503
        assert ask(served.url, "/healthz").status == 200
        service.follow(short_lived("ASIASECOND", 3600))
        wait_until(lambda: served.key_id() == "ASIASECOND")
        assert re.search("no new credentials: .*Untrusted signing certificate", served.stderr)
        assert ask(served.url, "/readyz").status == 200
