"""One HTTPS exchange, on real sockets: what is sent, how much is read, how long it takes, and what an error says."""

import base64
import contextlib
import gzip
import socket
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc

import pytest
import requests

from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError, DeadlineError, MalformedResponseError, RolekeyError, TransportError
from rolekey.secret import Secret
from rolekey.transport import PermanentTransportError, Post, Route, messages, open_ahead, opening, send
from rolekey.transport.messages import MAX_ANSWER
from support.listener import ServerTLS
from support.proxy import ScriptedProxy
from support.service import HANG, RESET, Drip, Flood, Pause, ScriptedService, answer

PATH = "/sessions?profileArn=arn%3Aaws"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BLOCK = b"x" * 65536
HARMLESS_TIME = 20  # seconds, within which even a busy machine is done with what ends by itself
AUTHORIZATION = "AWS4-X509-RSA-SHA256 Credential=1/2, SignedHeaders=host, Signature=00"


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A server's certificate for this machine and for service.test."""
    return ServerTLS.make(tmp_path_factory.mktemp("tls"), "127.0.0.1", "::1", "localhost", "service.test")


@pytest.fixture(scope="module")
def other_tls(tmp_path_factory):
    """One of another CA and for another host."""
    return ServerTLS.make(tmp_path_factory.mktemp("other"), "other.test")


def post(url, **route):
    """What send() says to a request; `seconds` is the deadline."""
    seconds = route.pop("seconds", HARMLESS_TIME)
    headers = {"Host": url.partition("//")[2].partition("/")[0], "Authorization": AUTHORIZATION, "X-Custom": "a  b"}
    return send(Post(url + PATH, headers, b'{"a":1}'), Route(**route), Deadline(seconds))


@contextlib.contextmanager
def scripted(script, way, tls):
    """A service, and how it is asked: straight, or over TLS through a proxy."""
    if way == "straight":
        with ScriptedService(script) as service:
            yield service, lambda **route: post(service.url, **route)
    else:
        with (
            ScriptedService(script, tls=tls) as service,
            ScriptedProxy({"service.test:443": service.port}) as proxy,
        ):
            through_it = {"ca_bundle": tls.ca, "proxy": Secret(f"http://{proxy.address}")}
            yield service, lambda **route: post("https://service.test", **through_it, **route)


def both_ways(cases, *by_proxy):
    """The cases straight from the service, and those that are named through a proxy too, where requests reads them."""
    straight = [pytest.param(case, "straight", id=name) for name, case in cases.items()]
    return [*straight, *(pytest.param(cases[name], "proxy", id=f"{name}, proxy") for name in by_proxy)]


def chain(error):
    """An error and everything that led to it, shown or not."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def everything_said(error):
    """Every text in which an error, or one that led to it, shows itself."""
    said = [f"{e} {e!r} {e.args!r} {getattr(e, 'message', '')} {getattr(e, 'hint', '')}" for e in chain(error)]
    return "\n".join([*said, *traceback.format_exception(error)])


# What is sent


def test_sends_what_it_is_given(tls):
    """Method, path, headers and body arrive as they were given, byte for byte, with no more than HTTP needs."""
    with ScriptedService((answer(201, b"body", {"X-Amzn-RequestId": "id"}),), tls=tls) as service:
        found = post(service.url, ca_bundle=tls.ca)
    (request,) = service.requests
    assert request.request_line == f"POST {PATH} HTTP/1.1"
    assert request.body == b'{"a":1}'
    assert (request.header("Host"), request.header("X-Custom")) == (service.address, "a  b")
    assert request.header("Authorization") == AUTHORIZATION
    assert {name.lower() for name, _ in request.headers} <= {
        *("host", "authorization", "x-custom", "content-length", "connection"),
    }
    assert (found.status, found.headers["x-amzn-requestid"], found.body) == (201, "id", b"body")
    assert "body of 4 bytes" in repr(found)


@pytest.mark.parametrize("place", ["home", "variable"])
def test_nothing_is_taken_from_netrc(place, tmp_path, monkeypatch):
    """A ~/.netrc, or the file that NETRC names, with a login for the host does not replace our Authorization."""
    file = tmp_path / (".netrc" if place == "home" else "another")
    file.write_text("machine 127.0.0.1 login somebody password canary-netrc\ndefault login x password y\n")
    file.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path if place == "home" else tmp_path / "nobody"))
    monkeypatch.delenv("NETRC", raising=False)
    if place == "variable":
        monkeypatch.setenv("NETRC", str(file))
    with ScriptedService((answer(200),)) as service:
        post(service.url)
        requests.post(service.url, headers={"Authorization": AUTHORIZATION}, timeout=HARMLESS_TIME)
    ours, of_plain_requests = (request.header("Authorization") for request in service.requests)
    assert ours == AUTHORIZATION
    assert of_plain_requests.startswith("Basic "), "the trap is not set"


def test_no_proxy_of_the_environment(monkeypatch):
    """Proxies are the route's affair: variables that requests would obey have no effect here."""
    with ScriptedProxy() as proxy, ScriptedService((answer(200),)) as service:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        assert post(service.url).status == 200
    assert proxy.connections == 0


