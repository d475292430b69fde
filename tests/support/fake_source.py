"""Sources of credentials for the local endpoints, and a server with them. `python -m support.fake_source` serves them.

Nothing here signs or asks anybody: the credentials are made up, and a test decides when there are none.
"""

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rolekey.credentials import Credentials
from rolekey.http_protocol.addresses import bind_loopback
from rolekey.http_server import Limits, Listener, ResponderServer
from rolekey.secret import Secret
from rolekey.vend.container import ContainerCredentials
from rolekey.vend.health import Health
from rolekey.vend.imds import KEY_BYTES, InstanceMetadata, TokenMint
from rolekey.vend.local_site import AllowedHosts, LocalSite
from rolekey.vend.peers import PeerCheck, check_for_own_user

TOKEN = "a-token-of-the-tests"
# Those of `rolekey serve`.
LIMITS = Limits(header_bytes=16 * 1024, header_seconds=5.0, body_bytes=4096, body_seconds=5.0, connections=1200)


def make_credentials(number: int = 0) -> Credentials:
    """Credentials for an hour, as long as real ones.

    Args:
        number: of the set; it is in every field.
    """
    return Credentials(
        access_key_id=f"ASIAEXAMPLEEXAMPLE{number:02}",
        secret_access_key=f"example/secret+access/key-{number:014}",
        session_token=f"{'IQoJb3JpZ2luX2VjE' * 60}{number:02}",
        expiration=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
    )


@dataclass
class FakeMetrics:
    """A source's numbers."""

    expires: float | None = 1_900_000_000.0
    certificate_expires: float | None = 1_950_000_000.0
    refreshes: int = 3
    failures: int = 1
    signatures: int = 4
    seconds: float = 0.25
    last_success: float | None = 1_800_000_000.0


@dataclass
class FakeSource:
    """A source that has what a test gives it."""

    name: str = "prod"
    role_name: str = "reader"
    credentials: Credentials | None = field(default_factory=make_credentials)
    failure: tuple[str, str] = ("TransportError", "no answer from the service")
    numbers: FakeMetrics = field(default_factory=FakeMetrics)

    def current(self) -> Credentials | None:
        """What the test gave."""
        return self.credentials

    def problem(self) -> tuple[str, str]:
        """What the test gave."""
        return self.failure

    def metrics(self) -> FakeMetrics:
        """What the test gave."""
        return self.numbers


def make_site(
    sources: Sequence[FakeSource], *, hosts: Sequence[str] = (), port: int = 0, peers: PeerCheck | None = None
) -> LocalSite:
    """Every endpoint of the loopback interface.

    Args:
        sources: the identities.
        hosts: hosts to allow besides those of the loopback interface.
        port: the port.
        peers: who may use the metadata service; None lets everybody.
    """
    return LocalSite(
        metadata=InstanceMetadata(sources, TokenMint(bytes(KEY_BYTES), time.monotonic)).respond,
        container=ContainerCredentials(sources, lambda: Secret(TOKEN)).respond,
        health=Health(sources).respond,
        hosts=AllowedHosts(hosts, port),
        peers=peers,
    )


@contextlib.contextmanager
def serving(*sources: FakeSource, limits: Limits = LIMITS) -> Iterator[tuple[str, int]]:
    """Serve sources at 127.0.0.1 and ::1 in a thread, for this user alone.

    Args:
        sources: the identities; one if there are none.
        limits: what one client may take.

    Yields:
        Host and port.
    """
    sockets = bind_loopback(0)
    address = sockets[0].getsockname()
    respond = make_site(sources or [FakeSource()], port=address[1], peers=check_for_own_user()).respond
    server = ResponderServer([Listener(found, respond, limits) for found in sockets])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.stop()
        thread.join()


def main() -> None:
    """Serve one made-up identity until SIGTERM; the port goes to stdout, the token to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token-file", type=Path)
    arguments = parser.parse_args()
    if arguments.token_file:
        arguments.token_file.write_text(TOKEN)
    sockets = bind_loopback(arguments.port)
    port = sockets[0].getsockname()[1]
    site = make_site([FakeSource()], port=port, peers=check_for_own_user())
    server = ResponderServer([Listener(found, site.respond, LIMITS) for found in sockets])
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    server.run()


if __name__ == "__main__":
    main()
