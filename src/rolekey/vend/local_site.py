"""Everything that is served on the loopback interface, and who may ask for it there.

A web page can make a browser send requests to this machine, and a proxy can pass on those of others. The first calls
this machine by a name of its own (DNS rebinding), the second says so in X-Forwarded-For.
"""

from collections.abc import Iterable

from rolekey.errors import ConfigurationError
from rolekey.http_protocol.messages import Request, Responder, answer
from rolekey.vend.peers import PeerCheck

#: Why the metadata service is not served.
NO_METADATA = (
    "this system does not tell whose process asks; rolekey serve --any-user lets every user of this machine ask"
)
_ALWAYS = ("127.0.0.1", "localhost", "::1")


class AllowedHosts:
    """The hosts by which a client may call this machine.

    Args:
        more: names and addresses besides those of the loopback interface, without a port.
        port: the one by which it is usually called; others are allowed, too.

    Raises:
        ConfigurationError: one of them is none.
    """

    def __init__(self, more: Iterable[str] = (), port: int = 0) -> None:
        self._hosts = frozenset(_normal(host) for host in (*_ALWAYS, *more))
        self._usual = self._hosts | {b"%b:%d" % (host, port) for host in self._hosts}

    def __contains__(self, host: bytes) -> bool:
        if host in self._usual:
            return True
        name, colon, port = host.rpartition(b":")
        if not colon or (port and not port.isdigit()):
            name = host
        return name.lower() in self._hosts


def _normal(host: str) -> bytes:
    bare = host.removeprefix("[").removesuffix("]")
    if not bare.isascii() or not bare or any(c in "/@, []?#%" or not c.isprintable() for c in bare):
        raise ConfigurationError(f"{host!r} is no host name", hint="write it as clients do, without scheme and port")
    if ":" in bare:
        if bare.count(":") == 1:
            raise ConfigurationError(f"{host} names a port", hint="leave the port away: a host is allowed with any")
        bare = f"[{bare}]"
    return bare.lower().encode("ascii")


def no_metadata(_request: Request) -> bytes:
    """A responder in place of the metadata service: it says why there is none."""
    return answer(404, b"there is no metadata service: %b\n" % NO_METADATA.encode())


class LocalSite:
    """The endpoints of the loopback interface.

    Args:
        metadata: answers below /latest/; no_metadata() where it is not served.
        container: answers below /creds/; it asks for a token itself.
        health: answers everything else.
        hosts: the hosts by which it may be called.
        peers: who may use the metadata service; None lets everybody.
    """

    def __init__(
        self,
        *,
        metadata: Responder,
        container: Responder,
        health: Responder,
        hosts: AllowedHosts,
        peers: PeerCheck | None,
    ) -> None:
        self._metadata = metadata
        self._container = container
        self._health = health
        self._hosts = hosts
        self._peers = peers

    def respond(self, request: Request) -> bytes:
        """Answer a request for any path.

        Args:
            request: the request.
        """
        if request.headers.get(b"x-forwarded-for"):
            return answer(400, b"unable to process requests with X-Forwarded-For header\n")
        if request.host not in self._hosts:
            return answer(403, b"this host is not served here; rolekey serve --allow-host allows more\n")
        if request.path.startswith(b"/latest/"):
            if self._peers is not None and not self._peers.admits(request.connection):
                return answer(403, b"only processes of the user who started rolekey may ask\n")
            return self._metadata(request)
        if request.path.startswith(b"/creds/"):
            return self._container(request)
        return self._health(request)