# Redirects


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/elsewhere", "{url}/elsewhere", "http://[::1", "http://a:b/", "", "\xff"])
def test_redirects_are_answers(status, location):
    """No redirect is followed, wherever it leads and however malformed its Location is: it is the answer."""
    with ScriptedService() as elsewhere:
        redirect = answer(status, b"moved", {"Location": location.format(url=elsewhere.url)})
        with ScriptedService((redirect,)) as service:
            found = post(service.url)
    assert (found.status, found.body) == (status, b"moved")
    assert (service.connections, len(service.requests), elsewhere.connections) == (1, 1, 0)


# How much is read

TOO_MUCH = {
    "a Content-Length": (answer(200, b"", length=MAX_ANSWER + 1), Flood(BLOCK)),
    "no Content-Length": (OK + b"\r\n", Flood(BLOCK)),
    "endless chunks": (CHUNKED, Flood(b"10000\r\n" + BLOCK + b"\r\n")),
    "endless small chunks": (CHUNKED, Flood((b"20\r\n" + bytes(32) + b"\r\n") * 1000)),
    "a refusal": (b"HTTP/1.1 403 Forbidden\r\n\r\n", Flood(BLOCK)),
    "a redirect": (b"HTTP/1.1 307 Moved\r\nLocation: /x\r\n\r\n", Flood(BLOCK)),
}


BOMBS = {
    "a gzip bomb": (answer(200, gzip.compress(bytes(256 << 20), 9), {"Content-Encoding": "gzip"}),),
    "a gzip bomb in a gzip bomb": (
        answer(200, gzip.compress(gzip.compress(bytes(256 << 20))), {"Content-Encoding": "gzip, gzip"}),
    ),
}


@pytest.mark.parametrize(("script", "way"), both_ways(TOO_MUCH | BOMBS, "endless chunks", *BOMBS))
def test_no_more_than_a_mebibyte_is_read(script, way, tls):
    """An answer of more than 1 MiB, unpacked, is refused as soon as that is known, and takes little memory."""
    tracemalloc.start()
    try:
        with scripted(script, way, tls) as (_, ask):
            tracemalloc.reset_peak()
            with pytest.raises((MalformedResponseError, TransportError), match=r"is larger than 1 MiB|is compressed"):
                ask()
            peak = tracemalloc.get_traced_memory()[1] - sum(len(s) for s in script if isinstance(s, bytes))
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


@pytest.mark.parametrize("way", ["straight", "proxy"])
@pytest.mark.parametrize("encoding", ["identity", "chunked"])
def test_a_mebibyte_is_read(encoding, way, tls):
    """An answer of exactly 1 MiB is read, in chunks too."""
    body = bytes(MAX_ANSWER)
    script = {
        "identity": answer(200, body),
        "chunked": CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
    }
    with scripted((script[encoding],), way, tls) as (_, ask):
        assert ask().body == body


def test_a_compressed_answer_is_read_from_a_proxy_only(tls):
    """What nobody asked for is a TransportError straight from the service; what requests unpacks is taken."""
    script = (answer(200, gzip.compress(b"body"), {"Content-Encoding": "gzip"}),)
    with scripted(script, "straight", tls) as (_, ask), pytest.raises(TransportError, match="not asked for"):
        ask()
    with scripted(script, "proxy", tls) as (_, ask):
        assert ask().body == b"body"


