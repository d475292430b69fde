"""X.509 certificates as files and tokens hold them, and the path from an end-entity certificate to its root.

Implements the end-entity and chain rules of the IAM Roles Anywhere trust model (AWS, trust-model; RFC 5280).
"""

import base64
import codecs
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rolekey.base.paths import unreadable_reason
from rolekey.errors import CertificateError, RolekeyError
from rolekey.secret import Secret

if TYPE_CHECKING:
    from rolekey.null_parameters import NullParametersCertificate

# The second is rare, and its import is slow.
Certificate: TypeAlias = Union[x509.Certificate, "NullParametersCertificate"]
MAX_CHAIN_LENGTH = 5
MAX_FILE_SIZE = 1 << 20
# Yubico's arc for PIV attestation: firmware, serial number, policies.
_YUBICO_ATTESTATION = "1.3.6.1.4.1.41482.3."
_PEM_BLOCK = re.compile(rb"-----BEGIN (X509 |)CERTIFICATE-----(.*?)-----END \1CERTIFICATE-----", re.DOTALL)


def read_file(path: Path, what: str, error_class: type[RolekeyError] = CertificateError) -> bytes:
    """Read a small file that the user named.

    Args:
        path: the file.
        what: what it is, for the error's text.
        error_class: what to raise.

    Raises:
        RolekeyError: of that class: it cannot be read, or is too large to be what it should be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        reason, hint = unreadable_reason(path, error)
        raise error_class(f"cannot read the {what} {path}: {reason}", hint=hint) from error
    if len(data) > MAX_FILE_SIZE:
        raise error_class(f"the {what} {path} is larger than 1 MiB", hint="name the right file")
    return _without_utf16(data)


def _without_utf16(data: bytes) -> bytes:
    """What PowerShell's > has written, as the text that it is."""
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data
    try:
        return data.decode("utf-16").encode()
    except UnicodeError:
        return data


def read_certificates(
    path: Path, what: str = "certificate", *, passphrase: Callable[[], Secret] | None = None
) -> tuple[Certificate, ...]:
    """Read all certificates of a PEM, DER or PKCS#12 file.

    Args:
        path: the file; anything around and between the PEM blocks is ignored, private keys included.
        what: what it is, for the error's text.
        passphrase: gives the password of a PKCS#12 file; called only where it has one.

    Returns:
        At least one certificate: the end-entity certificate of a PKCS#12 file comes first, else the file's order.

    Raises:
        CertificateError: the file cannot be read or holds no certificate.
        PinIncorrectError, AmbiguousMatchError, UnsupportedKeyError: as open_pkcs12() says.
    """
    data = read_file(path, what)
    try:
        if b"-----BEGIN " in data:
            return _pem_certificates(data)
        return _der_certificates(path, data, passphrase)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{path} holds no certificate that can be read",
            hint="give a PEM or DER certificate, or a PKCS#12 file" + ("" if passphrase else " without a password"),
        ) from error


def load_certificate(der: bytes) -> Certificate:
    """Decode one certificate.

    Raises:
        ValueError: it is none, or has a defect that is not overlooked.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        from rolekey.null_parameters import NullParametersCertificate  # noqa: PLC0415 - as above

        return NullParametersCertificate(der)


def _pem_certificates(data: bytes) -> tuple[Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        blocks = [base64.b64decode(body) for _, body in _PEM_BLOCK.findall(data)]
        if not blocks:
            raise
        return tuple(load_certificate(der) for der in blocks)


def _der_certificates(path: Path, data: bytes, passphrase: Callable[[], Secret] | None) -> tuple[Certificate, ...]:
    try:
        return (load_certificate(data),)
    except ValueError:
        pass
    from rolekey.pkcs12_file import open_pkcs12  # noqa: PLC0415 - rare, and its import is slow

    bundle = open_pkcs12(path, data, passphrase).bundle
    found = [entry.certificate for entry in (bundle.cert, *bundle.additional_certs) if entry is not None]
    if not found:
        raise ValueError("a PKCS#12 file without a certificate")
    return tuple(found)


def spki(public_key: object) -> bytes:
    """A public key as DER SubjectPublicKeyInfo, by which keys are compared."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


def is_ca(certificate: Certificate) -> bool:
    """Whether the certificate's basicConstraints say CA:TRUE."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def is_attestation(certificate: Certificate) -> bool:
    """Whether a YubiKey made the certificate to attest a key; it stands beside the key's own, under the same CKA_ID."""
    try:
        return any(e.oid.dotted_string.startswith(_YUBICO_ATTESTATION) for e in certificate.extensions)
    except ValueError:
        return False


def describe(certificate: Certificate) -> str:
    """A certificate in a few words: its subject, or its serial number where the subject is empty."""
    return certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number}"


def check_end_entity(certificate: Certificate, now: datetime) -> None:
    """Refuse what IAM Roles Anywhere would refuse, before a PIN is asked for.

    Args:
        certificate: the end-entity certificate.
        now: aware datetime.

    Raises:
        CertificateError: expired, not yet valid, or a CA's certificate.
    """
    name = describe(certificate)
    if now > certificate.not_valid_after_utc:
        raise CertificateError(
            f"the certificate {name} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC",
            hint="renew the certificate, or check this machine's clock",
        )
    if now < certificate.not_valid_before_utc:
        raise CertificateError(
            f"the certificate {name} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
            hint="check this machine's clock, or wait",
        )
    if is_ca(certificate):
        raise CertificateError(
            f"the certificate {name} is a CA certificate",
            hint="use the end-entity certificate that the CA issued; its file must have it first",
        )


def issuer_chain(leaf: Certificate, candidates: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """The path above an end-entity certificate, for X-Amz-X509-Chain.

    Where two candidates issued the same certificate (a cross-signed CA), the one that is not self-signed is on the
    longer path and is taken, then the one that is valid for longer.

    Args:
        leaf: the end-entity certificate.
        candidates: certificates in any order; leaf, roots and strangers among them do no harm.

    Returns:
        The issuers from the leaf's upwards, self-signed root and leaf excluded; empty where the leaf's issuer is not
        among the candidates.

    Raises:
        CertificateError: the path has more than 5 certificates, which the service does not take.
    """
    rest = [c for c in dict.fromkeys(candidates) if c != leaf]
    path: list[Certificate] = []
    current = leaf
    while issuers := [c for c in rest if c.subject == current.issuer and is_issuer(c, current)]:
        current = max(issuers, key=lambda c: (not is_issuer(c, c), c.not_valid_after_utc))
        if is_issuer(current, current):
            break
        rest.remove(current)
        path.append(current)
    if len(path) > MAX_CHAIN_LENGTH:
        raise CertificateError(
            f"the path above the certificate has {len(path)} intermediates; IAM Roles Anywhere takes at most 5",
            hint="register a trust anchor nearer to the end-entity certificate and leave out the issuers above it",
        )
    return tuple(path)


def is_issuer(issuer: Certificate, subject: Certificate) -> bool:
    """Whether names and signature say that one certificate issued another.

    Args:
        issuer: of it.
        subject: of it.
    """
    try:
        subject.verify_directly_issued_by(issuer if isinstance(issuer, x509.Certificate) else issuer.mended)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def utc_now() -> datetime:
    """The system's clock, as an aware datetime."""
    return datetime.now(UTC)
