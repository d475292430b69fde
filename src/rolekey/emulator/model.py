"""What an account has set up: trust anchors, profiles and roles (IAM Roles Anywhere's control plane)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509

from rolekey.emulator.certificates import Certificate
from rolekey.emulator.trust_policy import PERMISSIVE, TrustPolicy

MINIMUM_DURATION = 900  # seconds
MAXIMUM_DURATION = 43200  # seconds
_ARN = re.compile(r"arn:(aws(?:-[a-z-]+)?):([a-z]+):([a-z0-9-]*):(\d{12}):(.+)", re.DOTALL)


class EmulatorConfigurationError(ValueError):
    """The emulator cannot be set up as asked; the text names the file and the key."""


@dataclass(frozen=True)
class ARN:
    """An Amazon resource name in its parts.

    Args:
        partition: such as ``aws`` or ``aws-cn``.
        service: ``rolesanywhere`` or ``iam``.
        region: empty for a role.
        account: 12 digits.
        resource: what follows the account, such as ``role/path/name``.
    """

    partition: str
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> "ARN | None":
        """Take an ARN apart.

        Args:
            text: the ARN.

        Returns:
            Its parts, or None when it is none.
        """
        match = _ARN.fullmatch(text)
        return cls(*match.groups()) if match else None


@dataclass(frozen=True)
class TrustAnchor:
    """Whose certificates are believed.

    Args:
        arn: its ARN.
        certificates: one or two CA certificates, roots or intermediates.
        crls: imported certificate revocation lists.
        enabled: whether it may be used.
    """

    arn: str
    certificates: tuple[Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    enabled: bool = True


@dataclass(frozen=True)
class Profile:
    """Which roles may be asked for, and how.

    Args:
        arn: its ARN.
        role_arns: the roles.
        duration_seconds: 900 to 43200.
        accept_role_session_name: whether a request may name its session.
        enabled: whether it may be used.
    """

    arn: str
    role_arns: tuple[str, ...]
    duration_seconds: int = 3600
    accept_role_session_name: bool = False
    enabled: bool = True


@dataclass(frozen=True)
class Role:
    """An IAM role.

    Args:
        arn: its ARN.
        max_session_duration: seconds.
        trust_policy: who may assume it; a permissive one unless configured.
    """

    arn: str
    max_session_duration: int = 3600
    trust_policy: TrustPolicy = PERMISSIVE


@dataclass(frozen=True)
class Configuration:
    """Everything that is set up, by ARN, in the order of the file.

    Args:
        trust_anchors: by ARN.
        profiles: by ARN.
        roles: by ARN; a role that a profile lists and that is not here has the defaults of `Role`.
    """

    trust_anchors: Mapping[str, TrustAnchor]
    profiles: Mapping[str, Profile]
    roles: Mapping[str, Role] = field(default_factory=dict)
