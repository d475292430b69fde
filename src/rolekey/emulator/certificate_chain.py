"""From the certificate in X-Amz-X509 to the trust anchor (IAM Roles Anywhere trust model, RFC 5280).

The order of X-Amz-X509-Chain is not documented and clients differ: it is a set, in which the end-entity certificate and
the root are tolerated.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from rolekey.emulator.certificates import (
    Certificate,
    MalformedCertificateError,
    authority_defect,
    end_entity_defect,
    read_certificate,
)
from rolekey.emulator.model import TrustAnchor
from rolekey.emulator.refusals import Reason, Refusal

#: Certificates in X-Amz-X509-Chain.
MAXIMUM_DEPTH = 5


def end_entity(header: str) -> Certificate:
    """The certificate in X-Amz-X509.

    Args:
        header: standard base64 of one DER certificate.

    Returns:
        The certificate.

    Raises:
        Refusal: it is none.
    """
    return _decode(header, "x-amz-x509")


def chain(header: str | None) -> tuple[Certificate, ...]:
    """The certificates in X-Amz-X509-Chain.

    Args:
        header: base64 of DER certificates, joined with commas; None when it was not sent.

    Returns:
        The certificates, in the order in which they were sent.

    Raises:
        Refusal: one is malformed, or there are too many.
    """
    if header is None:
        return ()
    entries = header.split(",", MAXIMUM_DEPTH + 1)
    if len(entries) > MAXIMUM_DEPTH:
        raise Refusal(Reason.CHAIN_TOO_LONG)
    return tuple(_decode(entry.strip(" "), "x-amz-x509-chain") for entry in entries)


def _decode(text: str, header: str) -> Certificate:
    try:
        return read_certificate(_from_base64(text))
    except (binascii.Error, UnicodeEncodeError, MalformedCertificateError) as error:
        raise Refusal(Reason.MALFORMED_CERTIFICATE, str(error), header=header) from error


def _from_base64(text: str) -> bytes:
    data = base64.b64decode(text.encode("ascii"), validate=True)
    # Padding that is not needed, and bits that are not used, are let through by the decoder.
    if base64.b64encode(data).decode("ascii") != text:
        raise binascii.Error("not the one encoding of its bytes")
    return data


def check_trust(leaf: Certificate, sent: Sequence[Certificate], anchor: TrustAnchor, now: datetime) -> None:
    """Decide whether the trust anchor vouches for the end-entity certificate.

    Args:
        leaf: the end-entity certificate.
        sent: the chain that came with it.
        anchor: the trust anchor.
        now: an aware time.

    Raises:
        Refusal: there is no path, the certificate is unfit, out of its time, or revoked.
    """
    finder = _PathFinder(leaf, sent, anchor, now)
    path = next(finder.paths(), None)
    if path is None:
        raise Refusal(Reason.UNTRUSTED, "; ".join(dict.fromkeys(finder.obstacles)) or "no issuer was sent")
    defect = end_entity_defect(leaf)
    if defect:
        raise Refusal(Reason.INSUFFICIENT, defect)
    if now < leaf.not_before:
        raise Refusal(Reason.NOT_YET_VALID, f"valid from {leaf.not_before:%Y-%m-%dT%H:%M:%SZ}")
    if now > leaf.not_after:
        raise Refusal(Reason.EXPIRED, f"valid until {leaf.not_after:%Y-%m-%dT%H:%M:%SZ}")
    for subject, issuer in pairwise(path):
        if _revoked(subject, issuer, anchor.crls):
            raise Refusal(Reason.REVOKED, f"serial number {subject.serial}")


class _PathFinder:
    """Walks from the end-entity certificate through the certificates that were sent, until a trust anchor's is met."""

    def __init__(self, leaf: Certificate, sent: Sequence[Certificate], anchor: TrustAnchor, now: datetime) -> None:
        self._leaf = leaf
        self._anchors = anchor.certificates
        # One that is sent and is the trust anchor's own is not needed on the way.
        known = {leaf.der, *(c.der for c in self._anchors)}
        self._sent = [c for c in {c.der: c for c in sent}.values() if c.der not in known]
        self._now = now
        self.obstacles: list[str] = []

    def paths(self) -> Iterator[tuple[Certificate, ...]]:
        """Every path, end-entity certificate first, trust anchor last."""
        yield from self._from((self._leaf,))

    def _from(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        for issuer in self._anchors:
            if self._issued(path, issuer):
                yield (*path, issuer)
        for issuer in self._sent:
            if issuer not in path and self._issued(path, issuer):
                yield from self._from((*path, issuer))

    def _issued(self, path: tuple[Certificate, ...], issuer: Certificate) -> bool:
        """Whether a path may go on with that issuer; if only a rule forbids it, the rule is noted."""
        if path[-1].issuer != issuer.subject or not _signed_by(path[-1], issuer):
            return False
        obstacle = authority_defect(issuer)
        below = sum(not c.self_issued for c in path[1:])
        if not issuer.not_before <= self._now <= issuer.not_after:
            obstacle = "it is not valid at this time"
        elif issuer.path_length is not None and below > issuer.path_length:
            obstacle = "the path is longer than its basicConstraints allow"
        if obstacle:
            self.obstacles.append(f"issuer {issuer.subject.rfc4514_string()}: {obstacle}")
        return obstacle is None


def _signed_by(subject: Certificate, issuer: Certificate) -> bool:
    try:
        if subject.signed is None:
            subject.parsed.verify_directly_issued_by(issuer.parsed)
        else:
            _verify_ecdsa(subject.parsed, subject.signed, issuer.parsed.public_key())
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _verify_ecdsa(subject: x509.Certificate, signed: bytes, key: object) -> None:
    algorithm = subject.signature_hash_algorithm
    if not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
        raise InvalidSignature
    key.verify(subject.signature, signed, ec.ECDSA(algorithm))


def _revoked(subject: Certificate, issuer: Certificate, crls: Sequence[x509.CertificateRevocationList]) -> bool:
    """Whether a list that the issuer itself signed names the certificate; anybody else's list says nothing."""
    return any(
        crl.issuer == issuer.subject
        and _crl_signed_by(crl, issuer)
        and crl.get_revoked_certificate_by_serial_number(subject.serial) is not None
        for crl in crls
    )


def _crl_signed_by(crl: x509.CertificateRevocationList, issuer: Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.parsed.public_key())  # type: ignore[arg-type]  # other types raise TypeError
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
