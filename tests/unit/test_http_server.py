"""The HTTP server's limits, its life and its addresses, over real connections."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from rolekey import http_server
from rolekey.errors import ConfigurationError, ListenError, MissingExtraError
from rolekey.http_server import HTTPServer, Limits
from support.pki import key_to_pem, make_key, make_tls_certificate
from support.process import running_program

# Far above every limit that is tested, far below a test run's patience.
PATIENCE = 60.0


async def echo(scope, receive, send):
    """Answers with what it was sent."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
    content = json.dumps({"path": scope["path"], "headers": headers, "body": body.decode()}).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(content)).encode())]}
    )
    await send({"type": "http.response.body", "body": content})


@contextlib.contextmanager
def served(app=echo, **limits) -> Iterator[tuple[str, int]]:
    with http_server.running(app, limits=Limits(**limits)) as url:
        address = urlsplit(url)
        yield address.hostname, address.port


def connect(address) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset counts as a close."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def closed_after(connection: socket.socket) -> float:
    """Seconds until the server closes a connection that it says nothing on."""
    start = time.monotonic()
    assert read_all(connection) == b""
    return time.monotonic() - start


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def read_answer(connection: socket.socket) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response


def test_requests_are_answered_and_the_connection_is_kept():
    """Method, path, headers and body reach the application; one connection serves many requests."""
    with served() as address:
        connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
        for number in range(3):
            connection.request("POST", f"/a%20b/{number}", body=b"x" * number, headers={"X-Name": "v"})
            answer = json.loads(connection.getresponse().read())
            assert (answer["path"], answer["body"]) == (f"/a b/{number}", "x" * number)
            assert ["x-name", "v"] in answer["headers"]
        connection.close()


def test_the_port_is_the_real_one():
    """Port 0 takes a free port, and the URL has it; the server answers as soon as it exists."""
    server = HTTPServer(echo)
    try:
        assert server.port > 0
        assert server.url == f"http://127.0.0.1:{server.port}"
        connect(("127.0.0.1", server.port)).close()
    finally:
        server.close()


def test_a_connection_that_never_says_anything_is_closed():
    """The idle time counts from the connection being made, too."""
    with served(idle_seconds=0.3) as address, connect(address) as connection:
        assert closed_after(connection) < PATIENCE / 2


def test_headers_that_never_end_are_cut_off():
    """Half-sent headers do not keep a connection, however slowly and steadily they come."""
    with served(header_seconds=0.6) as address, connect(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start < PATIENCE:
                connection.sendall(b"X-Drip: y\r\n")
                time.sleep(0.1)
        assert time.monotonic() - start < PATIENCE / 2


def test_headers_of_a_further_request_have_the_same_time():
    """The deadline of a kept connection starts at the next request's first byte, empty lines included."""
    with served(header_seconds=0.5, idle_seconds=60) as address, connect(address) as connection:
        connection.sendall(GET)
        assert read_answer(connection).read()
        time.sleep(0.8)  # longer than the headers may take: the connection is only idle
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start < PATIENCE:
                connection.sendall(b"\r\n")
                time.sleep(0.1)
        assert time.monotonic() - start < PATIENCE / 2


def test_an_idle_connection_is_closed():
    """A kept connection without a further request is closed after its time, not before."""
    with served(idle_seconds=2.0, header_seconds=60) as address, connect(address) as connection:
        connection.sendall(GET)
        assert read_answer(connection).read()
        assert 0.2 < closed_after(connection) < PATIENCE / 2


@pytest.mark.parametrize("together", [True, False])
def test_too_many_header_bytes_are_refused(together):
    """More than the limit is 431, whether it comes at once or never ends."""
    with served(header_bytes=8192) as address, connect(address) as connection:
        headers = b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 9000
        connection.sendall(headers + b"\r\n\r\n" if together else headers)
        assert read_all(connection).startswith(b"HTTP/1.1 431 ")


def test_memory_is_bounded_while_headers_come():
    """A client that sends a header without end is stopped near the limit, not when the deadline is over."""
    with served(header_bytes=8192, header_seconds=60) as address, connect(address) as connection:
        sent = 0
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
            while sent < 200_000_000:
                sent += connection.send(b"y" * 65536)
        assert sent < 200_000_000


def test_headers_just_below_the_limit_are_accepted():
    """A quarter of a mebibyte is enough for five ML-DSA certificates in one header."""
    with served(header_bytes=256 * 1024) as address, connect(address) as connection:
        value = b"y" * 200_000
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + value + b"\r\n\r\n")
        answer = json.loads(read_answer(connection).read())
        assert ["x-long", value.decode()] in answer["headers"]


