"""Sockets that have a path in place of an address (unix(7)): a TPM's, pcscd's, the service manager's."""

import errno
import socket
import sys


def local_socket(*, datagram: bool = False) -> socket.socket:
    """A socket that can be connected to a path, and that no child inherits.

    Args:
        datagram: it keeps messages apart; else it is a stream.

    Raises:
        OSError: this system has none.
    """
    if sys.platform == "win32":
        raise OSError(errno.EAFNOSUPPORT, "there are no UNIX sockets on Windows")
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM)
