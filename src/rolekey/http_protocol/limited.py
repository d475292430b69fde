"""What both kinds of connection share: the limits of `rolekey.http_server` on time and bytes."""

import asyncio
import math
import signal
import sys
from typing import TYPE_CHECKING

from rolekey.http_protocol.messages import STATUS_LINE

if TYPE_CHECKING:
    from rolekey.http_server import Limits

# What ends a server: on Windows Ctrl-C and Ctrl-Break.
if sys.platform == "win32":
    STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LINGER_SECONDS = 1.0  # how long a refused client may take to read why: closing at once could destroy the answer
PIPELINED = 16  # requests that one client may send ahead of their answers
_LINGER_BYTES = 4 * 1024 * 1024  # and how much more a refused client may send meanwhile
_FLUSH_SECONDS = 5.0  # how long a closed connection may take to send what is left
_CHUNK_OVERHEAD = 8  # bytes on the wire for a body's byte: a chunk of one byte takes six

# What a connection is waiting for. Plain numbers, because looking up a member of an Enum costs every request time.
IDLE = 0  # the first byte of a further request
HEADER = 1
BODY = 2
ANSWER = 3  # the application; nothing is being received
REFUSED = 4  # the client has had its last answer; what it still sends is thrown away


class Clock:
    """The loop's time in seconds as of the server's last tick, a tenth of a second ago at most."""

    now = 0.0


class RefusedError(Exception):
    """Stops the parser in the middle of a request that has been refused."""


class LimitedConnection:
    """The deadlines and byte limits of `Limits` for one connection.

    Deadlines are plain numbers, compared by the server's ten ticks a second, so that a request costs no timer.

    Args:
        limits: what one client may take.
        clock: the server's.
    """

    transport: asyncio.Transport

    def __init__(self, limits: "Limits", clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._phase = HEADER
        self._deadline = math.inf  # for the phase, in the loop's seconds
        self._write_deadline = math.inf  # for an answer that the client does not read
        self._close_deadline = math.inf  # for a connection that is closed but not gone
        self._received = 0  # bytes on the wire in this phase
        self._body_bytes = 0

    def _begin(self) -> None:
        self._deadline = self._clock.now + min(self._limits.header_seconds, self._limits.idle_seconds)

    def _enter(self, phase: int, seconds: float) -> None:
        self._phase = phase
        self._deadline = self._clock.now + seconds
        self._received = 0
        self._body_bytes = 0

    def _takes(self, data: bytes) -> bool:
        """Whether what has come is to be parsed: it is counted then, and thrown away otherwise."""
        if self._phase == REFUSED or self.transport.is_closing():
            self._throw_away(data)
            return False
        if self._phase == IDLE:
            self._enter(HEADER, self._limits.header_seconds)
        self._received += len(data)
        return True

    def _throw_away(self, data: bytes) -> None:
        """A refused client may finish its sentence, so that it listens; it may not go on for ever."""
        self._received += len(data)
        if self._received > _LINGER_BYTES:
            self.transport.abort()

    def _check_received(self) -> None:
        limits = self._limits
        if self._phase == HEADER and self._received > limits.header_bytes:
            self._refuse(431)
        elif self._phase == BODY and self._received > limits.header_bytes + _CHUNK_OVERHEAD * limits.body_bytes:
            # Chunk extensions and trailers are no part of the body and would be free otherwise.
            self._refuse(413)

    def _count_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse(413)
            raise RefusedError

    def _stop_writing(self) -> None:
        """The client does not read: it has the time that it has for a body."""
        self._write_deadline = self._clock.now + self._limits.body_seconds

    def _refuse(self, status: int) -> None:
        """Answer with a status where the client still waits for one, and close; once for a connection."""
        raise NotImplementedError

    def _say_last(self, last: bytes) -> None:
        """Send the last answer, and give the client time to read it."""
        self.transport.write(last)
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


def refusal(status: int) -> bytes:
    """An answer that refuses a client before anybody has looked at what it wants.

    Args:
        status: the status.
    """
    return STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n"
