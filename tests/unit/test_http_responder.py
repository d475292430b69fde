"""Servers of plain functions: their limits, their order, their addresses and their end, over real connections."""

import contextlib
import http.client
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

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolekey import http_server
from rolekey.errors import ConfigurationError, ListenError, MissingExtraError
from rolekey.http_protocol.addresses import bind, bind_loopback, is_loopback, set_hop_limit, url_of
from rolekey.http_protocol.limited import Clock, refusal
from rolekey.http_protocol.messages import answer, closing, split_target
from rolekey.http_protocol.responder_connection import ResponderConnection
from rolekey.http_server import Limits, Listener, ResponderServer
from support.pki import make_tls_certificate
from support.process import running_program

# Far above every limit that is tested, far below a test run's patience.
PATIENCE = 60.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def echo(request):
    """Answers with what it was asked."""
    headers = b"".join(b"%b=%b\n" % header for header in sorted(request.headers.items()))
    return answer(200, b"%b %b %b\n%b" % (request.method, request.path, request.host, headers))


@contextlib.contextmanager
def served(respond=echo, tls=None, **limits) -> Iterator[tuple[str, int]]:
    listener = bind("127.0.0.1", 0)
    address = listener.getsockname()
    server = ResponderServer([Listener(listener, respond, Limits(**limits), tls)])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def connect(address) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset counts as a close."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def read_answer(connection: socket.socket) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response


def ask(address, request: bytes) -> bytes:
    """Everything that comes after a request until the server closes."""
    with connect(address) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        return read_all(connection)


def drip(connection: socket.socket, piece: bytes) -> float:
    """Seconds until the server ends a connection on which pieces keep coming."""
    start = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - start < PATIENCE:
            connection.sendall(piece)
            time.sleep(0.05)
    return time.monotonic() - start


# --- requests and answers


def test_requests_are_answered_and_the_connection_is_kept():
    """Method, path, host and headers reach the function; one connection serves many requests."""
    with served() as address:
        connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
        for number in range(3):
            connection.request("PUT", f"/a%20b/{number}?q=1", headers={"X-Name": "v "})
            text = connection.getresponse().read().decode()
            assert text.startswith(f"PUT /a%20b/{number} 127.0.0.1:{address[1]}\n")
            assert "x-name=v\n" in text
        connection.close()


def test_requests_sent_ahead_are_answered_in_order():
    """Pipelined requests get their answers in their order, whatever pieces they come in."""
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(9)) + LAST
    with served() as address:
        for size in (len(requests), 61, 7):
            with connect(address) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for start in range(0, len(requests), size):
                    connection.sendall(requests[start : start + size])
                paths = re.findall(rb"GET /(\d?) x\n", read_all(connection))
            assert paths == [b"%d" % number for number in range(9)] + [b""]


def test_a_flood_sent_ahead_is_cut_off():
    """Of a thousand requests in one piece the first are answered, in order, then one refusal ends it."""
    with served() as address:
        received = ask(address, GET * 1000)
    assert 1 <= received.count(b"HTTP/1.1 200") < 1000
    assert received.count(b"HTTP/1.1 400") == 1
    assert received.endswith(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "headers"),
    [(b"HTTP/1.0", b""), (b"HTTP/1.0", b"Connection: keep-alive\r\n"), (b"HTTP/1.1", b"Connection: close\r\n")],
)
def test_the_last_answer_says_so(request_line, headers):
    """HTTP/1.0, and a client that wants no more, get one answer with `connection: close`, and the end."""
    with served() as address:
        received = ask(address, b"GET / " + request_line + b"\r\nHost: x\r\n" + headers + b"\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK\r\nconnection: close\r\n")
    assert received.count(b"HTTP/1.1") == 1


def test_a_client_that_says_no_more_gets_its_answer():
    """A client may close its half of the connection as soon as it has asked."""
    with served() as address, connect(address) as connection:
        connection.sendall(GET)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_head_has_no_body():
    """The answer to HEAD ends with its headers, so that the next answer is read as what it is."""
    with served() as address:
        received = ask(address, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + LAST)
    first, second, body = received.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert body.startswith(b"GET / x\n")


def test_a_body_is_read_and_forgotten():
    """Bodies of either form are no part of the next request; trailers are no headers."""
    with served() as address:
        chunked = b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n"
        plain = b"PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        received = ask(address, chunked + plain + LAST)
    assert re.findall(rb"(PUT|GET) (/.?) x", received) == [(b"PUT", b"/a"), (b"PUT", b"/b"), (b"GET", b"/")]
    assert b"late" not in received


