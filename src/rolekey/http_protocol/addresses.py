"""Listening sockets of this machine's addresses."""

import errno
import socket
import sys

from rolekey.errors import ConfigurationError, ListenError

_MAXIMUM_PORT = 65535
_MAXIMUM_HOPS = 255
_BACKLOG = 1024  # connections that the kernel holds until they are accepted
_TRIES = 20  # for a port that is free at both loopback addresses
# Windows forbids a port that another program has for itself, too.
_IN_USE = (errno.EADDRINUSE, errno.EACCES)
if sys.platform == "win32":
    _FORBIDDEN_HINT = (
        "choose another port, or 0 for any free one; another program has this one, or Windows keeps it"
        " (`netsh interface ipv4 show excludedportrange tcp`)"
    )
else:
    _FORBIDDEN_HINT = "choose a port above 1023, or 0 for any free one"


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Args:
        host: an address or name of this machine.
        port: 0 to 65535; 0 takes any free port.

    Returns:
        The socket; clients may connect to it from now on.

    Raises:
        ListenError: the address is not this machine's, is in use, or may not be used.
    """
    if not 0 <= port <= _MAXIMUM_PORT:
        # getaddrinfo would take it modulo 65536.
        raise _listen_error(host, port, ValueError("not a port number"))
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise _listen_error(host, port, error) from error
    try:
        if sys.platform == "win32":
            # There another program could listen on the same port, and get what is meant for this one.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise _listen_error(host, port, error) from error
    return listener


def _listen_error(host: str, port: int, error: Exception) -> ListenError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    hint = "choose another address or port (port 0 takes any free one)"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        reason = "Address already in use"  # Windows takes a long sentence, in its user's language
    elif isinstance(error, PermissionError):
        hint = _FORBIDDEN_HINT
    elif isinstance(error, socket.gaierror):
        hint = "name an address of this machine, such as 127.0.0.1"
    return ListenError(f"cannot listen on {host} port {port}: {reason}", hint=hint)


def bind_loopback(port: int) -> list[socket.socket]:
    """Listening TCP sockets of 127.0.0.1 and, where there is one, of ::1, with the same port.

    Args:
        port: 0 to 65535; 0 takes any port that is free at both.

    Returns:
        One or two sockets, that of 127.0.0.1 first.

    Raises:
        ListenError: the port is in use, or may not be used.
    """
    for _ in range(_TRIES):
        first = bind("127.0.0.1", port)
        try:
            return [first, bind("::1", first.getsockname()[1])]
        except ListenError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in _IN_USE:
                return [first]  # a machine without IPv6
            first.close()
            if port:
                raise
    raise ListenError("no port is free at both 127.0.0.1 and ::1", hint="choose a port with --port")


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can connect to a socket.

    Args:
        listener: a socket that is bound, such as one that systemd opened.
    """
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    host: str = listener.getsockname()[0]
    return host == "::1" or host.removeprefix("::ffff:").startswith("127.")


def set_hop_limit(listener: socket.socket, hops: int) -> None:
    """Let the packets of a socket, and of every connection that it accepts, be forwarded so many times and no more.

    Args:
        listener: a listening socket.
        hops: 1 to 255; 1 does not leave the machine.

    Raises:
        ConfigurationError: the number is none, or the system refuses it.
    """
    hint = "choose a number from 1 to 255; 1 keeps answers on this machine"
    if not 1 <= hops <= _MAXIMUM_HOPS:
        raise ConfigurationError(f"{hops} is no hop limit", hint=hint)
    try:
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        else:
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
    except OSError as error:
        raise ConfigurationError(f"the hop limit cannot be {hops}: {error.strerror}", hint=hint) from error


def keep_hop_limit(listener: socket.socket, accepted: socket.socket) -> None:
    """Give a connection the hop limit of the socket that accepted it; elsewhere than on Windows it has it.

    Args:
        listener: the socket.
        accepted: what it accepted.
    """
    if sys.platform == "win32":
        v6 = listener.family == socket.AF_INET6
        option = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if v6 else (socket.IPPROTO_IP, socket.IP_TTL)
        accepted.setsockopt(*option, listener.getsockopt(*option))


def url_of(host: str, port: int, *, tls: bool) -> str:
    """The base URL of an address, without a final slash.

    Args:
        host: a name or an address; one of IPv6 is put in brackets.
        port: the port.
        tls: whether it speaks TLS.
    """
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
