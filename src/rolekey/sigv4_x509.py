"""SigV4-X509: the signature of IAM Roles Anywhere's CreateSession request.

Implements "Signing process for AWS Identity and Access Management Roles Anywhere" (AWS, authentication-sign-process).
Pure: no clock, no network, no key. The signature itself is made by a Signer over the string to sign.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.certificates import Certificate
from rolekey.errors import UnsupportedKeyError
from rolekey.signers.base import HASHES, HashName
from rolekey.value import Value

SERVICE = "rolesanywhere"
PATH = "/sessions"
MLDSA_PUBLIC_KEYS = (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)
# A proxy or a tracing library may change these on the way.
UNSIGNED_HEADERS = frozenset({"authorization", "user-agent", "x-amzn-trace-id"})


class SigningRequest(Value):
    """What is signed of a CreateSession request.

    Args:
        query: names and values, not encoded, in any order.
        headers: names and values of every header to sign, ``host`` among them.
        body: the exact bytes of the body.
    """

    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes


def algorithm_name(public_key: object) -> str:
    """The scheme's algorithm name, which follows the key's type and never the certificate's signature.

    Args:
        public_key: a public key of ``cryptography``.

    Returns:
        ``AWS4-X509-RSA-SHA256``, ``AWS4-X509-ECDSA-SHA256`` (for every curve) or ``AWS4-X509-MLDSA``.

    Raises:
        UnsupportedKeyError: a key type that the scheme does not have.
    """
    if isinstance(public_key, rsa.RSAPublicKey):
        return "AWS4-X509-RSA-SHA256"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return "AWS4-X509-ECDSA-SHA256"
    if isinstance(public_key, MLDSA_PUBLIC_KEYS):
        return "AWS4-X509-MLDSA"
    raise UnsupportedKeyError(
        f"IAM Roles Anywhere has no signature algorithm for a key of type {type(public_key).__name__}",
        hint="use a certificate with an RSA, EC (P-256, P-384, P-521) or ML-DSA key",
    )


def verify_signature(
    public_key: object,
    signature: bytes,
    message: bytes,
    *,
    hash: HashName = "sha256",  # noqa: A002 - the word of the field
) -> None:
    """Check a signature over a string to sign, or over any other message.

    Args:
        public_key: the end-entity certificate's public key.
        signature: as a Signer returns it: PKCS#1 v1.5, ECDSA-Sig-Value DER or ML-DSA.
        message: the UTF-8 bytes of the string to sign.
        hash: the scheme's, or another: as Signer.sign() takes it.

    Raises:
        cryptography.exceptions.InvalidSignature: it is not this key's signature over this message.
        UnsupportedKeyError: a key type that the scheme does not have.
    """
    if isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, message, padding.PKCS1v15(), HASHES[hash]())
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        try:
            public_key.verify(signature, message, ec.ECDSA(HASHES[hash]()))
        except ValueError as error:  # bytes that are no ECDSA-Sig-Value
            raise InvalidSignature from error
    elif isinstance(public_key, MLDSA_PUBLIC_KEYS):
        public_key.verify(signature, message)
    else:
        algorithm_name(public_key)


def encode_query(query: Iterable[tuple[str, str]]) -> str:
    """Query parameters in canonical form: sorted, everything but RFC 3986's unreserved characters percent-encoded."""
    return "&".join(
        f"{name}={value}" for name, value in sorted((quote(n, safe=""), quote(v, safe="")) for n, v in query)
    )


def amz_date(moment: datetime) -> str:
    """A moment as X-Amz-Date has it: ``YYYYMMDDTHHMMSSZ``, UTC."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def certificate_headers(certificate: Certificate, chain: Iterable[Certificate]) -> dict[str, str]:
    """The headers that carry the certificates.

    Args:
        certificate: the end-entity certificate.
        chain: the intermediates from the leaf's issuer upwards, leaf and self-signed root excluded.

    Returns:
        ``X-Amz-X509`` and, where there are intermediates, ``X-Amz-X509-Chain``: standard base64 of DER, comma-joined.
    """
    headers = {"X-Amz-X509": _base64_der(certificate)}
    if intermediates := ",".join(_base64_der(c) for c in chain):
        headers["X-Amz-X509-Chain"] = intermediates
    return headers


def _base64_der(certificate: Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode("ascii")


def _canonical_headers(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() not in UNSIGNED_HEADERS:
            values.setdefault(name.lower(), []).append(re.sub(" +", " ", value.strip()))
    return {name: ",".join(values[name]) for name in sorted(values)}


def signed_header_names(request: SigningRequest) -> str:
    """The names of the signed headers: lower case, sorted, joined by ``;``."""
    return ";".join(_canonical_headers(request.headers))


def canonical_request(request: SigningRequest) -> str:
    """The canonical request, without a final line end."""
    headers = "".join(f"{name}:{value}\n" for name, value in _canonical_headers(request.headers).items())
    payload_hash = hashlib.sha256(request.body).hexdigest()
    return "\n".join(
        ("POST", PATH, encode_query(request.query), headers, signed_header_names(request), payload_hash),
    )


def credential_scope(moment: datetime, region: str) -> str:
    """``YYYYMMDD/region/rolesanywhere/aws4_request``."""
    return f"{amz_date(moment)[:8]}/{region}/{SERVICE}/aws4_request"


def string_to_sign(algorithm: str, moment: datetime, region: str, canonical: str) -> str:
    """The text that the private key signs.

    Args:
        algorithm: from algorithm_name().
        moment: the aware datetime that X-Amz-Date carries.
        region: the AWS region of the trust anchor.
        canonical: from canonical_request().

    Returns:
        Four lines without a final line end; its UTF-8 bytes are the message to sign.
    """
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{algorithm}\n{amz_date(moment)}\n{credential_scope(moment, region)}\n{digest}"


def authorization_header(
    algorithm: str,
    certificate_serial: int,
    scope: str,
    signed_headers: str,
    signature: bytes,
) -> str:
    """The Authorization header's value.

    Args:
        algorithm: from algorithm_name().
        certificate_serial: the end-entity certificate's serial number; the header has it in decimal.
        scope: from credential_scope().
        signed_headers: from signed_header_names().
        signature: the Signer's bytes; the header has them in lower-case hex.
    """
    return (
        f"{algorithm} Credential={certificate_serial}/{scope}, SignedHeaders={signed_headers}, "
        f"Signature={signature.hex()}"
    )
