"""The server for responders: listening sockets, each with a function that answers, in one thread (asyncio)."""

import asyncio
import contextlib
import math
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rolekey.http_protocol.addresses import keep_hop_limit
from rolekey.http_protocol.limited import LINGER_SECONDS, STOP_SIGNALS, Clock, refusal
from rolekey.http_protocol.responder_connection import ResponderConnection

if TYPE_CHECKING:
    from rolekey.http_server import Listener

_TICK_SECONDS = 0.1
_STOP_SECONDS = 5.0  # how long requests under way may take when the server stops
_ACCEPTED = 64  # connections that are taken before those that are there have their turn
_QUEUED = 1024  # connections that the kernel holds at most until they are taken
_PAUSE_SECONDS = 0.5  # after the system had no room for another connection
_SPARE_FILES = 64  # what the process has open besides connections
_WINDOWS_SELECTS = 480  # select() takes 512 sockets there, the listening ones and the loop's own among them


class _Door:
    """One listening socket and the connections that came in there.

    Args:
        listener: the socket, and what answers.
        clock: the server's.
        most: how many connections there may be.
    """

    def __init__(self, listener: "Listener", clock: Clock, most: float) -> None:
        self._listener = listener
        self._most = most
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        #: Also those whose TLS handshake is not over.
        self.connections: set[ResponderConnection] = set()

    def open(self) -> None:
        """Accept connections from now on."""
        self._loop = asyncio.get_running_loop()
        self._listener.socket.setblocking(False)
        self._loop.add_reader(self._listener.socket, self._accept)

    def close(self) -> None:
        """Take what has come so far, and no more."""
        for _ in range(_QUEUED // _ACCEPTED):
            if not self._accept():
                break
        self._loop.remove_reader(self._listener.socket)
        self._listener.socket.close()
        for connection in self.connections:
            connection.drain()

    def expire(self) -> None:
        """Look at every deadline."""
        for connection in tuple(self.connections):
            if connection.is_made:
                connection.expire()

    def abort(self) -> None:
        """Drop every connection."""
        for task in self._tasks:
            task.cancel()
        for connection in self.connections:
            if connection.is_made:
                connection.transport.abort()

    def _accept(self) -> bool:
        """Take what has come; whether there may be more."""
        for _ in range(_ACCEPTED):
            try:
                accepted, _ = self._listener.socket.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except (ConnectionAbortedError, ConnectionResetError):  # it has gone; Windows says the second
                continue
            except OSError:
                # No descriptor or no memory: the readiness would come again at once.
                self._loop.remove_reader(self._listener.socket)
                self._loop.call_later(_PAUSE_SECONDS, self._reopen)
                return False
            accepted.setblocking(False)
            if len(self.connections) >= self._most:
                self._turn_away(accepted)
            else:
                self._take(accepted)
        return True

    def _reopen(self) -> None:
        if self._listener.socket.fileno() >= 0:
            self._loop.add_reader(self._listener.socket, self._accept)

    def _turn_away(self, accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError):
            if self._listener.tls is None:
                accepted.send(refusal(503))

    def _take(self, accepted: socket.socket) -> None:
        listener = self._listener
        with contextlib.suppress(OSError):  # a client that has gone
            keep_hop_limit(listener.socket, accepted)
        connection = ResponderConnection(listener.respond, listener.limits, self._clock, self.connections.discard)
        self.connections.add(connection)
        task = self._loop.create_task(self._connect(accepted, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, accepted: socket.socket, connection: ResponderConnection) -> None:
        tls = self._listener.tls
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=tls,
                # asyncio's own handshake would have a minute.
                ssl_handshake_timeout=self._listener.limits.header_seconds if tls else None,
                ssl_shutdown_timeout=LINGER_SECONDS if tls else None,
            )
        except OSError:
            accepted.close()
        finally:
            if not connection.is_made:
                self.connections.discard(connection)


class ResponderLoop:
    """Serves several sockets until it is told to stop.

    Args:
        listeners: the sockets, which are listening, and what answers on each.
    """

    def __init__(self, listeners: Sequence["Listener"]) -> None:
        self._clock = Clock()
        most = _most_connections(len(listeners))
        self._doors = [_Door(one, self._clock, min(one.limits.connections, most)) for one in listeners]
        self._files = sum(listener.limits.connections for listener in listeners) + _SPARE_FILES
        self._hung_up = False
        #: Set to make run() return soon.
        self.should_exit = False

    def run(self, on_hangup: Callable[[], None] | None) -> None:
        """Serve until `should_exit`, or, in the main thread, until one of STOP_SIGNALS.

        Args:
            on_hangup: called in this thread after SIGHUP.
        """
        _allow_open_files(self._files)
        # The usual loop of Windows knows no readers.
        with (
            self._signals(hangups=on_hangup is not None),
            asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner,
        ):
            runner.run(self._serve(on_hangup))

    async def _serve(self, on_hangup: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        self._clock.now = loop.time()
        for door in self._doors:
            door.open()
        while not self.should_exit:
            await self._tick(loop)
            if self._hung_up and on_hangup is not None:
                self._hung_up = False
                on_hangup()
        for door in self._doors:
            door.close()
        end = loop.time() + _STOP_SECONDS
        while any(door.connections for door in self._doors) and loop.time() < end:
            await self._tick(loop)
        for door in self._doors:
            door.abort()
        await asyncio.sleep(0)

    async def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        await asyncio.sleep(_TICK_SECONDS)
        self._clock.now = loop.time()
        for door in self._doors:
            door.expire()

    @contextlib.contextmanager
    def _signals(self, *, hangups: bool) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = dict.fromkeys(STOP_SIGNALS, self._exit)
        if sys.platform != "win32" and hangups:
            handlers[signal.SIGHUP] = self._hang_up
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _exit(self, *_: object) -> None:
        self.should_exit = True

    def _hang_up(self, *_: object) -> None:
        self._hung_up = True


def _most_connections(doors: int) -> float:
    """How many connections each of so many doors may have, as far as the system's select() goes."""
    return _WINDOWS_SELECTS // doors if sys.platform == "win32" else math.inf


def _allow_open_files(wanted: int) -> None:
    """Raise the soft limit on descriptors, as far as the hard one allows."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - POSIX only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
