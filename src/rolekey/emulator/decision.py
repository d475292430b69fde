"""One CreateSession decided: every check in the order that the service seems to take.

The order is not documented: the request by itself, trust anchor and profile, chain and certificate, signature and time,
then what the profile and the role allow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from rolekey.emulator import certificate_chain, principal, signature
from rolekey.emulator.certificates import Certificate
from rolekey.emulator.model import ARN, Configuration, Profile, Role, TrustAnchor
from rolekey.emulator.refusals import Reason, Refusal
from rolekey.emulator.request import CreateSession
from rolekey.emulator.session import Session, subject_arn

Clock = Callable[[], datetime]
_MAXIMUM_TAGS = 50  # STS's


@dataclass
class Findings:
    """What was found out before the decision fell, for the requests file.

    Args:
        serial: the certificate's serial number, decimal.
        subject: the certificate's subject, RFC 4514.
        canonical_request_sha256: lower-case hex, once the signature has been verified.
        source_identity: of the session.
        role_session_name: of the session.
    """

    serial: str | None = None
    subject: str | None = None
    canonical_request_sha256: str | None = None
    source_identity: str | None = None
    role_session_name: str | None = None


def decide(request: CreateSession, configuration: Configuration, now: datetime, findings: Findings) -> Session:
    """Decide about one request.

    Args:
        request: the request.
        configuration: what is set up.
        now: an aware time.
        findings: is filled in on the way.

    Returns:
        The session that is granted.

    Raises:
        Refusal: it is not granted.
    """
    anchor, anchor_arn = _trust_anchor(request, configuration)
    profile = _profile(request, configuration, anchor_arn)
    certificate = _certificate(request, findings)
    sent = certificate_chain.chain(request.headers.get("x-amz-x509-chain"))
    certificate_chain.check_trust(certificate, sent, anchor, now)
    findings.canonical_request_sha256 = signature.verify(request, certificate, anchor_arn.region, now)
    if request.role_arn not in profile.role_arns:
        raise Refusal(Reason.ROLE_NOT_LISTED)
    if request.role_session_name is not None and not profile.accept_role_session_name:
        raise Refusal(Reason.SESSION_NAME_NOT_ALLOWED)
    role = configuration.roles.get(request.role_arn, Role(request.role_arn))
    session = _session(request, certificate, profile, anchor_arn, now)
    findings.source_identity = session.source_identity
    findings.role_session_name = session.role_session_name
    _check_role(role, session, anchor_arn, request.trust_anchor_arn)
    return session


def _trust_anchor(request: CreateSession, configuration: Configuration) -> tuple[TrustAnchor, ARN]:
    anchor = configuration.trust_anchors.get(request.trust_anchor_arn)
    arn = ARN.parse(request.trust_anchor_arn)
    if anchor is None or arn is None:
        raise Refusal(Reason.NO_TRUST_ANCHOR)
    if not anchor.enabled:
        raise Refusal(Reason.TRUST_ANCHOR_DISABLED)
    return anchor, arn


def _profile(request: CreateSession, configuration: Configuration, anchor: ARN) -> Profile:
    profile = configuration.profiles.get(request.profile_arn)
    arn = ARN.parse(request.profile_arn)
    if profile is None or arn is None:
        raise Refusal(Reason.NO_PROFILE)
    if (arn.partition, arn.region, arn.account) != (anchor.partition, anchor.region, anchor.account):
        raise Refusal(Reason.NO_PROFILE, "profile and trust anchor differ in region or account")
    if not profile.enabled:
        raise Refusal(Reason.PROFILE_DISABLED)
    return profile


def _certificate(request: CreateSession, findings: Findings) -> Certificate:
    if "x-amz-x509" not in request.headers:
        raise Refusal(Reason.MISSING_HEADER, header="x-amz-x509")
    certificate = certificate_chain.end_entity(request.headers["x-amz-x509"])
    findings.serial = str(certificate.serial)
    findings.subject = certificate.subject.rfc4514_string()
    return certificate


def _session(request: CreateSession, certificate: Certificate, profile: Profile, anchor: ARN, now: datetime) -> Session:
    seconds = min(profile.duration_seconds, request.duration_seconds or profile.duration_seconds)
    return Session(
        role_arn=request.role_arn,
        role_session_name=request.role_session_name or principal.serial_hex(certificate),
        source_identity=principal.source_identity(certificate),
        tags=principal.session_tags(certificate),
        expiration=now.replace(microsecond=0) + timedelta(seconds=seconds),
        duration_seconds=seconds,
        subject_arn=subject_arn(anchor, certificate.der),
    )


def _check_role(role: Role, session: Session, anchor: ARN, trust_anchor_arn: str) -> None:
    """What STS checks: the trust policy, the number of tags, the role's longest session."""
    refused = role.trust_policy.refused_action(_context(session, anchor, trust_anchor_arn))
    if refused is not None:
        raise Refusal(Reason.ROLE_REFUSED, f"the trust policy does not allow {refused}", role_arn=role.arn)
    if len(session.tags) > _MAXIMUM_TAGS:
        raise Refusal(Reason.ROLE_REFUSED, f"more than {_MAXIMUM_TAGS} session tags", role_arn=role.arn)
    if session.duration_seconds > role.max_session_duration:
        raise Refusal(Reason.DURATION_ABOVE_ROLE, f"it is {role.max_session_duration}", role_arn=role.arn)


def _context(session: Session, anchor: ARN, trust_anchor_arn: str) -> Mapping[str, str]:
    return {
        **{f"aws:PrincipalTag/{key}": value for key, value in session.tags.items()},
        "aws:SourceArn": trust_anchor_arn,
        "aws:SourceAccount": anchor.account,
        "sts:SourceIdentity": session.source_identity,
    }
