"""One connection of an ASGI application: the limits of `rolekey.http_server` inside uvicorn's HTTP/1.1 protocol."""

import asyncio
import math
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from rolekey.http_protocol.limited import (
    ANSWER,
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

if TYPE_CHECKING:
    from rolekey.http_server import Limits


class GuardedProtocol(LimitedConnection, HttpToolsProtocol):
    """uvicorn's protocol with the deadlines, byte limits and connection cap of `Limits`.

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
        LimitedConnection.__init__(self, limits, clock)
        HttpToolsProtocol.__init__(self, config, server_state, app_state, _loop)

    # --- the transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Count the connection, or turn it away."""
        if len(self.connections) >= self._limits.connections:
            self._turn_away(transport)
            return
        super().connection_made(transport)
        self._begin()

    def _turn_away(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._phase = REFUSED
        if transport.get_extra_info("sslcontext") is None:
            transport.write(refusal(503))
            transport.close()
        else:
            # Closing TLS politely waits for the other side, and keeps what the cap is there to save.
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, within the limits."""
        if not self._takes(data):
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here: the request is answered as it stands, what follows is not HTTP.
            self.cycle.keep_alive = False
            self._phase = REFUSED
            self._deadline = math.inf
            if self.cycle.response_complete:
                self.transport.close()
        except httptools.HttpParserError:
            self._refuse(400)
        else:
            self._check_received()

    def pause_writing(self) -> None:
        """The client does not read: it has the time that it has for a body."""
        self._stop_writing()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._write_deadline = math.inf
        super().resume_writing()

    # --- the parser's side

    def on_message_begin(self) -> None:
        """A request's first byte."""
        if self._phase != HEADER:
            self._enter(HEADER, self._limits.header_seconds)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer after the body must not pass for one."""
        if self._phase == HEADER:
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
            raise RefusedError
        if length > limits.body_bytes:
            self._refuse(413)
            raise RefusedError
        if len(self.pipeline) >= PIPELINED:
            self._refuse(400)
            raise RefusedError
        self._enter(BODY, limits.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the body's bytes and hand them on."""
        self._count_body(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; the application has as long as it needs."""
        super().on_message_complete()
        if self.cycle.response_complete:
            self._enter(IDLE, self._limits.idle_seconds)
        else:
            self._phase = ANSWER
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
        elif self._phase == ANSWER:
            self._enter(IDLE, self._limits.idle_seconds)

    # --- the limits' side

    def _refuse(self, status: int) -> None:
        """Answer with a status where the client still waits for one, and close; once for a connection."""
        if self._phase == REFUSED:
            return
        cycle = self.cycle
        pending = cycle is not None and not cycle.response_complete
        earlier = pending and (self._phase == HEADER or bool(self.pipeline) or cycle.response_started)
        self._phase = REFUSED
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
        self._say_last(refusal(status))
