"""Which user is at the other end of a connection over the loopback interface (Linux: sock_diag(7), proc(5)).

The kernel is asked for the client's own socket by its two addresses. While the server holds its end of the connection,
no other socket can have them.
"""

import contextlib
import socket
import struct
import sys
import time
from pathlib import Path

from rolekey.http_protocol.messages import Connection

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBBI")  # struct inet_diag_req_v2, up to the addresses
_ADDRESSES = struct.Struct("!HH16s16s")  # struct inet_diag_sockid, without interface and cookie
_ANSWER = struct.Struct("=4x48x12xII")  # struct inet_diag_msg: user and inode
_MAPPED = bytes(10) + b"\xff\xff"  # an address of IPv4 among those of IPv6
_OVERFLOW_USER = Path("/proc/sys/kernel/overflowuid")
_USER_MAP = Path("/proc/self/uid_map")
_ALL_USERS = ["0", "0", "4294967295"]
_PROC_FILES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def ask_sock_diag(connection: Connection) -> int | None:
    """Asks over netlink for one socket: microseconds, however many there are.

    Args:
        connection: as for peers.Lookup.
    """
    if sys.platform != "linux":
        return None
    family, remote, local = _addresses(connection)
    ends = _ADDRESSES.pack(connection.remote[1], connection.local[1], remote, local)
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + ends + bytes(4) + _NO_COOKIE
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.setblocking(False)  # it answers before send() returns
            kernel.send(header + request)
            answer = kernel.recv(8192)
    except OSError:  # no such family of sockets in the kernel
        return None
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None
    user, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    # A socket that its process has closed belongs to nobody: the kernel says 0, which is root.
    return user if inode else None


def _addresses(connection: Connection) -> tuple[int, bytes, bytes]:
    family = socket.AF_INET6 if ":" in connection.remote[0] else socket.AF_INET
    return family, socket.inet_pton(family, connection.remote[0]), socket.inet_pton(family, connection.local[0])


class ProcNet:
    """Reads the kernel's tables of TCP sockets, where sock_diag is missing: milliseconds, for all sockets at once."""

    def __init__(self) -> None:
        self._users: dict[tuple[str, str], int] = {}
        self._read = -1.0

    def __call__(self, connection: Connection) -> int | None:
        """The number of the client's user."""
        # What was read before the connection was there may be about an older one with the same addresses.
        if self._read <= connection.accepted:
            self._read = time.monotonic()
            self._users = _read_tables()
        _, remote, local = _addresses(connection)
        # A client may use a socket of IPv6 for an address of IPv4.
        for prefix in (b"", _MAPPED):
            ends = (_row(prefix + remote, connection.remote[1]), _row(prefix + local, connection.local[1]))
            if ends in self._users:
                return self._users[ends]
        return None


def _row(address: bytes, port: int) -> str:
    """An address and a port as the tables have them: words of the machine's own byte order."""
    return "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", address)) + f":{port:04X}"


def _read_tables() -> dict[tuple[str, str], int]:
    users = {}
    for path in _PROC_FILES:
        with contextlib.suppress(OSError):
            for line in path.read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[9] != "0":  # the inode, as above
                    users[fields[1], fields[2]] = int(fields[7])
    return users


def stands_for_others(user: int) -> bool:
    """Whether a user's number also stands for all those whom this process's user namespace has no number for.

    Args:
        user: the number.
    """
    try:
        overflow = int(_OVERFLOW_USER.read_text("ascii"))
        return user == overflow and _USER_MAP.read_text("ascii").split() != _ALL_USERS
    except OSError:
        return False