def test_a_client_that_asks_whether_to_go_on_may():
    """`Expect: 100-continue` is answered before the body comes."""
    with served() as address, connect(address) as connection:
        connection.sendall(
            b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ab")
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "headers", [b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n"]
)
def test_an_upgrade_is_not_taken(headers):
    """A client that offers another protocol gets its answer in this one; what it says next is not read."""
    with served() as address:
        received = ask(address, b"GET / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")


def test_several_headers_of_one_name():
    """They are one list of values, as in a header with commas."""
    with served() as address:
        received = ask(address, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a: 2\r\nConnection: close\r\n\r\n")
    assert b"x-a=1, 2\n" in received


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        (b"/a/b?c=/d", (b"/a/b", b"h:1")),
        (b"//a", (b"//a", b"h:1")),
        (b"http://other:80/a?b", (b"/a", b"other:80")),
        (b"HTTPS://other", (b"/", b"other")),
        (b"http:///a", None),
        (b"ftp://other/", None),
        (b"*", None),
        (b"other:443", None),
    ],
)
def test_targets(target, meant):
    """An absolute target names its host itself (RFC 9112, 3.2.2); what is neither form is refused."""
    assert split_target(target, b"h:1") == meant


def test_an_absolute_target_overrides_the_header():
    """What the function takes for the host is what the target names."""
    with served() as address:
        received = ask(address, b"GET http://other:80/a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"GET /a other:80\n" in received


# --- what is no request

GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01",
    b"NONSENSE\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\rInjected: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\x00\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n X-Folded: 1\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"CONNECT other:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_is_no_request_is_refused(garbage, capfd):
    """400 and the end, without a word on stderr; also behind a good request, which gets its answer first."""
    with served() as address:
        alone, behind = ask(address, garbage), ask(address, GET + garbage)
    assert alone.startswith(b"HTTP/1.1 400 ")
    assert alone.count(b"HTTP/1.1") == 1
    assert behind.startswith(b"HTTP/1.1 200 ")
    assert behind.endswith(alone)
    assert capfd.readouterr() == ("", "")


def test_a_failure_of_a_function_ends_one_connection(caplog):
    """A bug closes the connection without an answer; the server goes on, and its log has the error."""

    def respond(request):
        if request.path == b"/bug":
            raise RuntimeError("a bug")
        return echo(request)

    with served(respond) as address:
        assert ask(address, b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        assert ask(address, LAST).startswith(b"HTTP/1.1 200 ")
    assert "data_received() call failed" in caplog.text


class Wire:
    """A transport that keeps what is written, so that bytes can be fed without a network."""

    def __init__(self):
        self.written = []
        self.closed = False

    def get_extra_info(self, name):
        return {"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)}.get(name)

    def set_write_buffer_limits(self, high):
        pass

    def is_closing(self):
        return False

    def can_write_eof(self):
        return True

    def write(self, data):
        assert not self.closed
        self.written.append(data)

    def write_eof(self):
        self.closed = True

    abort = write_eof


PIECES = st.sampled_from(
    [
        *(GET, LAST, b"GET ", b"PUT ", b"/ ", b"http://a/ ", b"HTTP/1.1\r\n", b"HTTP/1.0\r\n", b"\r\n", b"\r", b"\n"),
        *(b"Host: x\r\n", b"Host:", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n"),
        *(b"0\r\n\r\n", b"abc", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: x\r\n", b"\x00"),
        *(b"Connection: upgrade\r\n", b"a:b\r\n" * 50, b"y" * 300, b"\xff\xfe", b"CONNECT a:1 "),
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.lists(PIECES | st.binary(max_size=20), max_size=6).map(b"".join), max_size=8))
def test_whatever_comes(chunks):
    """Any bytes in any pieces: nothing is raised, what is written is whole answers, and after a refusal nothing."""
    wire = Wire()
    limits = Limits(header_bytes=600, body_bytes=50)
    connection = ResponderConnection(lambda _: answer(200, b"ok"), limits, Clock(), lambda _: None)
    connection.connection_made(wire)
    for chunk in chunks:
        connection.data_received(chunk)
    connection.connection_lost(None)
    written = b"".join(wire.written)
    good = answer(200, b"ok")
    rest = written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").replace(good, b"").replace(closing(good), b"")
    assert rest in {b"", *(refusal(status) for status in (400, 413, 431))}
    assert wire.closed == (bool(rest) or closing(good) in written)


def test_requests_without_end_of_them_in_any_pieces():
    """However a good request is cut in two, there is one answer, after the second piece."""
    for cut in range(1, len(GET)):
        wire = Wire()
        connection = ResponderConnection(echo, Limits(), Clock(), lambda _: None)
        connection.connection_made(wire)
        connection.data_received(GET[:cut])
        assert wire.written == []
        connection.data_received(GET[cut:])
        assert len(wire.written) == 1
        connection.connection_lost(None)


# --- limits


def test_a_connection_that_never_says_anything_is_closed():
    """The idle time counts from the connection being made, too."""
    with served(idle_seconds=0.3) as address:
        assert ask(address, b"") == b""


def test_slow_loris_clients_are_cut_off_while_others_are_served():
    """Fifty clients whose headers never end are gone after their time; meanwhile others get their answers."""
    with served(header_seconds=3.0) as address, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(address)) for _ in range(50)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        assert ask(address, LAST).startswith(b"HTTP/1.1 200 ")
        assert drip(slow[0], b"X-Drip: y\r\n") < PATIENCE / 2
        for connection in slow[1:]:
            assert read_all(connection) == b""
        assert ask(address, LAST).startswith(b"HTTP/1.1 200 ")


def test_headers_of_a_further_request_have_the_same_time():
    """The deadline of a kept connection starts at the next request's first byte, empty lines included."""
    with served(header_seconds=0.5, idle_seconds=60) as address, connect(address) as connection:
        connection.sendall(GET)
        assert read_answer(connection).read()
        time.sleep(0.8)  # longer than the headers may take: the connection is only idle
        assert drip(connection, b"\r\n") < PATIENCE / 2


def test_a_body_that_never_ends_is_cut_off():
    """A body that drips is closed at its deadline."""
    with served(body_seconds=0.5) as address, connect(address) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert drip(connection, b"x") < PATIENCE / 2


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""])
@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"GET /"])
def test_a_megabyte_of_headers_is_refused(start, end):
    """431, whether it comes whole or never ends, in a header or in the target; the server is there for others."""
    with served(header_bytes=16 * 1024) as address:
        assert ask(address, start + b"y" * 1_000_000 + end).startswith(b"HTTP/1.1 431 ")
        assert ask(address, LAST).startswith(b"HTTP/1.1 200 ")


