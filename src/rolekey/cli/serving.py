"""What `rolekey serve` listens on and where its token is: from options to sockets."""

import os
import socket
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rolekey.base.local_sockets import local_socket
from rolekey.cached_answer import cache_directory
from rolekey.errors import ConfigurationError, ListenError
from rolekey.http_protocol.addresses import bind, bind_loopback, is_loopback, set_hop_limit, url_of
from rolekey.http_server import tls_context
from rolekey.value import Value
from rolekey.vend.token_file import make_token_file

DEFAULT_PORT = 9911
DEFAULT_HOP_LIMIT = 64
_PORTS = range(65536)
# What includes, or is, an address of the loopback interface, where a socket with the same port is open already.
_NOT_TO_LISTEN = ("0.0.0.0", "::", "127.0.0.1", "::1", "localhost")  # noqa: S104 - they are refused
_FIRST_SYSTEMD_SOCKET = 3


class ServeOptions(Value):
    """What concerns the endpoints on the command line.

    Args:
        port: of the loopback interface (and of `listen`); 0 is any.
        hop_limit: of every packet.
        listen: an address beyond the loopback interface, or None.
        allowed_hosts: names by which this machine may be called.
        any_user: every user of this machine may use the metadata service.
        token_file: the container endpoint's, or None for one that is made anew.
        tls_certificate, tls_key: PEM files for `listen`, or None.
        insecure_http: `listen` may do without TLS.
    """

    port: int
    hop_limit: int
    listen: str | None
    allowed_hosts: tuple[str, ...]
    any_user: bool
    token_file: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    insecure_http: bool

    def check(self) -> None:
        """Refuse what cannot be meant, before a PIN is asked for.

        Raises:
            ConfigurationError: with the option's name.
        """
        if self.port not in _PORTS:
            raise ConfigurationError("--port is no port", hint="choose 0 (any that is free) to 65535")
        if not 1 <= self.hop_limit <= 255:
            raise ConfigurationError("--hop-limit is out of range", hint="choose 1 to 255; 1 stays on this machine")
        if self.listen is None:
            if self.tls_certificate or self.tls_key or self.insecure_http:
                raise ConfigurationError(
                    "--tls-certificate, --tls-key and --insecure-http are for --listen",
                    hint="leave them out: SDKs speak plain HTTP on the loopback interface",
                )
            return
        if self.listen in _NOT_TO_LISTEN:
            raise ConfigurationError(
                f"--listen {self.listen} includes the loopback interface, which has endpoints of its own",
                hint="name the address of one interface, by which other machines reach this one",
            )
        if self.tls_certificate is None and not self.insecure_http:
            raise ConfigurationError(
                "--listen hands credentials out over the network, and neither TLS nor --insecure-http is asked for",
                hint="give --tls-certificate FILE and --tls-key FILE",
            )
        if self.token_file is None:
            raise ConfigurationError(
                "--listen wants a token that clients know",
                hint="put a random one into a file that only you may read, and give --token-file FILE on both sides",
            )

    def tls(self) -> ssl.SSLContext | None:
        """The TLS settings of `listen`, or None.

        Raises:
            ConfigurationError: the files cannot be used.
        """
        return tls_context(self.tls_certificate, self.tls_key) if self.tls_certificate else None


class Sockets(Value):
    """Listening sockets.

    Args:
        loopback: those that only this machine reaches; the first one's port is announced.
        network: the others.
        secured: whether the others speak TLS.
    """

    loopback: tuple[socket.socket, ...]
    network: tuple[socket.socket, ...]
    secured: bool

    @property
    def url(self) -> str:
        """Where this machine's programs ask."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """The base URL of each socket."""
        plain = [url_of(*listener.getsockname()[:2], tls=False) for listener in self.loopback]
        return plain + [url_of(*listener.getsockname()[:2], tls=self.secured) for listener in self.network]


def open_sockets(options: ServeOptions, environment: Mapping[str, str]) -> Sockets:
    """The sockets that systemd opened, or new ones.

    Args:
        options: checked.
        environment: the process's.

    Raises:
        ListenError: an address, or what systemd opened, cannot be used.
        ConfigurationError: one of systemd's is open to others, and --listen was not given.
    """
    given = _systemd_sockets(environment)
    if given:
        loopback = tuple(s for s in given if is_loopback(s))
        network = tuple(s for s in given if not is_loopback(s))
        if network and options.listen is None:
            raise ConfigurationError(
                "systemd's socket is open to other machines",
                hint="listen on 127.0.0.1 in the socket unit, or give --listen with TLS and --token-file",
            )
    else:
        loopback = tuple(bind_loopback(options.port))
        network = (bind(options.listen, options.port),) if options.listen else ()
    for listener in (*loopback, *network):
        set_hop_limit(listener, options.hop_limit)
    return Sockets(loopback, network, secured=options.tls_certificate is not None)


def _systemd_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """What sd_listen_fds(3) describes; nothing where there is no systemd."""
    if sys.platform == "win32":
        return []
    if environment.get("LISTEN_PID") != str(os.getpid()) or not environment.get("LISTEN_FDS", "").isdigit():
        return []
    count = int(environment["LISTEN_FDS"])
    return [_adopted(_FIRST_SYSTEMD_SOCKET + number) for number in range(count)]


def _adopted(number: int) -> socket.socket:
    """The socket that is open under a number; no child inherits it from now on."""
    hint = "write ListenStream=127.0.0.1:9911 into the socket unit, and no Accept="
    try:
        os.set_inheritable(number, False)
        adopted = socket.socket(fileno=number)
        listens = adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError as error:
        reason = f"systemd's file descriptor {number} cannot be used: {error.strerror}"
        raise ListenError(reason, hint=hint) from error
    if not listens or adopted.family not in (socket.AF_INET, socket.AF_INET6):
        raise ListenError(f"systemd's file descriptor {number} is no listening TCP socket", hint=hint)
    return adopted


def token_file_of(options: ServeOptions, port: int, environment: Mapping[str, str]) -> Path:
    """The file with the container endpoint's token: the named one, or a new one beside the cache.

    Args:
        options: may name it.
        port: that is listened on.
        environment: the process's.

    Raises:
        ConfigurationError: none can be made.
    """
    if options.token_file is not None:
        return options.token_file
    directory = cache_directory(environment)
    if directory is None:
        raise ConfigurationError("there is no directory for a token", hint="name a file with --token-file FILE")
    path = Path(directory, f"serve-{port}.token")
    make_token_file(path)
    return path


def is_credential(path: Path, environment: Mapping[str, str]) -> bool:
    """Whether a file is one of the credentials that systemd gave this service.

    Args:
        path: the file.
        environment: the process's.
    """
    directory = environment.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and path.parent == Path(directory or "/")


def notify_systemd(text: str, environment: Mapping[str, str]) -> None:
    """Tell the service manager, as sd_notify(3) describes; nobody hears it where there is none.

    Args:
        text: such as ``READY=1``.
        environment: the process's.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), local_socket(datagram=True) as manager:
        manager.connect("\0" + address[1:] if address[0] == "@" else address)
        manager.send(text.encode())
