"""Whether the process at the other end of a connection over the loopback interface is one of the same user.

Linux and Windows tell it (linux_peers.py, windows_peers.py); macOS does not.
"""

import os
import socket
import sys
from collections.abc import Callable, Sequence

from rolekey.http_protocol.messages import Connection

#: A user's number, or on Windows the bytes of the user's SID.
User = int | bytes
#: The user at the other end of a connection that was accepted and is not closed; None where it cannot be told.
Lookup = Callable[[Connection], User | None]


class PeerCheck:
    """Whether the client of a connection is the right user; asked once for each connection.

    Args:
        lookup: finds the client's user.
        user: the user who may ask.
    """

    def __init__(self, lookup: Lookup, user: User) -> None:
        self._lookup = lookup
        self._user = user

    def admits(self, connection: Connection) -> bool:
        """Whether it is. A user who cannot be told is not.

        Args:
            connection: one that was accepted and is not closed.
        """
        if connection.admitted is None:
            connection.admitted = bool(connection.remote[0]) and self._lookup(connection) == self._user
        return connection.admitted


def check_for_own_user() -> PeerCheck | None:
    """The check that lets this process's user ask and nobody else; it has been tried on a connection of this process.

    Returns:
        The check; None where this system does not tell users apart.
    """
    user, lookups = _ways()
    if user is None:
        return None
    return next((PeerCheck(lookup, user) for lookup in lookups if _try(lookup) == user), None)


def _ways() -> tuple[User | None, Sequence[Lookup]]:
    """Who this process's user is, and the lookups of this system, the best one first."""
    if sys.platform == "win32":
        from rolekey.vend.windows_peers import OwnerTables  # noqa: PLC0415 - Windows only
        from rolekey.vend.windows_system import WindowsSystem  # noqa: PLC0415 - Windows only

        system = WindowsSystem()
        return system.own_user(), (OwnerTables(system),)
    if sys.platform == "linux":
        from rolekey.vend.linux_peers import ProcNet, ask_sock_diag, stands_for_others  # noqa: PLC0415 - Linux only

        user = os.geteuid()
        return None if stands_for_others(user) else user, (ask_sock_diag, ProcNet())
    return None, ()


def _try(lookup: Lookup) -> User | None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            client.sendall(b"\0")  # as every client has when it is looked for; Wine does not know its socket before
            return lookup(Connection(client.getpeername(), client.getsockname()))
