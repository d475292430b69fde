"""The certificate as IAM Roles Anywhere wants it, and the chain above it (AWS, trust model; RFC 5280)."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from rolekey.certificates import Certificate, describe, is_ca, is_issuer, issuer_chain, read_certificates
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, failed, known, not_known, ok, warning
from rolekey.errors import CertificateError, ConfigurationError
from rolekey.identity import found_certificate
from rolekey.interaction import NoInteraction
from rolekey.key_settings import certificate_of
from rolekey.keys.inspect import kind_of
from rolekey.keys.usability import faults, is_weakly_signed
from rolekey.passphrases import Passphrases
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.sigv4_x509 import algorithm_name

_SOON = timedelta(days=30)
_NEW = "have a new one issued: X.509 v3, keyUsage digitalSignature, CA:FALSE, SHA-256 or better, with a subject"


def check_certificate(context: Context) -> Iterator[Verdict]:
    """Where the certificate is."""
    key = known(context.facts.key, "where the certificate is")
    try:
        reference = certificate_of(key)
    except ConfigurationError:
        raise not_known("where the certificate is") from None  # said with the key
    if isinstance(reference, PKCS11URI):
        known(context.facts.shown, "the token")
    passphrases = Passphrases(key, NoInteraction())
    try:
        leaf, beside = found_certificate(key, reference, passphrases, context.deadline())
    except CertificateError as error:
        if not _may_be_hidden(context, reference):
            raise
        yield warning(f"{error.message}; what is private is shown after the login only", error.hint)
        return
    context.facts.certificate, context.facts.beside = leaf, beside
    yield ok(f"{describe(leaf)}, serial number {leaf.serial_number}, issued by {leaf.issuer.rfc4514_string()}")


def _may_be_hidden(context: Context, reference: object) -> bool:
    shown = context.facts.shown or ()
    return isinstance(reference, PKCS11URI) and any(contents.token.login_required for contents, _ in shown)


def check_profile(context: Context) -> Iterator[Verdict]:
    """Whether the service takes a certificate like this."""
    leaf = context.leaf
    algorithm = algorithm_name(leaf.public_key())
    # What else a CA's certificate lacks follows from its being one.
    found = ("it is a CA certificate",) if is_ca(leaf) else faults(leaf)
    for fault in found:
        yield failed(f"IAM Roles Anywhere does not take this certificate: {fault}", _NEW)
    if not found:
        yield ok(f"{kind_of(leaf.public_key())}, {algorithm}: of the kind that IAM Roles Anywhere takes")


def check_validity(context: Context) -> Iterator[Verdict]:
    """Whether the certificate is valid, and for how long."""
    leaf, now = context.leaf, context.clock()
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now > end:
        yield failed(f"the certificate expired on {_text(end)}", "renew the certificate, or check this machine's clock")
    elif now < start:
        yield failed(f"the certificate is not valid before {_text(start)}", "check this machine's clock, or wait")
    elif end - now < min(_SOON, (end - start) / 3):
        yield warning(f"the certificate expires on {_text(end)}, in {_left(end - now)}", "renew it before then")
    else:
        yield ok(f"valid until {_text(end)}, {_left(end - now)} left")


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _left(left: timedelta) -> str:
    return f"{left.days} days" if left.days else f"{left.seconds // 3600} hours"


def check_chain(context: Context) -> Iterator[Verdict]:
    """The issuers that are sent with the certificate."""
    leaf = context.leaf
    named = context.options.intermediates
    given = read_certificates(Path(named), "intermediates") if named else ()
    chain = context.facts.chain = issuer_chain(leaf, (*given, *context.facts.beside))
    now, sound = context.clock(), True
    for below, certificate in enumerate(chain):
        if fault := _authority_fault(certificate, now, below):
            sound = False
            yield failed(f"the intermediate {describe(certificate)} {fault}", "replace it in the chain")
    unused = len([c for c in given if c not in chain and c != leaf and not is_issuer(c, c)])
    if unused:
        yield warning(
            f"{unused} of the intermediates that are given do not stand above this certificate",
            "check that --intermediates is for this certificate: a link between them may be missing",
        )
    if sound:
        top = (*reversed(chain), leaf)[0]
        names = " <- ".join(describe(c) for c in (leaf, *chain))
        yield ok(f"{names}, up to the issuer {top.issuer.rfc4514_string()}")


def check_trust_anchor(context: Context) -> Iterator[Verdict]:
    """Whether the chain leads to the trust anchor's certificate, as far as a file of it says."""
    if context.trust_anchor is None:
        return
    anchors = read_certificates(context.trust_anchor, "trust anchor")
    leaf, chain = context.leaf, known(context.facts.chain, "the chain")
    now = context.clock()
    path = (leaf, *chain)
    for anchor in anchors:
        if fault := _authority_fault(anchor, now, 0):
            yield failed(f"the trust anchor {describe(anchor)} {fault}", "register a valid CA certificate")
            return
    if any(is_issuer(anchor, certificate) for certificate in path for anchor in anchors):
        yield ok(f"the certificate leads to {describe(anchors[0])}")
        return
    top = path[-1]
    names = ", ".join(describe(anchor) for anchor in anchors)
    same_name = [anchor for anchor in anchors if anchor.subject == top.issuer]
    if same_name:
        yield failed(
            f"{describe(top)} names {names} as its issuer, but was signed by another key of that name",
            "the CA was made anew: register its present certificate as trust anchor, or use a certificate of the old",
        )
    else:
        yield failed(
            f"the chain breaks above {describe(top)}: its issuer {top.issuer.rfc4514_string()} is neither among the "
            f"intermediates nor the trust anchor {names}",
            "add the missing issuer with --intermediates FILE, or use the trust anchor that this CA belongs to",
        )


def _authority_fault(certificate: Certificate, now: datetime, below: int) -> str:
    """Why a CA's certificate, with so many intermediates below it, vouches for nobody; empty where it does."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        constraints = None
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        usage = None
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    cases = (
        (constraints is None or not constraints.ca, "is no CA certificate (basicConstraints)"),
        (
            constraints is not None and constraints.path_length is not None and constraints.path_length < below,
            "has more intermediates below it than it allows (pathLenConstraint)",
        ),
        (is_weakly_signed(certificate), "has a signature weaker than SHA-256"),
        (usage is not None and not usage.key_cert_sign, "may not sign certificates (keyUsage)"),
        (now > end, f"expired on {_text(end)}"),
        (now < start, f"is not valid before {_text(start)}"),
    )
    return next((text for is_so, text in cases if is_so), "")
