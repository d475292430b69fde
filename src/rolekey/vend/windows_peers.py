"""Which user is at the other end of a connection over the loopback interface, on Windows (iphlpapi).

The tables of GetExtendedTcpTable name the process that made a socket. Its number alone says little: the process may
have left its socket to a child and ended, and Windows gives the number to the next process, whoever starts that one.
"""

import socket
import struct
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from rolekey.http_protocol.messages import Connection

ESTABLISHED = 5  # MIB_TCP_STATE_ESTAB
#: How far apart two readings of Windows' clock at one time may be, in its units: a tick, which is 1/64 of a second.
TICK = 156_250
_UNITS = 10_000_000  # of 100 ns, in a second
_EPOCH = 11_644_473_600  # seconds from 1601, where Windows' time begins, to 1970
_COUNT = struct.Struct("<I4x")  # of the rows that follow
_ROW = struct.Struct("<I4s2s2x4s2s2xIQ128x")  # MIB_TCPROW_OWNER_MODULE
_ROW6 = struct.Struct("<16s4x2s2x16s4x2s2xIIQ128x")  # MIB_TCP6ROW_OWNER_MODULE
_MAPPED = bytes(10) + b"\xff\xff"  # an address of IPv4 among those of IPv6


@dataclass(frozen=True)
class Process:
    """A process that is held open, so that no other one gets its number.

    Args:
        user: the bytes of its user's SID.
        started: in Windows' time: units of 100 ns since 1601.
    """

    user: bytes
    started: int


class System(Protocol):
    """What is asked of Windows."""

    def table(self, family: int) -> bytes:
        """TCP_TABLE_OWNER_MODULE_CONNECTIONS of GetExtendedTcpTable(); empty where there is none.

        Args:
            family: AF_INET or AF_INET6.
        """
        ...

    def process(self, number: int) -> AbstractContextManager[Process | None]:
        """A process, held open for the length of a with block; None where it is not ours to look at.

        Args:
            number: its identifier.
        """
        ...


@dataclass(frozen=True)
class _Row:
    """A connection as a table has it.

    Args:
        state: ESTABLISHED, or another.
        local, remote: both ends: the address and the port, as on the wire.
        owner: the number of the process that made the socket.
        made: when, in Windows' time; 0 where it is not told.
    """

    state: int
    local: tuple[bytes, bytes]
    remote: tuple[bytes, bytes]
    owner: int
    made: int


class OwnerTables:
    """A peers.Lookup.

    The process that a table names is taken for the client's only if, held open, it is older than the connection, and
    if the table says the same of the connection after that.

    Args:
        system: is asked.
    """

    def __init__(self, system: System) -> None:
        self._system = system

    def __call__(self, connection: Connection) -> bytes | None:
        """The bytes of the SID of the client's user."""
        row = self._find(connection)
        if row is None or not row.owner:
            return None
        with self._system.process(row.owner) as process:
            if process is None or process.started > (row.made or _accepted(connection)) + TICK:
                return None
            return process.user if self._find(connection) == row else None

    def _find(self, connection: Connection) -> _Row | None:
        """The client's own end of a connection that both ends hold open."""
        try:
            family = socket.AF_INET6 if ":" in connection.remote[0] else socket.AF_INET
            remote, local = (socket.inet_pton(family, end[0]) for end in (connection.remote, connection.local))
        except OSError:
            return None
        ports = [end[1].to_bytes(2, "big") for end in (connection.remote, connection.local)]
        found = self._rows(family, (remote, ports[0]), (local, ports[1]))
        if family == socket.AF_INET:
            # A client may use a socket of IPv6 for an address of IPv4.
            found += self._rows(socket.AF_INET6, (_MAPPED + remote, ports[0]), (_MAPPED + local, ports[1]))
        return found[0] if len(found) == 1 else None

    def _rows(self, family: int, local: tuple[bytes, bytes], remote: tuple[bytes, bytes]) -> list[_Row]:
        rows = _read(self._system.table(family), family)
        return [row for row in rows if (row.state, row.local, row.remote) == (ESTABLISHED, local, remote)]


def _read(table: bytes, family: int) -> list[_Row]:
    """The rows of a table; none of one that is not whole."""
    form = _ROW6 if family == socket.AF_INET6 else _ROW
    if len(table) < _COUNT.size:
        return []
    (count,) = _COUNT.unpack_from(table)
    end = _COUNT.size + count * form.size
    if len(table) < end:
        return []
    rows = []
    for fields in form.iter_unpack(table[_COUNT.size : end]):
        if family == socket.AF_INET6:
            local, local_port, remote, remote_port, state, owner, made = fields
        else:
            state, local, local_port, remote, remote_port, owner, made = fields
        rows.append(_Row(state, (local, local_port), (remote, remote_port), owner, made))
    return rows


def _accepted(connection: Connection) -> int:
    """When a connection was accepted, in Windows' time."""
    seconds = time.time() - (time.monotonic() - connection.accepted)
    return int((seconds + _EPOCH) * _UNITS)
