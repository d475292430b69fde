"""Throw-away certificate authorities and certificates for the tests.

    root = make_root()
    intermediate = root.issue_authority()
    leaf = intermediate.issue(key="p256", common_name="machine")
    leaf.pem, leaf.key_pem, leaf.certificate, leaf.key, leaf.chain

`chain` holds the issuers from the certificate's own up to, and without, the root. Every property of a certificate can
be overridden (`Overrides`), so that each defect can be made.
"""

import base64
import functools
import ipaddress
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict, Unpack, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.x509.oid import NameOID

KeyName: TypeAlias = Literal["rsa2048", "rsa4096", "p256", "p384", "p521", "mldsa44", "mldsa65", "mldsa87"]
PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
Hash: TypeAlias = hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512

KEY_NAMES: tuple[KeyName, ...] = ("rsa2048", "rsa4096", "p256", "p384", "p521", "mldsa44", "mldsa65", "mldsa87")

_CURVES: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
_MLDSA: dict[str, Callable[[], PrivateKey]] = {
    "mldsa44": mldsa.MLDSA44PrivateKey.generate,
    "mldsa65": mldsa.MLDSA65PrivateKey.generate,
    "mldsa87": mldsa.MLDSA87PrivateKey.generate,
}
_serials = itertools.count(0x1000)


def make_key(name: KeyName = "p256") -> PrivateKey:
    """A private key; a new one each time but for RSA, which is slow to make: there it is always the same.

    Args:
        name: the type.

    Returns:
        cryptography's key.
    """
    if name in _CURVES:
        return ec.generate_private_key(_CURVES[name])
    if name in _MLDSA:
        return _MLDSA[name]()
    return _rsa_key(int(name.removeprefix("rsa")))


@functools.cache
def _rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def key_usage(*names: str) -> x509.KeyUsage:
    """A keyUsage extension.

    Args:
        names: of the bits that are set, such as ``digital_signature``.

    Returns:
        The extension's value.
    """
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    if not set(names) <= set(bits):
        raise ValueError(names)
    return x509.KeyUsage(**{bit: bit in names for bit in bits})


def make_name(common_name: str | None, **others: str) -> x509.Name:
    """A distinguished name.

    Args:
        common_name: None for a name without one.
        others: further attributes by cryptography's names in lower case, such as ``organization_name``.

    Returns:
        The name.
    """
    attributes = [x509.NameAttribute(getattr(NameOID, key.upper()), value) for key, value in others.items()]
    if common_name is not None:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


class Overrides(TypedDict, total=False):
    """What a certificate can have otherwise than usual.

    subject: the whole subject, instead of a common name.
    issuer_name: instead of the issuer's subject.
    serial: a new one unless given.
    not_before, not_after: an hour ago and in a day unless given; aware.
    ca: basicConstraints' cA, None for no basicConstraints.
    path_length: basicConstraints' pathLenConstraint.
    usage: keyUsage, None for none.
    alternative_names: subjectAltName, none when empty.
    extensions: further extensions and whether each is critical.
    signature_hash: SHA-256 unless given; without a meaning for an ML-DSA issuer.
    """

    subject: x509.Name
    issuer_name: x509.Name
    serial: int
    not_before: datetime
    not_after: datetime
    ca: bool | None
    path_length: int | None
    usage: x509.KeyUsage | None
    alternative_names: Sequence[x509.GeneralName]
    extensions: Sequence[tuple[x509.ExtensionType, bool]]
    signature_hash: Hash


