"""What the local endpoints hand out: one identity's credentials, kept fresh by somebody else."""

from typing import Protocol

from rolekey.credentials import Credentials


class SourceMetrics(Protocol):
    """How one identity's credentials have fared."""

    @property
    def expires(self) -> float | None:
        """When the credentials expire, in seconds since 1970; None where there are none."""

    @property
    def certificate_expires(self) -> float | None:
        """When the certificate expires, as above; None where that is not known."""

    @property
    def refreshes(self) -> int:
        """CreateSessions that gave credentials."""

    @property
    def failures(self) -> int:
        """CreateSessions that did not."""

    @property
    def signatures(self) -> int:
        """Signatures that were asked of the key."""

    @property
    def seconds(self) -> float:
        """How long the last CreateSession took."""

    @property
    def last_success(self) -> float | None:
        """When the last one that gave credentials ended, in seconds since 1970; None where none did."""


class Source(Protocol):
    """One identity."""

    @property
    def name(self) -> str:
        """What the container endpoint calls it."""

    @property
    def role_name(self) -> str:
        """The last part of its role's ARN, which is what the instance metadata service calls it."""

    def current(self) -> Credentials | None:
        """Its credentials, the same object until there are new ones; None where none are valid. Never waits."""

    def problem(self) -> tuple[str, str]:
        """A code and a message that say why there are none; printable."""

    def metrics(self) -> SourceMetrics:
        """How it has fared so far."""
