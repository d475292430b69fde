"""The limits of `rolekey.http_server` inside uvicorn's HTTP/1.1 protocol (RFC 9112).

Imported only once a server is made, because uvicorn and httptools are optional.
"""

import asyncio
import contextlib
import functools
import math
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

    from rolekey.http_server import ASGIApplication, Limits

_LINGER_SECONDS = 1.0  # how long a refused client may take to read why: closing at once could destroy the answer
_FLUSH_SECONDS = 5.0  # how long a closed connection may take to send what is left
_STOP_SECONDS = 5  # how long requests under way may take when the server stops
_PIPELINED = 16  # requests that one client may send ahead of their answers
_CHUNK_OVERHEAD = 8  # bytes on the wire for a body's byte: a chunk of one byte takes six
_HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM)


# What a connection is waiting for. Plain numbers, because looking up a member of an Enum costs every request time.
_IDLE = 0  # the first byte of a further request
_HEADER = 1
_BODY = 2
_ANSWER = 3  # the application; nothing is being received
_REFUSED = 4  # the client has been told; what it still sends is thrown away


class _Clock:
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
        clock: _Clock,
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
        if self._phase is _REFUSED or self.transport.is_closing():
            return
        if self._phase is _IDLE:
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

    def _check_received(self) -> None:
        limits = self._limits
        if self._phase is _HEADER and self._received > limits.header_bytes:
            self._refuse(431)
        elif self._phase is _BODY and self._received > limits.header_bytes + _CHUNK_OVERHEAD * limits.body_bytes:
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
        if self._phase is not _HEADER:
            self._enter(_HEADER, self._limits.header_seconds)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer after the body must not pass for one."""
        if self._phase is _HEADER:
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
        elif self._phase is _ANSWER:
            self._enter(_IDLE, self._limits.idle_seconds)

    # --- the limits' side

    def _enter(self, phase: int, seconds: float) -> None:
        self._phase = phase
        self._deadline = self._clock.now + seconds
        self._received = 0
        self._body_bytes = 0

    def _refuse(self, status: int) -> None:
        """Answer with a status where the client still waits for one, and close; once for a connection."""
        if self._phase is _REFUSED:
            return
        cycle = self.cycle
        pending = cycle is not None and not cycle.response_complete
        earlier = pending and (self._phase is _HEADER or bool(self.pipeline) or cycle.response_started)
        self._phase = _REFUSED
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
        self._deadline = self._clock.now + _LINGER_SECONDS

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


class GuardedServer(uvicorn.Server):
    """uvicorn's server with `GuardedProtocol` on sockets that are bound already.

    Args:
        config: uvicorn's settings.
        limits: what one client may take.
        tls: the TLS settings, None for plain HTTP.
    """

    def __init__(self, config: uvicorn.Config, limits: "Limits", tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._limits = limits
        self._tls = tls
        self._clock = _Clock()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections; asyncio's own TLS handshake would have a minute."""
        loop = asyncio.get_running_loop()
        self._clock.now = loop.time()
        protocol = functools.partial(
            GuardedProtocol, self.config, self.server_state, self.lifespan.state, self._limits, self._clock, loop
        )
        self.servers = [
            await loop.create_server(
                protocol,
                sock=listener,
                ssl=self._tls,
                backlog=self.config.backlog,
                ssl_handshake_timeout=self._limits.header_seconds if self._tls else None,
                ssl_shutdown_timeout=_LINGER_SECONDS if self._tls else None,
            )
            for listener in sockets or []
        ]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: the deadlines."""
        self._clock.now = asyncio.get_running_loop().time()
        for connection in self._guarded():
            connection.expire()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way, then close what is left."""
        await super().shutdown(sockets)
        for connection in self._guarded():
            connection.transport.abort()
        await asyncio.sleep(0)

    def _guarded(self) -> list[GuardedProtocol]:
        return [c for c in self.server_state.connections if isinstance(c, GuardedProtocol)]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM. uvicorn would raise them again afterwards; here a stop is a success."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_server(app: "ASGIApplication", limits: "Limits", tls: ssl.SSLContext | None) -> GuardedServer:
    """A server that does not listen yet.

    Args:
        app: the ASGI application.
        limits: what one client may take.
        tls: the TLS settings, None for plain HTTP.

    Returns:
        The server; its ``run`` takes the sockets.
    """
    config = uvicorn.Config(
        cast("ASGI3Application", app),
        http=GuardedProtocol,
        loop="asyncio",
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    return GuardedServer(config, limits, tls)