def test_very_many_headers_are_refused():
    """A hundred thousand short headers of one name are 431, and take no time worth mentioning."""
    with served(header_bytes=16 * 1024) as address:
        assert ask(address, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 100_000).startswith(b"HTTP/1.1 431 ")


def test_headers_just_below_the_limit_are_accepted():
    """16 KB are 16 KB."""
    with served(header_bytes=16 * 1024) as address:
        headers = b"Host: x\r\nConnection: close\r\nX-Long: " + b"y" * 16_200
        assert ask(address, b"GET / HTTP/1.1\r\n" + headers + b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"e" * 400_000,
    ],
)
def test_a_body_above_the_limit_is_refused(request_bytes):
    """413 as soon as it is known, by its length or by its bytes, chunk extensions among them."""
    with served(body_bytes=1000, header_bytes=1000) as address:
        assert ask(address, request_bytes).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_never_reads_is_dropped():
    """Who asks and asks and takes no answer is read no further, and is gone after its time."""
    with served(lambda _: answer(200, b"x" * 65536), body_seconds=0.5) as address, connect(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 200_000_000:
                sent += connection.send(GET * 8)
        assert sent < 200_000_000


def test_the_connection_cap_turns_away_and_recovers():
    """One connection more than allowed gets 503 and nothing else; when one has gone, the next is served."""
    with served(connections=3) as address:
        held = [connect(address) for _ in range(3)]
        for connection in held:
            connection.sendall(GET)
            assert read_answer(connection).status == 200
        assert ask(address, b"").startswith(b"HTTP/1.1 503 ")
        held.pop().close()
        end = time.monotonic() + PATIENCE
        while not (received := ask(address, LAST)).startswith(b"HTTP/1.1 200") and time.monotonic() < end:
            time.sleep(0.02)
        assert received.startswith(b"HTTP/1.1 200 ")
        for connection in held:
            connection.close()


def test_a_cap_is_one_listeners_own():
    """Who fills one address leaves the other one alone."""
    sockets = [bind("127.0.0.1", 0), bind("127.0.0.1", 0)]
    addresses = [found.getsockname() for found in sockets]
    server = ResponderServer([Listener(found, echo, Limits(connections=1)) for found in sockets])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with connect(addresses[0]) as held:
        held.sendall(GET)
        assert read_answer(held).status == 200
        assert ask(addresses[0], LAST).startswith(b"HTTP/1.1 503 ")
        assert ask(addresses[1], LAST).startswith(b"HTTP/1.1 200 ")
    server.stop()
    thread.join(PATIENCE)


FEW_FILES = """
import resource, sys
from rolekey.http_protocol.addresses import bind
from rolekey.http_protocol.messages import answer
from rolekey.http_server import Limits, Listener, ResponderServer
resource.setrlimit(resource.RLIMIT_NOFILE, (30, int(sys.argv[1])))
listener = bind("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
ResponderServer([Listener(listener, lambda request: answer(200, b"here"), Limits(connections=100))]).run()
"""


@contextlib.contextmanager
def served_with_few_files(hard_limit):
    command = [sys.executable, "-c", FEW_FILES, str(hard_limit)]
    with running_program(command, stdout=subprocess.PIPE) as process:
        yield "127.0.0.1", int(process.stdout.readline())
        process.terminate()


def test_descriptors_for_every_connection_are_asked_for():
    """A shell's usual limit on open files is raised, so that as many connections as are allowed are served."""
    with served_with_few_files(500) as address, contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(address)) for _ in range(100)]
        for connection in held:
            connection.sendall(GET)
        assert [read_answer(connection).status for connection in held] == [200] * 100


