"""The server for an ASGI application: uvicorn's, with `GuardedProtocol` for its connections."""

import asyncio
import contextlib
import functools
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import uvicorn

from rolekey.http_protocol.connection import GuardedProtocol
from rolekey.http_protocol.limited import LINGER_SECONDS, STOP_SIGNALS, Clock

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

    from rolekey.http_server import ASGIApplication, Limits

_STOP_SECONDS = 5  # how long requests under way may take when the server stops


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
        self._clock = Clock()

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
                ssl_shutdown_timeout=LINGER_SECONDS if self._tls else None,
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
        """Stop at one of STOP_SIGNALS. uvicorn would raise them again afterwards; here a stop is a success."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in STOP_SIGNALS}
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
