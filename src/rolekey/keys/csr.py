"""A certificate signing request (PKCS#10, RFC 2986) signed with a key where it is: one private-key operation."""

import ipaddress
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from rolekey.certificates import spki
from rolekey.deadline import Deadline
from rolekey.der import elements, sequence, tagged
from rolekey.errors import CertificateError, ConfigurationError, UnsupportedKeyError
from rolekey.identity import open_signer
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.keys import ARGUMENT
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.signers.base import Signer
from rolekey.value import Value

if TYPE_CHECKING:
    from rolekey.token_identity import FoundKey

_BIT_STRING = b"\x03"
# AlgorithmIdentifier: sha256WithRSAEncryption with NULL (RFC 4055), ecdsa-with-SHA256 without parameters (RFC 5758).
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _address(text: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(text))


_KINDS: dict[str, Callable[[str], x509.GeneralName]] = {
    "DNS": x509.DNSName,
    "IP": _address,
    "URI": x509.UniformResourceIdentifier,
    "email": x509.RFC822Name,
}


class RequestedName(Value):
    """Whom the certificate is to be for.

    Args:
        subject: not empty.
        alternatives: subjectAltName, empty for none.
    """

    subject: x509.Name
    alternatives: tuple[x509.GeneralName, ...]

    @classmethod
    def parse(cls, subject: str | None, alternatives: Iterable[str]) -> Self:
        """Read what the command line says.

        Args:
            subject: RFC 4514, such as ``CN=web-1,O=Example``.
            alternatives: each ``KIND:VALUE``.

        Raises:
            ConfigurationError: the subject is empty or malformed, or a name is.
        """
        try:
            name = x509.Name.from_rfc4514_string(subject or "")
        except ValueError as error:
            raise ConfigurationError(
                "--subject is no name as RFC 4514 writes it", hint="write it like CN=web-1,O=Example,C=DE"
            ) from error
        if not list(name):
            raise ConfigurationError(
                "--subject is missing or empty, and IAM Roles Anywhere takes no certificate without a subject",
                hint="write it like CN=web-1,O=Example,C=DE",
            )
        return cls(name, tuple(_alternative(text) for text in alternatives))


def _alternative(text: str) -> x509.GeneralName:
    kind, colon, value = text.partition(":")
    if not colon or not value or kind not in _KINDS:
        raise ConfigurationError(
            "--san has a kind of name that is not known, or none",
            hint="write DNS:NAME, IP:ADDRESS, URI:URI or email:ADDRESS",
        )
    try:
        return _KINDS[kind](value)
    except ValueError as error:
        raise ConfigurationError(
            f"--san: what follows {kind}: is none of that kind",
            hint="write other than ASCII names in punycode (xn--...)",
        ) from error


def make_request(settings: KeySettings, interaction: Interaction, deadline: Deadline, name: RequestedName) -> bytes:
    """Make a request, sign it with exactly one private-key operation, and verify it.

    Args:
        settings: where the key is, and what opens it.
        interaction: asks for a PIN or passphrase that no source gives.
        deadline: for everything that token and TPM do.
        name: whom the certificate is to be for.

    Returns:
        PEM.

    Raises:
        UnsupportedKeyError: the key may not sign, or its public half is not to be had.
        SignerError, DeadlineError: the key cannot be found or used.
        CertificateError: the signature is not that of the public key.
    """
    signer, public_key = _open(settings, interaction, deadline)
    with closing(signer):
        info = _request_info(name, public_key)
        signature = signer.sign(info)
    der = sequence(info + _algorithm(public_key) + tagged(_BIT_STRING, b"\0" + signature))
    request = x509.load_der_x509_csr(der)
    if not request.is_signature_valid:
        raise CertificateError(
            "the signature of the request is not that of the public key which the token shows with this key",
            hint="see with `rolekey key list --login` whether two keys have the same id; nothing was written",
        )
    return request.public_bytes(Encoding.PEM)


def _open(settings: KeySettings, interaction: Interaction, deadline: Deadline) -> tuple[Signer, bytes]:
    """The signer, and the public key as SubjectPublicKeyInfo."""
    uri = settings.private_key
    if not isinstance(uri, PKCS11URI):
        signer = open_signer(settings, interaction, deadline)
        return signer, spki(signer.public_key)  # of a file, and of a TPM, it is always known
    from rolekey.token_identity import TokenIdentity  # noqa: PLC0415 - not for a key elsewhere

    identity = TokenIdentity(settings, uri, interaction, deadline)
    found = identity.find_key(ARGUMENT)
    token_signer = identity.signer_of(found)
    try:
        found.key.check_usage()
        return token_signer, _public_key(found)
    except BaseException:
        token_signer.close()
        raise


def _public_key(found: "FoundKey") -> bytes:
    if found.public_key is None:
        raise UnsupportedKeyError(
            f"token {found.contents.token} shows no public half of the key {found.key}",
            hint="store it beside the key, as a public key object of the same id, with the token's own tool",
        )
    return found.public_key


def _request_info(name: RequestedName, public_key: bytes) -> bytes:
    """CertificationRequestInfo in DER.

    ``cryptography`` makes requests only for keys that it has: this is one for a key that is thrown away, with the real
    one's public half put in.
    """
    builder = (
        x509.CertificateSigningRequestBuilder(name.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
    )
    if name.alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(name.alternatives), critical=False)
    thrown_away = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    (info,) = elements(thrown_away.tbs_certrequest_bytes)
    version, subject, _, attributes = elements(info.content)
    return sequence(version.whole + subject.whole + public_key + attributes.whole)


def _algorithm(public_key: bytes) -> bytes:
    """The signature's AlgorithmIdentifier; of ML-DSA it is that of the key (RFC 9881)."""
    key = load_der_public_key(public_key)
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA_SHA256
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _ECDSA_SHA256
    (info,) = elements(public_key)
    return elements(info.content)[0].whole