def test_a_server_without_descriptors_recovers(capfd):
    """Where the system gives no more, the others wait; they are served when there is room, and nothing is logged."""
    with served_with_few_files(30) as address:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(connect(address)) for _ in range(50)]
            for connection in held:
                connection.sendall(GET)
            assert read_answer(held[0]).status == 200
            waiting = held[-1]
            for connection in held[:-1]:
                connection.close()
            assert read_answer(waiting).status == 200
        assert ask(address, LAST).endswith(b"here")
    assert capfd.readouterr() == ("", "")


# --- TLS


def test_tls_is_served(tmp_path):
    """With a certificate and a key the server speaks TLS, and a client that knows the certificate believes it."""
    certificate, key = make_tls_certificate(tmp_path)
    with served(tls=http_server.tls_context(certificate, key)) as address:
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection(*address, timeout=PATIENCE, context=context)
        for path in ("/a", "/b"):
            connection.request("GET", path)
            assert connection.getresponse().read().startswith(b"GET " + path.encode())
        connection.close()
        assert not ask(address, LAST).startswith(b"HTTP/1.1 200 ")


def test_unfinished_tls_handshakes_count_and_are_cut_off(tmp_path):
    """A client that says nothing on a TLS port takes a place, no longer than headers may take."""
    tls = http_server.tls_context(*make_tls_certificate(tmp_path))
    with served(tls=tls, header_seconds=3.0, connections=2) as address, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(address)) for _ in range(2)]
        assert ask(address, b"") == b""  # turned away at once: the two are still there
        for connection in silent:
            connection.settimeout(0.01)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(PATIENCE)
        for connection in silent:
            assert read_all(connection) == b""


# --- addresses


def test_both_loopback_addresses_have_one_port():
    """127.0.0.1 and, where there is one, ::1 get the same port, also when any will do."""
    sockets = bind_loopback(0)
    try:
        hosts, ports = zip(*(found.getsockname()[:2] for found in sockets), strict=True)
        assert hosts in {("127.0.0.1", "::1"), ("127.0.0.1",)}
        assert len(set(ports)) == 1
    finally:
        for found in sockets:
            found.close()


def test_a_port_in_use_is_a_listen_error():
    """At either address: nothing is served at one of them only."""
    for taken in bind_loopback(0):
        with taken, pytest.raises(ListenError) as caught:
            bind_loopback(taken.getsockname()[1])
        assert "cannot listen on " in caught.value.message


@pytest.mark.parametrize("hops", [1, 64, 255])
def test_the_hop_limit_reaches_accepted_connections(hops):
    """What is set at the listening socket holds for its connections, at both addresses."""
    for listener in bind_loopback(0):
        with listener:
            set_hop_limit(listener, hops)
            with connect(listener.getsockname()[:2]), listener.accept()[0] as accepted:
                of_ipv6 = listener.family == socket.AF_INET6
                level = socket.IPPROTO_IPV6 if of_ipv6 else socket.IPPROTO_IP
                assert accepted.getsockopt(level, socket.IPV6_UNICAST_HOPS if of_ipv6 else socket.IP_TTL) == hops


