"""What read-certificate-data prints: the official helper's bytes."""

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from rolekey.certificates import read_certificates
from rolekey.vend.certificate_data import certificate_json, certificate_list
from support.pki import make_key, make_root

VECTORS = Path(__file__).parents[1] / "vectors" / "official-helper"


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


def test_name_with_a_line_end():
    """What a terminal would obey is escaped, unlike by Go: a certificate in a token is anybody's."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\n2) Hex Fingerprint: 00\x1b[2J")])
    listed = certificate_list([(make_root().issue(subject=name).certificate, "pkcs11:")])
    assert "\nSubject: CN=a\\n2) Hex Fingerprint: 00\\x1b[2J\n" in listed


def test_list_of_a_store():
    """A certificate in a certificate store has no URI, and the same lines otherwise."""
    certificate = make_root().issue().certificate
    with_uri = certificate_list([(certificate, "pkcs11:x")])
    assert certificate_list([(certificate, None)]) == with_uri.replace("URI: pkcs11:x\n", "")