# How long it takes

SLOW = {
    "before the answer": (HANG,),
    "in the status line": (b"HTTP/1.", HANG),
    "in the headers": (OK + b"X-A: b\r\n", HANG),
    "in the body": (answer(200, b"half", length=8), HANG),
    "in a chunk": (CHUNKED + b"8\r\nhalf", HANG),
    "in a redirect's body": (answer(307, b"half", {"Location": "/"}, length=8), HANG),
    "a drip of headers": (OK, Drip(b"X-A: " + b"b" * 1000)),
    "a drip of the body": (answer(200, b"", length=1000), Drip(b"b" * 1000)),
    "a drip of chunks": (CHUNKED, Drip(b"1\r\nx\r\n" * 1000)),
    "endless interim answers": (Flood(b"HTTP/1.1 100 Continue\r\n\r\n"),),
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
def test_ends_at_the_deadline(script):
    """A service that hangs or drips, wherever in its answer, ends at the deadline with an error that names the host."""
    before = time.monotonic()
    with ScriptedService(script) as service, pytest.raises(DeadlineError, match=service.address) as caught:
        post(service.url, seconds=1)
    assert 0.9 < time.monotonic() - before < HARMLESS_TIME
    assert "1 s" in caught.value.message
    assert "--timeout" in caught.value.hint


def test_a_tls_handshake_ends_at_the_deadline():
    """A port that accepts and then does not speak TLS ends at the deadline too."""
    with ScriptedService() as service, pytest.raises(DeadlineError, match=service.address):
        post(service.url.replace("http:", "https:"), seconds=1)


def test_a_deadline_that_has_passed_sends_nothing():
    """With no time left no connection is made."""
    with ScriptedService((answer(200),)) as service, pytest.raises(DeadlineError):
        post(service.url, seconds=0)
    assert service.connections == 0


# What goes wrong

BROKEN = {
    "closed at once": ((), "closed without an answer"),
    "reset at once": ((RESET,), "reset"),
    "reset in the headers": ((OK, Pause(0.1), RESET), "reset"),
    "reset in the body": ((answer(200, b"half", length=8), Pause(0.1), RESET), "reset"),
    "short body": ((answer(200, b"half", length=8),), "cut short"),
    "short chunk": ((CHUNKED + b"8\r\nhalf",), "cut short"),
    "no last chunk": ((CHUNKED + b"4\r\nhalf\r\n",), "cut short"),
    "no chunks": ((CHUNKED + b"half a document",), "chunks are broken|cut short"),
    "another protocol": ((b"SSH-2.0-OpenSSH_9.2\r\n",), "does not speak HTTP"),
    "endless headers": ((OK, Flood(b"X-A: b\r\n")), "does not speak HTTP"),
    "a giant header": ((OK + b"X-A: " + BLOCK + b"\r\n\r\n",), "does not speak HTTP"),
    "two lengths": ((OK + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",), "contradict"),
    "broken gzip": ((answer(200, b"no gzip", {"Content-Encoding": "gzip"}),), "compression is broken|not asked for"),
}


@pytest.mark.parametrize(("case", "way"), both_ways(BROKEN, "short body", "no chunks", "two lengths", "broken gzip"))
def test_a_broken_answer_is_no_answer(case, way, tls):
    """Whatever is less than an HTTP answer is a TransportError that names the host and what was wrong."""
    script, cause = case
    with scripted(script, way, tls) as (service, ask), pytest.raises(TransportError, match=cause) as caught:
        ask()
    assert (service.address if way == "straight" else "service.test") in caught.value.message
    assert "--endpoint" in caught.value.hint


def closed_port():
    """An address at which nobody listens: the system gives that port to nobody."""
    return "127.0.0.1:1"


@pytest.mark.parametrize(
    ("host", "cause"),
    [
        (closed_port(), "refused"),
        ("name.invalid", "(?i)name"),
        ("a..invalid", "no host name"),
        (f"{'a' * 64}.invalid", "no host name"),
    ],
    ids=["refused", "unknown name", "empty label", "long label"],
)
def test_no_connection(host, cause):
    """A connection that nobody takes, and a host that has no address, are TransportErrors in the system's words."""
    with pytest.raises(TransportError, match=cause) as caught:
        post(f"https://{host}")
    assert host in caught.value.message
    assert "DNS" in caught.value.hint


def test_a_connection_that_nobody_answers(monkeypatch):
    """A host that swallows connections is given up after some seconds, so that there is time for another attempt."""
    monkeypatch.setattr(messages, "CONNECT_TIMEOUT", 0.3)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # more than its queue takes
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        with pytest.raises(TransportError, match="no connection within"):
            post(f"http://127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize(
    ("certificate", "trusted", "cause"),
    [
        ("tls", None, "local issuer"),
        ("tls", "other_tls", "local issuer"),
        ("other_tls", "other_tls", "mismatch"),
    ],
    ids=["unknown CA", "another CA", "another host"],
)
def test_an_untrusted_server_gets_nothing(certificate, trusted, cause, request):
    """A certificate of an unknown CA or for another host is refused before a byte is sent, and for good."""
    served = request.getfixturevalue(certificate)
    bundle = request.getfixturevalue(trusted).ca if trusted else None
    with (
        ScriptedService((answer(200),), tls=served) as service,
        pytest.raises(PermanentTransportError, match=cause) as caught,
    ):
        post(service.url, ca_bundle=bundle)
    assert service.requests == []
    assert service.address in caught.value.message
    assert "AWS_CA_BUNDLE" in caught.value.hint


def test_any_certificate_is_taken_without_verification(other_tls, recwarn):
    """verify_tls=False takes any certificate, without a word of warning on the way."""
    with ScriptedService((answer(200),), tls=other_tls) as service:
        assert post(service.url, verify_tls=False).status == 200
    assert list(recwarn) == []


@pytest.mark.parametrize("contents", ["", "no certificate"])
def test_a_ca_bundle_without_certificates_is_an_error(contents, tls, tmp_path):
    """A CA bundle that cannot be read is an error, never a reason to trust the usual CAs."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(contents)
    with (
        ScriptedService((answer(200),), tls=tls) as service,
        pytest.raises(PermanentTransportError, match="no certificate"),
    ):
        post(service.url, ca_bundle=bundle)
    assert service.requests == []


def test_plain_http_on_a_tls_port(tls):
    """Plain HTTP to a TLS port is a TransportError."""
    with ScriptedService((answer(200),), tls=tls) as service, pytest.raises(TransportError, match=service.address):
        post(service.url.replace("https:", "http:"))


# Proxies

PASSWORD = "canary-proxy/@:%? p\xe4ss"
ENCODED = "canary-proxy%2F%40%3A%25%3F%20p%C3%A4ss"
CANARY = "canary-proxy"
BASIC = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode("latin-1")).decode()


def through(proxy_address, tls, scheme="http"):
    """A request to service.test through a proxy that wants a password."""
    proxy = Secret(f"{scheme}://user:{ENCODED}@{proxy_address}")
    return post("https://service.test", ca_bundle=tls.ca, proxy=proxy)


def assert_silent(error):
    """Nothing that an error says or carries has the proxy's password in it, as it is or in the header's form."""
    said = everything_said(error)
    assert CANARY not in said
    assert BASIC.removeprefix("Basic ")[8:30] not in said


def test_https_goes_through_a_tunnel(tls):
    """HTTPS goes through CONNECT with the user and password of the proxy's URL, which the service does not see."""
    with ScriptedService((answer(201, b"body"),), tls=tls) as service:
        routes = {"service.test:443": service.port}
        with ScriptedProxy(routes, authorization=BASIC) as proxy:
            found = through(proxy.address, tls)
    assert (found.status, found.body) == (201, b"body")
    (connect,) = proxy.connects
    assert connect.request_line.startswith("CONNECT service.test:443 HTTP/1.")
    assert connect.header("Proxy-Authorization") == BASIC
    assert connect.header("Authorization") is None
    (request,) = service.requests
    assert request.header("Host") == "service.test"
    assert request.header("Authorization") == AUTHORIZATION
    assert request.header("Proxy-Authorization") is None


def test_tls_is_verified_behind_a_proxy(tls, other_tls):
    """A proxy that answers in the service's place gets nothing."""
    with (
        ScriptedService((answer(201),), tls=other_tls) as impostor,
        ScriptedProxy({"service.test:443": impostor.port}) as proxy,
        pytest.raises(PermanentTransportError, match=r"no TLS connection to service\.test"),
    ):
        through(proxy.address, tls)
    assert impostor.requests == []


PROXY_REFUSALS = {
    "407": (answer(407), PermanentTransportError, "HTTP status 407"),
    "403": (answer(403, b"<html>blocked</html>"), PermanentTransportError, "HTTP status 403"),
    "502": (answer(502), TransportError, "HTTP status 502"),
    "a redirect": (answer(302, b"", {"Location": "http://login.test/"}), TransportError, "HTTP status 302"),
    "nothing": (b"", TransportError, "through the proxy: the connection was closed without an answer"),
    "another protocol": (b"\x05\xff", TransportError, "does not speak HTTP|closed"),
}


@pytest.mark.parametrize(("refusal", "kind", "cause"), PROXY_REFUSALS.values(), ids=PROXY_REFUSALS)
def test_a_proxy_that_refuses(refusal, kind, cause, tls):
    """A proxy's refusal is told apart from the service's, by its status; a wrong password is no reason to try again."""
    with ScriptedProxy(refusal=refusal) as proxy, pytest.raises(TransportError, match=cause) as caught:
        through(proxy.address, tls)
    assert type(caught.value) is kind
    assert "service.test" in caught.value.message
    assert "HTTPS_PROXY" in caught.value.hint
    assert proxy.connects[0].header("Proxy-Authorization") == BASIC
    assert_silent(caught.value)


def test_a_wrong_proxy_password(tls):
    """A proxy that asks for another password is answered once."""
    with (
        ScriptedProxy(authorization="Basic b3RoZXI=") as proxy,
        pytest.raises(PermanentTransportError, match="407") as caught,
    ):
        through(proxy.address, tls)
    assert len(proxy.connects) == 1
    assert_silent(caught.value)


@pytest.mark.parametrize("address", [closed_port(), "name.invalid:3128"])
def test_a_proxy_that_is_down(address, tls):
    """A proxy that cannot be reached is named as what is in the way."""
    with pytest.raises(TransportError, match=r"the proxy for service\.test") as caught:
        through(address, tls)
    assert_silent(caught.value)


def test_a_proxy_that_hangs(tls):
    """A proxy that does not answer ends at the deadline."""
    with ScriptedService() as silent, pytest.raises(DeadlineError, match=r"service\.test") as caught:
        post("https://service.test", ca_bundle=tls.ca, proxy=Secret(f"http://u:{CANARY}@{silent.address}"), seconds=1)
    assert silent.requests[0].request_line.startswith("CONNECT service.test:443 ")
    assert_silent(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{CANARY}@",
        f"http://user:{CANARY}@host:port",
        f"http://user:{CANARY}@host:99999",
        f"http://user:{CANARY}#x@host:80",
        f"http://user:{CANARY}/x@host:80",
        f"http://user:{CANARY}?x@host:80",
        f"http://user:{CANARY}[@host:80",
        f"http://user:{CANARY}\u2100@host:80",
        f"http://user:{CANARY}%E2%82%AC@host:80",
        f"http://user:{CANARY}\udcff@host:80",
        f"http://user:{CANARY}@[::1",
        f"http://user:{CANARY}@host:80\n",
        f"http:/user:{CANARY}@host:80",
    ],
)
def test_a_proxy_url_that_cannot_be_used(url):
    """A malformed proxy URL, as an unescaped password makes it, is a matter of configuration and is quoted nowhere."""
    with pytest.raises(ConfigurationError, match="the proxy's URL") as caught:
        post("https://service.test", proxy=Secret(url))
    assert "HTTPS_PROXY" in caught.value.hint
    assert_silent(caught.value)


@pytest.mark.parametrize("scheme", ["ftp", "socks9", "x"])
def test_a_proxy_of_another_kind(scheme, tls):
    """A proxy scheme that nobody knows is an error that says so."""
    with pytest.raises(RolekeyError, match="not supported") as caught:
        through("127.0.0.1:1", tls, scheme=scheme)
    assert_silent(caught.value)


@pytest.mark.parametrize("text", [CANARY, BASIC])
@pytest.mark.parametrize("shown", [True, False])
def test_silence_is_not_vacuous(text, shown):
    """The search finds a password in an error's cause, shown or suppressed."""
    error = TransportError("x", hint="y")
    error.__context__, error.__suppress_context__ = ValueError(text), not shown
    with pytest.raises(AssertionError):
        assert_silent(error)


# A connection that is opened ahead


def ahead(url, **route):
    """What open_ahead() gives, and what send() says to a request over it."""
    deadline = Deadline(HARMLESS_TIME)
    opening = open_ahead(url, Route(**route), deadline)
    request = Post(url + PATH, {"Host": url.partition("//")[2]}, b"{}")
    return opening, lambda: send(request, Route(**route), deadline, opening)


def test_a_connection_opened_ahead_is_used_once(tls):
    """The request goes over the connection that was opened for it; a second one over a connection of its own."""
    with ScriptedService((answer(201, b"first"),), tls=tls) as service:
        _, ask = ahead(service.url, ca_bundle=tls.ca)
        assert ask().body == b"first"
        assert service.connections == 1
        assert ask().body == b"first"
        assert (service.connections, len(service.requests)) == (2, 2)


def test_nothing_is_sent_ahead(tls):
    """As long as no request is sent, the service sees a connection and not a byte of a request."""
    with ScriptedService((answer(201),), tls=tls) as service:
        opening, _ = ahead(service.url, ca_bundle=tls.ca)
        connection = opening.take(service.address)
        assert (service.connections, service.requests) == (1, [])
        connection.close()


def test_a_connection_begins_before_anything_slow_is_imported():
    """What opens a connection ahead needs neither TLS nor an HTTP client to be imported for the first packet."""
    program = "import sys, rolekey.transport; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {"socket", "rolekey.transport.opening"} <= loaded
    assert not {"ssl", "http.client", "email", "requests", "certifi", "cryptography"} & loaded


def test_an_old_connection_is_opened_anew(tls, monkeypatch):
    """A connection on which nothing was said for long is not trusted to be still there."""
    monkeypatch.setattr(opening, "MAX_IDLE_SECONDS", 0.0)
    with ScriptedService((answer(201),), tls=tls) as service:
        _, ask = ahead(service.url, ca_bundle=tls.ca)
        assert ask().status == 201
        assert (service.connections, len(service.requests)) == (2, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_nobody_takes_is_closed(when, tls, monkeypatch):
    """A connection that is given up is closed, whether it is open by then or not; one that was taken is left alone."""
    gate = threading.Event()
    connect, opened = opening.connect, []

    def connect_later(*arguments):
        assert gate.wait(HARMLESS_TIME)
        opened.append(connect(*arguments))
        return opened[-1]

    monkeypatch.setattr(opening, "connect", connect_later)
    with ScriptedService((answer(201),), tls=tls) as service:
        first, _ = ahead(service.url, ca_bundle=tls.ca)
        started = first._started
        if when == "before":
            first.close()
        gate.set()
        started.result("the connection")
        first.close()
        assert opened[0].fileno() == -1
        second, _ = ahead(service.url, ca_bundle=tls.ca)
        assert second.take(service.address) is not None
        second.close()
        assert opened[-1].fileno() != -1
        opened[-1].close()


def test_what_goes_wrong_ahead_is_said_when_something_is_sent(tls, other_tls):
    """A connection that cannot be opened, or to a server that is not trusted, fails as it would have failed later."""
    _, ask = ahead(f"https://{closed_port()}")
    with pytest.raises(TransportError, match="refused"):
        ask()
    with ScriptedService((answer(201),), tls=other_tls) as service:
        _, ask = ahead(service.url, ca_bundle=tls.ca)
        with pytest.raises(PermanentTransportError, match=r"local issuer|mismatch"):
            ask()
        assert service.requests == []


def test_a_proxy_is_not_spoken_to_ahead():
    """A proxy, which may count wrong passwords, sees no connection before there is something to send."""
    with ScriptedProxy() as proxy:
        assert open_ahead("https://service.test", Route(proxy=Secret(f"http://{proxy.address}")), Deadline(5)) is None
    assert proxy.connections == 0