@pytest.mark.parametrize("hops", [0, -1, 256, 10**9])
def test_a_hop_limit_that_is_none_is_refused(hops):
    """Before anything is served, not at the first connection."""
    with bind("127.0.0.1", 0) as listener, pytest.raises(ConfigurationError):
        set_hop_limit(listener, hops)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_what_is_reached_from_this_machine_only(host, loopback):
    """Every address of the loopback interface; not those that stand for all addresses."""
    with bind(host, 0) as listener:
        assert is_loopback(listener) is loopback


def test_a_socket_that_systemd_opened_may_be_a_unix_socket(tmp_path):
    """Requests are answered there, too; nothing is known of who connects, and nothing is made up."""
    seen = []

    def respond(request):
        seen.append((request.connection.local, request.connection.remote))
        return echo(request)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    assert not is_loopback(listener)
    server = ResponderServer([Listener(listener, respond, Limits())])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(tmp_path / "socket"))
        client.sendall(LAST)
        assert read_all(client).startswith(b"HTTP/1.1 200 ")
    server.stop()
    thread.join(PATIENCE)
    assert seen == [(("", 0), ("", 0))]


def test_urls():
    """They can be pasted."""
    assert url_of("127.0.0.1", 80, tls=False) == "http://127.0.0.1:80"
    assert url_of("::1", 443, tls=True) == "https://[::1]:443"


# --- the end


def test_stopping_answers_what_was_asked():
    """A request that comes while the server stops gets its answer, which is the last; then all are closed."""
    listener = bind("127.0.0.1", 0)
    address = listener.getsockname()
    server = ResponderServer([Listener(listener, echo, Limits())])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with connect(address) as busy, connect(address) as silent, connect(address) as half:
        for connection in (busy, half):
            connection.sendall(GET)
            assert read_answer(connection).read()
        half.sendall(b"GET / HTT")
        server.stop()
        end = time.monotonic() + PATIENCE
        while listener.fileno() >= 0 and time.monotonic() < end:  # until nobody listens any more
            time.sleep(0.01)
        busy.sendall(GET)
        assert read_all(busy).startswith(b"HTTP/1.1 200 OK\r\nconnection: close\r\n")
        assert read_all(silent) == read_all(half) == b""
    thread.join(PATIENCE)
    assert not thread.is_alive()


PROGRAM = textwrap.dedent("""
    from rolekey.http_protocol.addresses import bind
    from rolekey.http_protocol.messages import answer
    from rolekey.http_server import Limits, Listener, ResponderServer
    listener = bind("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    server = ResponderServer([Listener(listener, lambda request: answer(200, b"here"), Limits())])
    server.run(on_hangup=lambda: print("hung up", flush=True))
    print("stopped")
""")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(number):
    """SIGHUP calls the function, and the server goes on; SIGINT and SIGTERM end `run` normally."""
    command = [sys.executable, "-c", PROGRAM]
    with running_program(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        address = ("127.0.0.1", int(process.stdout.readline()))
        # The handlers are in place once it answers.
        for _ in range(2):
            assert ask(address, LAST).endswith(b"here")
            process.send_signal(signal.SIGHUP)
            assert process.stdout.readline() == "hung up\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (0, "stopped\n", "")


def test_a_server_that_is_not_run_gives_its_addresses_back():
    """After close() the port is free."""
    listener = bind("127.0.0.1", 0)
    address = listener.getsockname()
    ResponderServer([Listener(listener, echo, Limits())]).close()
    bind(*address).close()


def test_a_missing_extra_is_named(monkeypatch):
    """Without httptools the error says what to install."""
    for name in ("rolekey.http_protocol.responder_server", "rolekey.http_protocol.responder_connection", "httptools"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "httptools", None)
    with pytest.raises(MissingExtraError) as caught:
        ResponderServer([])
    assert caught.value.hint == "pip install 'rolekey[server]'"


def test_what_a_responder_server_does_not_import():
    """Neither uvicorn nor anything of the client is there in a process that only answers."""
    code = (
        "import sys, rolekey.http_protocol.responder_server, rolekey.vend.local_site, rolekey.vend.imds\n"
        "import rolekey.vend.container, rolekey.vend.health, rolekey.vend.token_file, rolekey.vend.exports\n"
        "found = {'uvicorn', 'click', 'cryptography', 'requests', 'pkcs11', 'prometheus_client'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
