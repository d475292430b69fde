"""One connection whose requests a plain function answers at once, within the limits of `rolekey.http_server`.

An answer is there when the request is whole, so that all that came together is answered in one write and in order.
"""

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httptools

from rolekey.http_protocol.limited import (
    BODY,
    HEADER,
    IDLE,
    PIPELINED,
    REFUSED,
    Clock,
    LimitedConnection,
    RefusedError,
    refusal,
)
from rolekey.http_protocol.messages import Connection, Request, Responder, closing, split_target, without_body

if TYPE_CHECKING:
    from rolekey.http_server import Limits

_UNREAD_BYTES = 16 * 1024  # of answers; with more unread nothing further is received
_DRAIN_SECONDS = 0.5  # how long a stopping server waits for the request that may be on its way
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ResponderConnection(LimitedConnection, asyncio.Protocol):
    """asyncio's end of one connection.

    Args:
        respond: answers a request.
        limits: what one client may take.
        clock: the server's.
        gone: is called once the connection is lost.
    """

    def __init__(
        self, respond: Responder, limits: "Limits", clock: Clock, gone: Callable[["ResponderConnection"], None]
    ) -> None:
        super().__init__(limits, clock)
        self._respond = respond
        self._gone = gone
        self._draining = False
        self._answers: list[bytes] = []  # to what came together
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._size = 0
        #: Whether there is a transport: not before the end of a TLS handshake.
        self.is_made = False

    # --- the transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's
        """The deadlines begin."""
        self.transport = transport
        self.is_made = True
        self._ends = Connection(
            _address(transport.get_extra_info("sockname")), _address(transport.get_extra_info("peername"))
        )
        self._parser = httptools.HttpRequestParser(self)
        transport.set_write_buffer_limits(_UNREAD_BYTES)
        self._begin()
        if self._draining:
            self.drain()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Make room for another."""
        del self._parser  # which knows this connection
        self._gone(self)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole of what has come, within the limits."""
        if not self._takes(data):
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here: the request is answered as it stands, what follows is not HTTP.
            if self._phase != REFUSED:
                self._finish(self._answers.pop())
        except httptools.HttpParserCallbackError:
            if self._phase != REFUSED:  # a responder's own failure
                raise
        except httptools.HttpParserError:
            self._refuse(400)
        if self._answers:
            self.transport.write(b"".join(self._answers))
            self._answers.clear()
        self._check_received()

    def pause_writing(self) -> None:
        """The client does not read, so nothing more is read from it."""
        self._stop_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._write_deadline = math.inf
        self.transport.resume_reading()

    # --- the parser's side

    def on_message_begin(self) -> None:
        """A request's first byte."""
        if self._phase != HEADER:
            self._enter(HEADER, self._limits.header_seconds)
        self._target = b""
        self._headers = {}
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer after the body must not pass for one."""
        if self._phase != HEADER:
            return
        self._size += len(name) + len(value) + 4
        name, value = name.lower(), value.strip(b" \t")
        if name in self._headers:
            self._check_size()  # before what is joined grows and grows
            value = self._headers[name] + b", " + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Check what is known of the body now."""
        headers = self._headers
        self._check_size()
        if b"content-length" in headers and int(headers[b"content-length"]) > self._limits.body_bytes:
            self._stop(413)
        if len(self._answers) >= PIPELINED:
            self._stop(400)
        self._enter(BODY, self._limits.body_seconds)
        if b"expect" in headers:
            self._answers.append(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Nobody looks at a body: its bytes are counted."""
        self._count_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        headers = self._headers
        meant = split_target(self._target, headers.get(b"host"))
        if meant is None:
            self._stop(400)
            return
        method = self._parser.get_method()
        whole = self._respond(Request(method, meant[0], meant[1], headers, self._ends))
        if method == b"HEAD":
            whole = without_body(whole)
        if self._may_go_on(headers):
            self._answers.append(whole)
            self._enter(IDLE, self._limits.idle_seconds)
        else:
            self._finish(whole)

    def _may_go_on(self, headers: dict[bytes, bytes]) -> bool:
        if self._draining or not self._parser.should_keep_alive():
            return False
        # A client of HTTP/1.0 that wants more says so, and would have to be told that it may.
        return b"connection" not in headers or self._parser.get_http_version() != "1.0"

    # --- the limits' side

    def _check_size(self) -> None:
        if self._size + len(self._target) > self._limits.header_bytes:
            self._stop(431)

    def _stop(self, status: int) -> None:
        self._refuse(status)
        raise RefusedError

    def _refuse(self, status: int) -> None:
        """Refuse what comes next, once for a connection; what came before has been answered."""
        if self._phase != REFUSED:
            self._end(refusal(status))

    def _finish(self, whole: bytes) -> None:
        self._end(closing(whole))

    def _end(self, last: bytes) -> None:
        self._phase = REFUSED
        self._received = 0
        self._say_last(b"".join([*self._answers, last]))
        self._answers.clear()

    def drain(self) -> None:
        """Answer what is on its way and nothing more: the server stops."""
        self._draining = True
        if self.is_made and not self.transport.get_write_buffer_size():
            self._deadline = min(self._deadline, self._clock.now + _DRAIN_SECONDS)


def _address(name: Any) -> tuple[str, int]:
    """An end of a connection; nothing that means anything where it is none of TCP, or gone already."""
    return (name[0], name[1]) if isinstance(name, tuple) else ("", 0)