def test_the_connection_cap_turns_away_and_recovers():
    """One connection more than allowed gets 503 and nothing else; when one has gone, the next is served."""
    with served(connections=3) as address:
        held = [connect(address) for _ in range(3)]
        for connection in held:
            connection.sendall(GET)
            assert read_answer(connection).status == 200
        with connect(address) as extra:
            assert read_all(extra).startswith(b"HTTP/1.1 503 ")
        held.pop().close()
        assert wait_for(lambda: status_of(address) == 200)
        for connection in held:
            connection.close()


def status_of(address) -> int:
    with connect(address) as connection:
        connection.sendall(GET)
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            return read_answer(connection).status
    return 0


def wait_for(condition) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
    ],
)
def test_a_body_above_the_limit_is_refused(request_bytes):
    """413 as soon as it is known, by its length or by its bytes."""
    with served(body_bytes=1000) as address, connect(address) as connection:
        connection.sendall(request_bytes)
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_a_body_at_the_limit_is_accepted():
    """The limit itself is allowed."""
    with served(body_bytes=1000) as address:
        connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
        connection.request("POST", "/", body=iter([b"x" * 500] * 2), encode_chunked=True)
        assert json.loads(connection.getresponse().read())["body"] == "x" * 1000
        connection.close()


def test_chunk_extensions_and_trailers_are_not_free():
    """What a chunked body carries besides its bytes is bounded, too."""
    with served(body_bytes=1000, header_bytes=1000) as address, connect(address) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"e" * 400_000)
        assert b" 200 " not in read_all(connection)


def test_a_trailer_is_no_header():
    """What comes after a chunked body does not join the headers that come before it."""
    with served() as address, connect(address) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Late: 1\r\n\r\n"
        )
        answer = json.loads(read_answer(connection).read())
        assert answer["body"] == "a"
        assert "x-late" not in dict(answer["headers"])


def test_a_body_that_never_ends_is_cut_off():
    """A body that drips is closed at its deadline, and the application learns of it."""
    gone = threading.Event()

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        del scope, send

    with served(app, body_seconds=0.5) as address, connect(address) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start < PATIENCE:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - start < PATIENCE / 2
        assert gone.wait(PATIENCE)


def test_an_answer_may_take_its_time():
    """The application is not hurried by the limits on the client."""

    async def app(scope, receive, send):
        await asyncio.sleep(2.5)
        await echo(scope, receive, send)

    limits = {"header_seconds": 1.0, "body_seconds": 1.0, "idle_seconds": 1.0}
    with served(app, **limits) as address, connect(address) as connection:
        connection.sendall(GET)
        assert read_answer(connection).status == 200


def test_a_client_that_never_reads_is_dropped():
    """An answer that nobody takes does not stay in memory."""
    gone = threading.Event()

    async def app(scope, receive, send):
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        gone.set()

    with served(app, body_seconds=0.5) as address, connect(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(GET)
        assert gone.wait(PATIENCE)


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01", b"NONSENSE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"],
)
def test_what_is_no_http_is_refused(garbage, capfd):
    """400 and close, without a word on stderr."""
    with served() as address, connect(address) as connection:
        connection.sendall(garbage)
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
    assert capfd.readouterr() == ("", "")


