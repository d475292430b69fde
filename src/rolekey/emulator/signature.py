"""SigV4-X509 verification (AWS authentication-sign-process), written from the document and not from the client.

Nothing of the raw query is hashed: it is form-decoded and encoded again, since a client may write a space as ``+`` on
the wire and sign ``%20``.
"""

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from rolekey.emulator.certificates import Certificate, EndEntityKey
from rolekey.emulator.refusals import Reason, Refusal
from rolekey.emulator.request import CreateSession

SERVICE = "rolesanywhere"
#: How far X-Amz-Date may be off (SigV4's convention; the service's own window is not documented).
MAXIMUM_SKEW = timedelta(minutes=5)

_AUTHORIZATION = re.compile(
    r"(AWS4-X509-(?:RSA-SHA256|ECDSA-SHA256|MLDSA)) "
    r"Credential=([0-9]+)/([0-9]{8})/([a-z0-9-]+)/([a-z0-9-]+)/(aws4_request), *"
    r"SignedHeaders=([^,\s]+), *"
    r"Signature=((?:[0-9a-f]{2})+)"
)
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_ALWAYS_SIGNED = ("host", "x-amz-date", "x-amz-x509")
_SIGNED_WHEN_PRESENT = ("content-type", "x-amz-x509-chain")


@dataclass(frozen=True)
class Authorization:
    """The Authorization header in its parts.

    Args:
        algorithm: such as ``AWS4-X509-RSA-SHA256``.
        serial: the certificate's serial number as the client wrote it, decimal.
        date: ``YYYYMMDD``.
        region: the region of the scope.
        service: the service of the scope.
        signed_headers: names in lower case, as listed.
        signature: the bytes of the signature.
    """

    algorithm: str
    serial: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: bytes

    @property
    def scope(self) -> str:
        """The credential scope without the serial number."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def parse_authorization(headers: Mapping[str, str]) -> Authorization:
    """Take the Authorization header apart.

    Args:
        headers: the request's headers by lower-case name.

    Returns:
        Its parts.

    Raises:
        Refusal: it is missing or malformed.
    """
    if "authorization" not in headers:
        raise Refusal(Reason.MISSING_HEADER, header="authorization")
    match = _AUTHORIZATION.fullmatch(headers["authorization"])
    if not match:
        raise Refusal(Reason.MALFORMED_AUTHORIZATION, "not of the form that the signing process describes")
    algorithm, serial, date, region, service, _, names, signature = match.groups()
    listed = tuple(names.split(";"))
    if list(listed) != sorted(set(listed)) or names != names.lower() or "" in listed:
        raise Refusal(Reason.MALFORMED_AUTHORIZATION, "SignedHeaders must be sorted, in lower case and without repeats")
    return Authorization(algorithm, serial, date, region, service, listed, bytes.fromhex(signature))


def verify(request: CreateSession, certificate: Certificate, region: str, now: datetime) -> str:
    """Verify that the certificate's key signed this request, here and now.

    Args:
        request: the request.
        certificate: the one in X-Amz-X509.
        region: the trust anchor's.
        now: an aware time.

    Returns:
        The lower-case hex SHA-256 of the canonical request that was signed.

    Raises:
        Refusal: anything does not agree.
    """
    authorization = parse_authorization(request.headers)
    if authorization.serial != str(certificate.serial):
        raise Refusal(Reason.SERIAL_MISMATCH, f"the certificate's is {certificate.serial}")
    _check_date(request.headers, authorization, region, now)
    _check_signed_headers(request.headers, authorization)
    key = certificate.public_key
    if key is None or authorization.algorithm != _algorithm(key):
        raise Refusal(Reason.INVALID_SIGNATURE, f"the certificate's key does not make {authorization.algorithm}")
    tried = []
    for canonical in canonical_requests(request, authorization.signed_headers):
        digest = hashlib.sha256(canonical).hexdigest()
        tried.append(digest)
        to_sign = f"{authorization.algorithm}\n{request.headers['x-amz-date']}\n{authorization.scope}\n{digest}"
        if _verifies(key, authorization.signature, to_sign.encode()):
            return digest
    raise Refusal(Reason.INVALID_SIGNATURE, f"hash of the canonical request: {' or '.join(tried)}")


def _check_date(headers: Mapping[str, str], authorization: Authorization, region: str, now: datetime) -> None:
    if "x-amz-date" not in headers:
        raise Refusal(Reason.MISSING_HEADER, header="x-amz-date")
    text = headers["x-amz-date"]
    if not _DATE.fullmatch(text):
        raise Refusal(Reason.MALFORMED_HEADER, header="x-amz-date")
    try:
        date = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise Refusal(Reason.MALFORMED_HEADER, header="x-amz-date") from error
    if abs(date - now) > MAXIMUM_SKEW:
        # The service says the same for a wrong signature.
        raise Refusal(Reason.INVALID_SIGNATURE, f"x-amz-date is {text}, the time here is {now:%Y%m%dT%H%M%SZ}")
    scope = f"{text[:8]}/{region}/{SERVICE}/aws4_request"
    if authorization.scope != scope:
        raise Refusal(Reason.SCOPE_MISMATCH, f"it is {authorization.scope}", scope=scope)


def _check_signed_headers(headers: Mapping[str, str], authorization: Authorization) -> None:
    signed = authorization.signed_headers
    for name in signed:
        if name not in headers:
            raise Refusal(Reason.MISSING_HEADER, "it is listed in SignedHeaders", header=name)
    for name in _ALWAYS_SIGNED:
        if name not in signed:
            raise Refusal(Reason.UNSIGNED_HEADER, header=name)
    for name in _SIGNED_WHEN_PRESENT:
        if name in headers and name not in signed:
            raise Refusal(Reason.UNSIGNED_HEADER, header=name)


def canonical_requests(request: CreateSession, signed_headers: Sequence[str]) -> Iterator[bytes]:
    """Every canonical request that a correct client may have signed.

    There is more than one because the official client signs ``/sessions`` even when the endpoint has a path before it,
    and encodes an ``=`` in a value once, where the document says twice.

    Args:
        request: the request.
        signed_headers: names in lower case, sorted.

    Yields:
        Canonical requests as bytes, without a final line end, the likeliest first.
    """
    headers = "".join(f"{name}:{_canonical_value(request.headers[name])}\n" for name in signed_headers)
    body = hashlib.sha256(request.wire.body).hexdigest()
    # Each segment is encoded once on the wire and once more here.
    path = quote(request.wire.raw_path, safe="/-._~")
    for one, query in itertools.product(dict.fromkeys(("/sessions", path)), _canonical_queries(request.query)):
        canonical = f"{request.wire.method}\n{one}\n{query}\n{headers}\n{';'.join(signed_headers)}\n{body}"
        # Header values were decoded as Latin-1, so this gives back the bytes that were sent.
        yield canonical.encode("latin-1")


def _canonical_queries(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    once = sorted((_encode(name), _encode(value)) for name, value in pairs)
    twice = sorted((_encode(name), _encode(value.replace("=", "%3D"))) for name, value in pairs)
    for encoded in (once, twice) if once != twice else (once,):
        yield "&".join(f"{name}={value}" for name, value in encoded)


def _encode(text: str) -> str:
    return quote(text, safe="-._~")


def _canonical_value(value: str) -> str:
    return re.sub(" +", " ", value.strip(" \t"))


def _algorithm(key: EndEntityKey) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return "AWS4-X509-RSA-SHA256"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "AWS4-X509-ECDSA-SHA256"
    return "AWS4-X509-MLDSA"


def _verifies(key: EndEntityKey, signature: bytes, message: bytes) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
