"""One connection: the limits of `rolekey.http_server` inside uvicorn's HTTP/1.1 protocol (RFC 9112)."""

import asyncio
import math
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from rolekey.http_server import Limits

LINGER_SECONDS = 1.0  # how long a refused client may take to read why: closing at once could destroy the answer
_LINGER_BYTES = 4 * 1024 * 1024  # and how much more it may send meanwhile
_FLUSH_SECONDS = 5.0  # how long a closed connection may take to send what is left
_PIPELINED = 16  # requests that one client may send ahead of their answers
_CHUNK_OVERHEAD = 8  # bytes on the wire for a body's byte: a chunk of one byte takes six


# What a connection is waiting for. Plain numbers, because looking up a member of an Enum costs every request time.
_IDLE = 0  # the first byte of a further request
_HEADER = 1
_BODY = 2
_ANSWER = 3  # the application; nothing is being received
_REFUSED = 4  # the client has been told; what it still sends is thrown away


class Clock:
    """The loop's time in seconds as of the server's last tick, a tenth of a second ago at most."""

    now = 0.0


class _RefusedError(Exception):
    """Stops the parser in the middle of a request that has been refused."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the deadlines, byte limits and connection cap of `Limits`.

    Deadlines are plain numbers, compared by the server's ten ticks a second, so that a request costs no timer.

    Args:
        config: uvicorn's settings.
        server_state: what the server's connections share.
        app_state: the lifespan's state, empty here.
        limits: what one client may take.
        clock: the server's.
        _loop: the event loop, None for the running one.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        limits: "Limits",
        clock: Clock,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._clock = clock
        self._phase = _HEADER
        self._deadline = math.inf  # for the phase, in the loop's seconds
        self._write_deadline = math.inf  # for an answer that the client does not read
        self._close_deadline = math.inf  # for a connection that is closed but not gone
        self._received = 0  # bytes on the wire in this phase
        self._body_bytes = 0

    # --- the transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Count the connection, or turn it away."""
        if len(self.connections) >= self._limits.connections:
            self._turn_away(transport)
            return
        super().connection_made(transport)
        self._deadline = self._clock.now + min(self._limits.header_seconds, self._limits.idle_seconds)

    def _turn_away(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._phase = _REFUSED
        if transport.get_extra_info("sslcontext") is None:
            transport.write(_answer(503))
            transport.close()
        else:
            # Closing TLS politely waits for the other side, and keeps what the cap is there to save.
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, within the limits."""
        if self._phase == _REFUSED or self.transport.is_closing():
            self._throw_away(data)
            return
        if self._phase == _IDLE:
            self._enter(_HEADER, self._limits.header_seconds)
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here: the request is answered as it stands, what follows is not HTTP.
            self.cycle.keep_alive = False
            self._phase = _REFUSED
            self._deadline = math.inf
            if self.cycle.response_complete:
                self.transport.close()
        except httptools.HttpParserError:
            self._refuse(400)
        else:
            self._check_received()

    def _throw_away(self, data: bytes) -> None:
        """A refused client may finish its sentence, so that it listens; it may not go on for ever."""
        self._received += len(data)
        if self._received > _LINGER_BYTES:
            self.transport.abort()

    def _check_received(self) -> None:
        limits = self._limits
        if self._phase == _HEADER and self._received > limits.header_bytes:
            self._refuse(431)
        elif self._phase == _BODY and self._received > limits.header_bytes + _CHUNK_OVERHEAD * limits.body_bytes:
            # Chunk extensions and trailers are no part of the body and would be free otherwise.
            self._refuse(413)

    def pause_writing(self) -> None:
        """The client does not read: it has the time that it has for a body."""
        self._write_deadline = self._clock.now + self._limits.body_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._write_deadline = math.inf
        super().resume_writing()

    # --- the parser's side

    def on_message_begin(self) -> None:
        """A request's first byte."""
        if self._phase != _HEADER:
            self._enter(_HEADER, self._limits.header_seconds)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer after the body must not pass for one."""
        if self._phase == _HEADER:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the sizes that are known now and start the application."""
        limits = self._limits
        size = len(self.url)
        length = 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"content-length":
                length = int(value)
        if size > limits.header_bytes:
            self._refuse(431)
            raise _RefusedError
        if length > limits.body_bytes:
            self._refuse(413)
            raise _RefusedError
        if len(self.pipeline) >= _PIPELINED:
            self._refuse(400)
            raise _RefusedError
        self._enter(_BODY, limits.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the body's bytes and hand them on."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse(413)
            raise _RefusedError
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; the application has as long as it needs."""
        super().on_message_complete()
        if self.cycle.response_complete:
            self._enter(_IDLE, self._limits.idle_seconds)
        else:
            self._phase = _ANSWER
            self._deadline = math.inf

    def on_response_complete(self) -> None:
        """Start the next request that has come already, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._phase == _ANSWER:
            self._enter(_IDLE, self._limits.idle_seconds)

    # --- the limits' side

    def _enter(self, phase: int, seconds: float) -> None:
        self._phase = phase
        self._deadline = self._clock.now + seconds
        self._received = 0
        self._body_bytes = 0

    def _refuse(self, status: int) -> None:
        """Answer with a status where the client still waits for one, and close; once for a connection."""
        if self._phase == _REFUSED:
            return
        cycle = self.cycle
        pending = cycle is not None and not cycle.response_complete
        earlier = pending and (self._phase == _HEADER or bool(self.pipeline) or cycle.response_started)
        self._phase = _REFUSED
        self._received = 0
        self.pipeline.clear()
        if pending:
            cycle.disconnected = True
            cycle.message_event.set()
        if earlier:
            # A status now would be read as the answer to an earlier request.
            self.transport.abort()
            return
        self.flow.resume_reading()
        self.transport.write(_answer(status))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self._clock.now + LINGER_SECONDS

    def expire(self) -> None:
        """Close the connection when a deadline has passed."""
        now = self._clock.now
        if self.transport.is_closing():
            if self._close_deadline == math.inf:
                self._close_deadline = now + _FLUSH_SECONDS
            elif now >= self._close_deadline:
                self.transport.abort()
        elif now >= self._write_deadline or (now >= self._deadline and self.transport.get_write_buffer_size()):
            self.transport.abort()
        elif now >= self._deadline:
            self.transport.close()


def _answer(status: int) -> bytes:
    return STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n"
