"""Certificates and revocation lists in files, PEM (RFC 7468) or DER."""

import binascii
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from rolekey.emulator.certificates import (
    Certificate,
    MalformedCertificateError,
    authority_defect,
    read_certificate,
)
from rolekey.emulator.model import EmulatorConfigurationError

_MAXIMUM_CERTIFICATES = 2  # of one trust anchor
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def read_file(path: Path, where: str) -> bytes:
    """A file's bytes.

    Args:
        path: the file.
        where: the option or key that named it.

    Returns:
        The bytes.

    Raises:
        EmulatorConfigurationError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise EmulatorConfigurationError(f"{where}: {path}: {error.strerror}") from error


def read_anchor(paths: Sequence[Path], where: str) -> tuple[Certificate, ...]:
    """A trust anchor's certificates.

    Args:
        paths: files with one or two CA certificates in all.
        where: the option or key that named them.

    Returns:
        The certificates.

    Raises:
        EmulatorConfigurationError: a file cannot be read or holds something else.
    """
    found: list[Certificate] = []
    for path in paths:
        for der in _blocks(read_file(path, where), "CERTIFICATE"):
            try:
                certificate = read_certificate(der)
            except MalformedCertificateError as error:
                raise EmulatorConfigurationError(f"{where}: {path}: not a certificate: {error}") from error
            defect = authority_defect(certificate)
            if defect:
                raise EmulatorConfigurationError(
                    f"{where}: {path}: Incorrect basic constraints for CA certificate: {defect}"
                )
            found.append(certificate)
    if not 1 <= len(found) <= _MAXIMUM_CERTIFICATES:
        raise EmulatorConfigurationError(f"{where}: a trust anchor has one or two certificates, not {len(found)}")
    return tuple(found)


def read_crls(paths: Sequence[Path], where: str) -> tuple[x509.CertificateRevocationList, ...]:
    """Certificate revocation lists.

    Args:
        paths: files with one or more lists each.
        where: the option or key that named them.

    Returns:
        The lists.

    Raises:
        EmulatorConfigurationError: a file cannot be read or holds something else.
    """
    found: list[x509.CertificateRevocationList] = []
    for path in paths:
        blocks = _blocks(read_file(path, where), "X509 CRL")
        if not blocks:
            raise EmulatorConfigurationError(f"{where}: {path}: no certificate revocation list in it")
        try:
            for der in blocks:
                crl = x509.load_der_x509_crl(der)
                # Parsed lazily: an entry that cannot be read must be noticed now.
                for entry in crl:
                    _ = entry.serial_number, entry.extensions
                found.append(crl)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise EmulatorConfigurationError(f"{where}: {path}: not a revocation list: {error}") from error
    return tuple(found)


def _blocks(data: bytes, label: str) -> list[bytes]:
    """The DER of every PEM block with that label, or the data itself when it is no PEM."""
    if b"-----BEGIN " not in data:
        return [data] if data else []
    found = []
    for match in _PEM.finditer(data):
        if match[1] == label.encode():
            lines = match[0].splitlines()[1:-1]
            try:
                found.append(binascii.a2b_base64(b"".join(lines), strict_mode=True))
            except ValueError:
                found.append(b"")
    return found
