"""What `rolekey key list` says of a certificate: usable and for how long, or why not."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from rolekey.keys.usability import use_of_certificate
from support.pki import key_usage, make_root

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAYS = {"not_before": NOW - timedelta(days=1), "not_after": NOW + timedelta(days=42)}


@pytest.mark.parametrize("key", ["rsa2048", "p256", "p384", "p521"])
def test_usable(key):
    """A certificate as Roles Anywhere wants it is usable; whole days are left."""
    certificate = make_root().issue(key, **DAYS).certificate
    assert use_of_certificate(certificate, NOW) == "usable, 42 days left"
    assert use_of_certificate(certificate, NOW + timedelta(days=41, hours=1)) == "usable, 0 days left"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"not_after": NOW - timedelta(hours=1)}, "expired on 2029-12-31"),
        ({"not_before": NOW + timedelta(hours=1)}, "is not valid before 2030-01-01"),
        ({"ca": True, "usage": key_usage("key_cert_sign")}, "is a CA certificate"),
        ({"usage": key_usage("key_encipherment")}, "its keyUsage has no digitalSignature"),
    ],
)
def test_not_usable(changes, says):
    """Expired, not yet valid, a CA's, not for signatures: the reason is named."""
    use = use_of_certificate(make_root().issue(**DAYS | changes).certificate, NOW)
    assert use.startswith("no: ")
    assert says in use


def test_other_curve():
    """A key on a curve that the service does not take."""
    certificate = make_root().issue(ec.generate_private_key(ec.SECP256K1()), **DAYS).certificate
    assert "secp256k1, not P-256" in use_of_certificate(certificate, NOW)


def test_no_key_usage():
    """The service wants keyUsage; that RFC 5280 allows every use where it is not there, does not help."""
    certificate = make_root().issue(**DAYS, usage=None).certificate
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert use_of_certificate(certificate, NOW) == "no: it has no keyUsage, which is to have digitalSignature"