def test_requests_sent_ahead_are_answered_in_order():
    """A few pipelined requests are served; a flood of them is cut off."""
    with served() as address:
        with connect(address) as connection:
            requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(5))
            connection.sendall(requests + b"GET /5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            paths = re.findall(rb'"path": "/(.)"', read_all(connection))
            assert paths == [b"0", b"1", b"2", b"3", b"4", b"5"]
        with connect(address) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(GET * 1000)
            assert read_all(connection).count(b"HTTP/1.1 200") < 1000


def test_an_upgrade_is_not_taken():
    """A client that offers HTTP/2 on a clear connection gets its answer in HTTP/1.1."""
    with served() as address, connect(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert read_answer(connection).status == 200


def test_a_port_in_use_is_a_listen_error():
    """The error names the address and what can be done."""
    with served() as (host, port), pytest.raises(ListenError) as caught:
        HTTPServer(echo, host=host, port=port)
    assert f"cannot listen on {host} port {port}: " in caught.value.message


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 300, "\udcff"])
def test_an_address_of_another_machine_is_a_listen_error(host):
    """So does an address that is not here, or is none."""
    with pytest.raises(ListenError):
        HTTPServer(echo, host=host)


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_a_port_that_is_none_is_a_listen_error(port):
    """A number outside 0 to 65535 is refused, not a traceback."""
    with pytest.raises(ListenError):
        HTTPServer(echo, port=port)


def test_an_ipv6_address_is_written_in_brackets():
    """The URL of an IPv6 address can be pasted."""
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(http_server.running(echo, host="::1"))
        except ListenError:
            return  # a machine without IPv6
        assert url.startswith("http://[::1]:")


def test_tls_is_served(tmp_path):
    """With a certificate and a key the server speaks TLS, and a client that knows the certificate believes it."""
    certificate, key = make_tls_certificate(tmp_path)
    with http_server.running(echo, tls=http_server.tls_context(certificate, key)) as url:
        assert url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection(urlsplit(url).netloc, timeout=PATIENCE, context=context)
        connection.request("GET", "/x")
        assert json.loads(connection.getresponse().read())["path"] == "/x"
        connection.close()


def test_a_tls_handshake_that_never_ends_is_cut_off(tmp_path):
    """A client that says nothing on a TLS port has the time that headers have."""
    tls = http_server.tls_context(*make_tls_certificate(tmp_path))
    with http_server.running(echo, tls=tls, limits=Limits(header_seconds=0.5)) as url:
        address = urlsplit(url)
        with connect((address.hostname, address.port)) as connection:
            assert closed_after(connection) < PATIENCE / 2


def test_tls_files_that_cannot_be_used_are_named(tmp_path):
    """Missing, mismatched, empty or encrypted: an error, and never a question on the terminal."""
    certificate, key = make_tls_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other = make_tls_certificate(tmp_path / "other")[1]
    empty, encrypted = tmp_path / "empty", tmp_path / "encrypted"
    empty.touch()
    encrypted.write_bytes(key_to_pem(make_key("p256"), b"password"))
    for pair in ((tmp_path / "none", key), (certificate, other), (empty, key), (certificate, encrypted)):
        with pytest.raises(ConfigurationError) as caught:
            http_server.tls_context(*pair)
        assert str(pair[0]) in caught.value.message


def test_stopping_finishes_what_is_under_way():
    """A request that is being answered gets its answer; idle and half-sent connections are closed."""
    started = threading.Event()

    async def app(scope, receive, send):
        started.set()
        await asyncio.sleep(0.5)
        await echo(scope, receive, send)

    server = HTTPServer(app)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    address = ("127.0.0.1", server.port)
    with connect(address) as busy, connect(address) as silent, connect(address) as half:
        half.sendall(b"GET / HTT")
        busy.sendall(GET)
        assert started.wait(PATIENCE)
        server.stop()
        assert read_answer(busy).status == 200
        assert read_all(silent) == read_all(half) == b""
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_blocking_server(number):
    """SIGINT and SIGTERM end `run` normally, and what stands after it is done."""
    program = """
        from rolekey.http_server import HTTPServer
        async def app(scope, receive, send):
            print("asked", flush=True)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})
        server = HTTPServer(app)
        print(server.port, flush=True)
        server.run()
        print("stopped")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with running_program(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        # The handlers are in place once it answers.
        assert status_of(("127.0.0.1", int(process.stdout.readline()))) == 200
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (0, "stopped\n", "")


def test_a_missing_extra_is_named(monkeypatch):
    """Without uvicorn the error says what to install; importing the module needs neither package."""
    for name in ("rolekey.http_protocol.asgi", "uvicorn", "httptools"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError) as caught:
        HTTPServer(echo)
    assert caught.value.hint == "pip install 'rolekey[server]'"
    code = "import sys, rolekey.http_server; assert not {'uvicorn', 'httptools', 'asyncio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
