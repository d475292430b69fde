"""SigV4-X509 against requests captured from the official helper 1.8.0 (tests/vectors/README.md)."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rolekey.errors import UnsupportedKeyError
from rolekey.secret import Secret
from rolekey.signers.file import FileSigner, open_file_signer
from rolekey.sigv4_x509 import (
    SigningRequest,
    algorithm_name,
    amz_date,
    authorization_header,
    canonical_request,
    certificate_headers,
    credential_scope,
    encode_query,
    signed_header_names,
    string_to_sign,
    verify_signature,
)
from support.pki import make_key, make_root

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sigv4_x509.json").read_text())
REGION = "us-east-1"
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])


def request_of(vector: dict[str, Any]) -> SigningRequest:
    query = vector["request_line"].split()[1].partition("?")[2]
    names = vector["headers"]["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    headers = tuple((name.title(), vector["headers"][name]) for name in reversed(names))
    return SigningRequest(tuple(reversed(parse_qsl(query))), headers, vector["body"].encode())


def certificate_of(vector: dict[str, Any]) -> x509.Certificate:
    return x509.load_der_x509_certificate(base64.b64decode(vector["headers"]["x-amz-x509"]))


def moment_of(vector: dict[str, Any]) -> datetime:
    return datetime.strptime(vector["headers"]["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def test_there_are_nine_vectors():
    """The file holds what was captured: RSA, three curves and ML-DSA, with and without a chain."""
    assert len(VECTORS) == 9


@each_vector
def test_canonical_request_byte_for_byte(vector):
    """Header and query order, encoding and case do not matter: the canonical request is the captured one."""
    assert canonical_request(request_of(vector)) == vector["canonical_request"]


@each_vector
def test_string_to_sign_byte_for_byte(vector):
    """The string to sign is the captured one, with the algorithm that follows the key."""
    algorithm = algorithm_name(certificate_of(vector).public_key())
    text = string_to_sign(algorithm, moment_of(vector), REGION, canonical_request(request_of(vector)))
    assert text == vector["string_to_sign"]


@each_vector
def test_captured_signature_verifies(vector):
    """The captured signature verifies, and no other string does."""
    key, signature = certificate_of(vector).public_key(), bytes.fromhex(vector["signature_hex"])
    verify_signature(key, signature, vector["string_to_sign"].encode())
    with pytest.raises(InvalidSignature):
        verify_signature(key, signature, vector["string_to_sign"].encode() + b" ")


@each_vector
def test_authorization_header_byte_for_byte(vector):
    """With the captured signature, the Authorization header is the captured one: decimal serial, lower-case hex."""
    certificate, moment = certificate_of(vector), moment_of(vector)
    header = authorization_header(
        algorithm_name(certificate.public_key()),
        certificate.serial_number,
        credential_scope(moment, REGION),
        signed_header_names(request_of(vector)),
        bytes.fromhex(vector["signature_hex"]),
    )
    assert header == vector["headers"]["authorization"]


@each_vector
def test_own_signature_with_the_captured_key(vector, tmp_path):
    """A file signer with the captured key: RSA gives the captured signature, ECDSA and ML-DSA one that verifies."""
    path = tmp_path / "key.pem"
    path.write_text(vector["private_key_pem"])
    signer = open_file_signer(path, path.read_bytes(), lambda _what: Secret(""))
    signature = signer.sign(vector["string_to_sign"].encode())
    verify_signature(certificate_of(vector).public_key(), signature, vector["string_to_sign"].encode())
    if isinstance(signer.public_key, rsa.RSAPublicKey):
        assert signature.hex() == vector["signature_hex"]


@each_vector
def test_certificate_headers_byte_for_byte(vector):
    """X-Amz-X509 and X-Amz-X509-Chain are the captured ones; without a chain there is no chain header."""
    chain = vector["headers"].get("x-amz-x509-chain")
    intermediates = [x509.load_der_x509_certificate(base64.b64decode(c)) for c in chain.split(",")] if chain else []
    headers = certificate_headers(certificate_of(vector), intermediates)
    assert headers["X-Amz-X509"] == vector["headers"]["x-amz-x509"]
    assert headers.get("X-Amz-X509-Chain") == chain


def test_algorithm_follows_the_key_not_the_certificates_signature():
    """An RSA key certified by an EC authority with SHA-384 is AWS4-X509-RSA-SHA256, and the other way round."""
    issuer = make_root(key="p384")
    rsa_leaf = issuer.issue(key="rsa2048", signature_hash=hashes.SHA384())
    assert algorithm_name(rsa_leaf.certificate.public_key()) == "AWS4-X509-RSA-SHA256"
    ec_leaf = make_root(key="rsa2048").issue(key="p521", signature_hash=hashes.SHA512())
    assert algorithm_name(ec_leaf.certificate.public_key()) == "AWS4-X509-ECDSA-SHA256"


@pytest.mark.parametrize("name", ["p256", "p384", "p521"])
def test_ecdsa_is_sha256_for_every_curve(name):
    """The signature of a large curve verifies with SHA-256, which the scheme says, not with the curve's usual hash."""
    key = make_key(name)
    signature = FileSigner(key).sign(b"message")
    key.public_key().verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


def test_a_key_type_without_an_algorithm():
    """Ed25519 is refused by name, not signed with."""
    with pytest.raises(UnsupportedKeyError, match="Ed25519"):
        algorithm_name(ed25519.Ed25519PrivateKey.generate().public_key())


def test_bytes_that_are_no_ecdsa_signature():
    """Garbage in place of DER is an invalid signature, not another exception."""
    with pytest.raises(InvalidSignature):
        verify_signature(make_key("p256").public_key(), b"garbage", b"message")


@pytest.mark.parametrize(
    ("query", "encoded"),
    [
        ([("b", "2"), ("a", "1")], "a=1&b=2"),
        ([("a", "x y+z=~/:é")], "a=x%20y%2Bz%3D~%2F%3A%C3%A9"),
        ([("a-b", ""), ("a", "")], "a=&a-b="),
    ],
)
def test_query_encoding(query, encoded):
    """RFC 3986: only unreserved characters stay, escapes are upper case, names are sorted, a blank is %20."""
    assert encode_query(query) == encoded


def test_header_values_are_trimmed_and_squeezed():
    """Blanks around a value go, runs of blanks inside become one, values of one name are joined in their order."""
    request = SigningRequest((), (("X-B", "  a   b "), ("x-a", "2"), ("X-A", "1"), ("User-Agent", "no")), b"")
    assert "\n\nx-a:2,1\nx-b:a b\n\nx-a;x-b\n" in canonical_request(request)


def test_dates_are_utc():
    """A moment in another zone is written in UTC."""
    assert amz_date(datetime.fromisoformat("2026-01-01T01:30:00+02:00")) == "20251231T233000Z"


def test_a_vector_key_is_not_read_by_cryptography_alone():
    """The ML-DSA vector is in the {seed, expanded} form: the code path of its own is really needed."""
    with pytest.raises(ValueError, match="deserialize"):
        load_pem_private_key(VECTORS[-1]["private_key_pem"].encode(), None)
