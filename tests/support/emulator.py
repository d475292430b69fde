"""The emulator in a thread, and the Options that call it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rolekey import http_server
from rolekey.emulator import Configuration, Emulator, for_certificate_authority
from rolekey.emulator.app import utc_now
from rolekey.emulator.configuration import DEFAULT_PROFILE_ARN, DEFAULT_ROLE_ARN, DEFAULT_TRUST_ANCHOR_ARN
from rolekey.emulator.session import Session, TemporaryCredentials, mint_random
from rolekey.options import Options

LIMITS = http_server.Limits(header_bytes=256 * 1024)


@dataclass(frozen=True)
class RunningEmulator:
    """Where it is, what it knows, and what it was asked.

    Args:
        url: of its endpoint.
        trust_anchor_arn, profile_arn, role_arn: of its default set-up.
        requests: what each request came to, as the requests file has it.
        granted: the access key ids that it gave out.
    """

    url: str
    trust_anchor_arn: str = DEFAULT_TRUST_ANCHOR_ARN
    profile_arn: str = DEFAULT_PROFILE_ARN
    role_arn: str = DEFAULT_ROLE_ARN
    requests: list[dict[str, Any]] = field(default_factory=list)
    granted: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> list[str]:
        """As words of a command line."""
        return [
            *("--endpoint", self.url),
            *("--trust-anchor-arn", self.trust_anchor_arn),
            *("--profile-arn", self.profile_arn),
            *("--role-arn", self.role_arn),
        ]

    def options(self, **more: Any) -> Options:
        """As Options, with whatever else a test needs."""
        arns = {
            "trust_anchor_arn": self.trust_anchor_arn,
            "profile_arn": self.profile_arn,
            "role_arn": self.role_arn,
            "endpoint": self.url,
        }
        return Options(**(arns | more))


@contextmanager
def running_emulator(
    trust: Path | Configuration,
    *,
    clock: Callable[[], datetime] = utc_now,
    tls: tuple[Path, Path] | None = None,
) -> Iterator[RunningEmulator]:
    """Run the emulator for the length of a with block.

    Args:
        trust: a CA's certificate file, for the default set-up, or a whole configuration.
        clock: the emulator's time.
        tls: the server's certificate and key files.
    """
    configuration = for_certificate_authority(trust) if isinstance(trust, Path) else trust
    context = http_server.tls_context(*tls) if tls else None
    requests: list[dict[str, Any]] = []
    granted: list[str] = []

    def mint(session: Session) -> TemporaryCredentials:
        credentials = mint_random(session)
        granted.append(credentials.access_key_id)
        return credentials

    emulator = Emulator(configuration, clock=clock, mint=mint, record=requests.append)
    with http_server.running(emulator, limits=LIMITS, tls=context) as url:
        yield RunningEmulator(url, requests=requests, granted=granted)
