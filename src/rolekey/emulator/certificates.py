"""A certificate read once and completely (RFC 5280), so that nothing can fail later in the middle of a decision.

cryptography parses lazily: a damaged extension is only noticed when it is asked for. Here every part that a decision
needs is taken out at once, and any defect is a `MalformedCertificateError`.
"""

import warnings
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from rolekey.emulator.null_parameters import mend

EndEntityKey = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)

_STRONG_HASHES = (
    hashes.SHA256,
    hashes.SHA384,
    hashes.SHA512,
    hashes.SHA3_256,
    hashes.SHA3_384,
    hashes.SHA3_512,
)
_HASHLESS_SIGNATURES = frozenset(
    {SignatureAlgorithmOID.ML_DSA_44, SignatureAlgorithmOID.ML_DSA_65, SignatureAlgorithmOID.ML_DSA_87}
)
# A critical extension that is not understood makes a certificate unusable (RFC 5280, 4.2). Name constraints are not
# evaluated here, so a CA that has them, critical as they must be, is refused rather than believed too much.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)
# What cryptography raises for damaged or unsupported parts.
_DEFECTS = (
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class MalformedCertificateError(ValueError):
    """Bytes that are no certificate, or one with a part that cannot be read."""


@dataclass(frozen=True)
class Certificate:
    """The parts of a certificate that decisions are made from.

    Args:
        der: the certificate's bytes.
        parsed: cryptography's object, for signatures.
        signed: what its issuer signed, where `parsed` is a copy without a NULL (null_parameters); else None.
        public_key: of a type that can sign a CreateSession request, else None.
        serial: the serial number.
        subject: the subject.
        issuer: the issuer.
        not_before: the first moment of validity.
        not_after: the last moment of validity.
        version_3: whether it is X.509 v3.
        strongly_signed: whether its signature uses SHA-256 or better, or ML-DSA.
        ca: basicConstraints' cA, None without basicConstraints.
        path_length: basicConstraints' pathLenConstraint.
        digital_signature: whether keyUsage has digitalSignature.
        key_cert_sign: whether keyUsage has keyCertSign.
        unknown_critical: the OID of a critical extension that is not understood here.
        alternative_names: the subject's alternative names, in their order.
    """

    der: bytes
    parsed: x509.Certificate
    signed: bytes | None
    public_key: EndEntityKey | None
    serial: int
    subject: x509.Name
    issuer: x509.Name
    not_before: datetime
    not_after: datetime
    version_3: bool
    strongly_signed: bool
    ca: bool | None
    path_length: int | None
    digital_signature: bool
    key_cert_sign: bool
    unknown_critical: str | None
    alternative_names: tuple[x509.GeneralName, ...]

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer are the same name."""
        return self.subject == self.issuer


def read_certificate(der: bytes) -> Certificate:
    """Take a certificate apart.

    Args:
        der: one DER certificate.

    Returns:
        Its parts.

    Raises:
        MalformedCertificateError: something in it cannot be read.
    """
    try:
        # cryptography warns of odd but readable names and numbers; a stranger's certificate must not write on stderr.
        with warnings.catch_warnings(action="ignore"):
            mended, signed = mend(der) or (der, None)
            return _read(der, x509.load_der_x509_certificate(mended), signed)
    except _DEFECTS as error:
        raise MalformedCertificateError(str(error)) from error


def _read(der: bytes, parsed: x509.Certificate, signed: bytes | None) -> Certificate:
    constraints: x509.BasicConstraints | None = None
    usage: x509.KeyUsage | None = None
    names: tuple[x509.GeneralName, ...] = ()
    unknown: str | None = None
    for extension in parsed.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            constraints = value
        elif isinstance(value, x509.KeyUsage):
            usage = value
        elif isinstance(value, x509.SubjectAlternativeName):
            names = tuple(value)
        if extension.critical and extension.oid not in _UNDERSTOOD:
            unknown = extension.oid.dotted_string
    return Certificate(
        der=der,
        parsed=parsed,
        signed=signed,
        public_key=_signing_key(parsed),
        serial=parsed.serial_number,
        subject=parsed.subject,
        issuer=parsed.issuer,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        version_3=parsed.version is x509.Version.v3,
        strongly_signed=_strongly_signed(parsed),
        ca=constraints.ca if constraints else None,
        path_length=constraints.path_length if constraints else None,
        digital_signature=bool(usage and usage.digital_signature),
        key_cert_sign=bool(usage and usage.key_cert_sign),
        unknown_critical=unknown,
        alternative_names=names,
    )


def _signing_key(parsed: x509.Certificate) -> EndEntityKey | None:
    try:
        key = parsed.public_key()
    except UnsupportedAlgorithm:
        return None
    return key if isinstance(key, EndEntityKey) else None


def _strongly_signed(parsed: x509.Certificate) -> bool:
    if parsed.signature_algorithm_oid in _HASHLESS_SIGNATURES:
        return True
    try:
        return isinstance(parsed.signature_hash_algorithm, _STRONG_HASHES)
    except UnsupportedAlgorithm:
        return False


def authority_defect(certificate: Certificate) -> str | None:
    """Why a certificate cannot issue others.

    Args:
        certificate: a trust anchor's or an intermediate.

    Returns:
        The defect in words, or None.
    """
    if not certificate.ca:
        return "it is not a CA certificate (basicConstraints)"
    if not certificate.key_cert_sign:
        return "its keyUsage lacks keyCertSign"
    if not certificate.strongly_signed:
        return "its signature is weaker than SHA-256"
    if certificate.unknown_critical:
        return f"its critical extension {certificate.unknown_critical} is not evaluated here"
    return None


def end_entity_defect(certificate: Certificate) -> str | None:
    """Why a certificate cannot sign a CreateSession request (trust model, end-entity certificates).

    Args:
        certificate: the one in X-Amz-X509.

    Returns:
        The defect in words, or None.
    """
    critical = certificate.unknown_critical
    defects = (
        (not certificate.version_3, "it is not X.509 v3"),
        (certificate.ca, "it is a CA certificate"),
        (not certificate.digital_signature, "its keyUsage lacks digitalSignature"),
        (not certificate.strongly_signed, "its signature is weaker than SHA-256"),
        (not list(certificate.subject), "its subject is empty"),
        (certificate.public_key is None, "its key is neither RSA, EC nor ML-DSA"),
        (critical is not None, f"its critical extension {critical} is not evaluated here"),
    )
    return next((text for found, text in defects if found), None)
