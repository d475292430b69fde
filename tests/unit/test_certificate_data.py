"""What read-certificate-data prints: the official helper's bytes."""

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from rolekey.certificates import read_certificates
from rolekey.vend.certificate_data import certificate_json, certificate_list, go_name
from support.pki import make_key, make_root

VECTORS = Path(__file__).parents[1] / "vectors" / "official-helper"
NAMES = json.loads((VECTORS / "names.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("certificate", "output"), [("rsa-client.crt", "rsa.json"), ("ec.crt", "ec.json")])
def test_file(certificate, output):
    """Byte for byte what the official helper prints for the same file."""
    (found,) = read_certificates(VECTORS / certificate)
    assert certificate_json(found) == (VECTORS / f"read-certificate-data-{output}").read_text()


@pytest.mark.parametrize(
    ("key", "name", "algorithms"),
    [
        (make_key("mldsa44"), "ML-DSA-44", ["ML-DSA-44"]),
        (make_key("mldsa65"), "ML-DSA-65", ["ML-DSA-65"]),
        (make_key("mldsa87"), "ML-DSA-87", ["ML-DSA-87"]),
        (ed25519.Ed25519PrivateKey.generate(), "", ["SHA256", "SHA384", "SHA512"]),
    ],
    ids=["mldsa44", "mldsa65", "mldsa87", "ed25519"],
)
def test_other_keys(key, name, algorithms):
    """ML-DSA has one algorithm, its own; a key that IAM Roles Anywhere does not take has no name."""
    document = json.loads(certificate_json(make_root().issue(key).certificate))
    assert (document["keyType"], document["supportedAlgorithms"]) == (name, algorithms)


def test_list():
    """A certificate in a token is listed as the official helper lists it, but for the URI."""
    (found,) = read_certificates(VECTORS / "ec.crt")
    golden = (VECTORS / "read-certificate-data-pkcs11.txt").read_text()
    first = golden[: golden.index("2) ")]
    uri = first[first.index("pkcs11:") :].rstrip("\n")
    assert certificate_list([(found, uri)]) == first


def test_empty_list():
    """No certificate is said to be none."""
    assert certificate_list([]) == "No matching identities\n"


@pytest.mark.parametrize("vector", NAMES, ids=lambda vector: vector["go"])
def test_name(vector):
    """A name is written as Go's pkix.Name.String() wrote it."""
    assert go_name(x509.Name.from_bytes(bytes.fromhex(vector["der"]))) == vector["go"]


def test_name_with_a_line_end():
    """What a terminal would obey is escaped, unlike by Go: a certificate in a token is anybody's."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\n2) Hex Fingerprint: 00\x1b[2J")])
    assert go_name(name) == r"CN=a\n2) Hex Fingerprint: 00\x1b[2J"
