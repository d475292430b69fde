"""The session that is given out: credentials and the 201 document (AWS authentication-create-session)."""

import hashlib
import secrets
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rolekey.emulator.model import ARN

_PACKED_POLICY_BYTES = 2048  # an estimate: STS does not tell how it packs tags


@dataclass(frozen=True)
class Session:
    """A session that has been granted.

    Args:
        role_arn: the role.
        role_session_name: 2 to 64 characters.
        source_identity: 2 to 64 characters.
        tags: the session tags.
        expiration: an aware time, whole seconds.
        duration_seconds: 900 to 43200.
        subject_arn: the ARN of the certificate's subject in IAM Roles Anywhere.
    """

    role_arn: str
    role_session_name: str
    source_identity: str
    tags: Mapping[str, str]
    expiration: datetime
    duration_seconds: int
    subject_arn: str


@dataclass(frozen=True)
class TemporaryCredentials:
    """Credentials for a session.

    Args:
        access_key_id: such as ``ASIA...``.
        secret_access_key: secret.
        session_token: secret.
        expiration: an aware time, whole seconds; None for the session's.
        assumed_role_id: the role's id and the session's name; None for one that stands for the role.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: datetime | None = None
    assumed_role_id: str | None = None


#: Makes the credentials of a session, at once or as a coroutine. It may raise a Refusal.
Mint = Callable[[Session], TemporaryCredentials | Awaitable[TemporaryCredentials]]


def mint_random(session: Session) -> TemporaryCredentials:
    """Credentials of the right form that are good for nothing.

    Args:
        session: not looked at.

    Returns:
        New random credentials.
    """
    del session
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return TemporaryCredentials(
        access_key_id="ASIA" + "".join(secrets.choice(alphabet) for _ in range(16)),
        secret_access_key=secrets.token_urlsafe(30),
        session_token=secrets.token_urlsafe(300),
    )


def subject_arn(trust_anchor: ARN, certificate_der: bytes) -> str:
    """The ARN by which the service knows a certificate's subject.

    Args:
        trust_anchor: the trust anchor's ARN.
        certificate_der: the end-entity certificate.

    Returns:
        The ARN; always the same for the same certificate.
    """
    identifier = uuid.UUID(bytes=hashlib.sha256(certificate_der).digest()[:16], version=4)
    return (
        f"arn:{trust_anchor.partition}:rolesanywhere:{trust_anchor.region}:{trust_anchor.account}:subject/{identifier}"
    )


def document(session: Session, credentials: TemporaryCredentials) -> dict[str, Any]:
    """The body of the 201 answer.

    Args:
        session: what was granted.
        credentials: its credentials.

    Returns:
        The JSON object.
    """
    role = ARN.parse(session.role_arn)
    if role is None:
        raise ValueError(session.role_arn)
    # STS leaves the path of a role out.
    assumed = f"assumed-role/{role.resource.rpartition('/')[2]}/{session.role_session_name}"
    role_id = "AROA" + hashlib.sha256(session.role_arn.encode()).hexdigest()[:17].upper()
    packed = sum(len(key) + len(value) for key, value in session.tags.items())
    return {
        "credentialSet": [
            {
                "assumedRoleUser": {
                    "arn": f"arn:{role.partition}:sts::{role.account}:{assumed}",
                    "assumedRoleId": credentials.assumed_role_id or f"{role_id}:{session.role_session_name}",
                },
                "credentials": {
                    "accessKeyId": credentials.access_key_id,
                    "expiration": (credentials.expiration or session.expiration).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "secretAccessKey": credentials.secret_access_key,
                    "sessionToken": credentials.session_token,
                },
                "packedPolicySize": min(100, packed * 100 // _PACKED_POLICY_BYTES),
                "roleArn": session.role_arn,
                "sourceIdentity": session.source_identity,
            }
        ],
        "subjectArn": session.subject_arn,
    }