_END_ENTITY_USAGE = key_usage("digital_signature")
_AUTHORITY: Overrides = {"ca": True, "usage": key_usage("key_cert_sign", "crl_sign")}


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, that can issue others whether it should or not.

    Args:
        certificate: the certificate.
        key: its private key.
        chain: its issuers, nearest first, without a self-signed root.
        root: the self-signed certificate at the top.
    """

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()
    root: x509.Certificate | None = field(default=None, repr=False)

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return to_pem([self.certificate])

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def base64(self) -> str:
        """The certificate as the value of X-Amz-X509."""
        return base64.b64encode(self.der).decode()

    @property
    def chain_pem(self) -> bytes:
        """`chain` as PEM."""
        return to_pem(self.chain)

    @property
    def key_pem(self) -> bytes:
        """The key as PKCS#8 PEM, not encrypted."""
        return key_to_pem(self.key)

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write certificate and key.

        Args:
            directory: an existing directory.
            name: the files' name without ending.

        Returns:
            The paths of the PEM certificate and of the PEM key, which only the user may read.
        """
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem)
        return certificate, key

    def issue(
        self, key: KeyName | PrivateKey = "p256", common_name: str = "leaf", **overrides: Unpack[Overrides]
    ) -> "Issued":
        """Issue a certificate; without arguments an end-entity certificate as Roles Anywhere wants it.

        Args:
            key: the type of a new key, or a key.
            common_name: the subject's, unless the whole subject is given.
            overrides: see `Overrides`.

        Returns:
            The certificate and its key.
        """
        private_key = make_key(key) if isinstance(key, str) else key
        certificate = _make(private_key, common_name, self.certificate.subject, self.key, overrides)
        above = () if self.certificate == self.root else (self.certificate,)
        return Issued(certificate, private_key, (*above, *self.chain), self.root)

    def issue_authority(
        self,
        key: KeyName | PrivateKey = "p256",
        common_name: str = "Test intermediate",
        **overrides: Unpack[Overrides],
    ) -> "Issued":
        """Issue an intermediate CA; the arguments are those of `issue`."""
        return self.issue(key, common_name, **_AUTHORITY | overrides)

    def revoke(self, *serials: int) -> x509.CertificateRevocationList:
        """A certificate revocation list of this issuer.

        Args:
            serials: the revoked certificates'.

        Returns:
            The list, valid now.
        """
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - timedelta(hours=1))
            .next_update(now + timedelta(days=1))
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, _hash_for(self.key))


def make_root(
    key: KeyName | PrivateKey = "p256", common_name: str = "Test root", **overrides: Unpack[Overrides]
) -> Issued:
    """A self-signed CA; the arguments are those of `Issued.issue`."""
    private_key = make_key(key) if isinstance(key, str) else key
    certificate = _make(private_key, common_name, None, private_key, _AUTHORITY | overrides)
    return Issued(certificate, private_key, root=certificate)


def to_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Certificates as PEM blocks, one after the other."""
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def key_to_pem(key: PrivateKey, password: bytes | None = None) -> bytes:
    """A private key as PKCS#8 PEM.

    Args:
        key: the key.
        password: encrypts it; None for no encryption.

    Returns:
        The PEM block.
    """
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def make_tls_certificate(directory: Path) -> tuple[Path, Path]:
    """The paths of a PEM certificate for 127.0.0.1 and localhost, which clients may trust as it is, and of its key."""
    names = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    return make_root(common_name="rolekey test server", alternative_names=names, usage=None).write(directory, "tls")


def _make(
    key: PrivateKey, common_name: str, issuer_name: x509.Name | None, issuer_key: PrivateKey, overrides: Overrides
) -> x509.Certificate:
    now = datetime.now(UTC)
    subject = overrides.get("subject", make_name(common_name))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(overrides.get("issuer_name", subject if issuer_name is None else issuer_name))
        .public_key(key.public_key())
        .serial_number(overrides.get("serial", next(_serials)))
        .not_valid_before(overrides.get("not_before", now - timedelta(hours=1)))
        .not_valid_after(overrides.get("not_after", now + timedelta(days=1)))
    )
    ca, usage = overrides.get("ca", False), overrides.get("usage", _END_ENTITY_USAGE)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, overrides.get("path_length")), critical=True)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    if overrides.get("alternative_names"):
        builder = builder.add_extension(x509.SubjectAlternativeName(overrides["alternative_names"]), critical=False)
    for extension, critical in overrides.get("extensions", ()):
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, _hash_for(issuer_key, overrides.get("signature_hash")))


def _hash_for(key: PrivateKey, signature_hash: Hash | None = None) -> hashes.SHA256 | None:
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        # cryptography's types leave SHA-224 out here, with which it signs all the same.
        return cast("hashes.SHA256", signature_hash or hashes.SHA256())
    return None
