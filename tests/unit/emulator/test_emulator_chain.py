"""Whom a trust anchor vouches for (IAM Roles Anywhere trust model)."""

import base64
import itertools
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from rolekey.emulator.certificates import read_certificate
from rolekey.emulator.model import TrustAnchor
from support.emulator_caller import ANCHOR, NOW, Caller, trust
from support.null_parameters import with_null_parameters
from support.pki import Issued, key_usage, make_name, make_root

UNTRUSTED = (403, "AccessDeniedException", "Untrusted signing certificate")
INSUFFICIENT = (403, "AccessDeniedException", "Untrusted certificate. Insufficient certificate")
REVOKED = (403, "AccessDeniedException", "Certificate revoked")
DAY = timedelta(days=1)


def deep(caller: Caller, depth: int) -> Issued:
    """A CA with that many intermediates between it, itself counted, and the root."""
    issuer = caller.root
    for level in range(depth):
        issuer = issuer.issue_authority(common_name=f"intermediate {level}")
    return issuer


def test_the_order_of_the_chain_does_not_matter(caller):
    """The chain is a set: every order of it is accepted, and so are doubles."""
    caller.leaf = deep(caller, 3).issue()
    for order in itertools.permutations(caller.leaf.chain):
        caller.chain = order
        assert caller.ask().status == 201
    caller.chain = (*caller.leaf.chain, caller.leaf.chain[0])
    assert caller.ask().status == 201


def test_leaf_and_root_are_tolerated_in_the_chain(caller):
    """Clients send the end-entity certificate, the root, or a stranger along; none of it hurts."""
    caller.leaf = deep(caller, 1).issue()
    stranger = make_root(common_name="stranger").certificate
    caller.chain = (caller.leaf.certificate, caller.root.certificate, stranger, *caller.leaf.chain)
    assert caller.ask().status == 201


def test_an_intermediate_may_be_the_trust_anchor(caller):
    """A trust anchor need not be a root, and the certificates above it do not matter."""
    intermediate = deep(caller, 1)
    caller.leaf, caller.anchor = intermediate.issue(), trust(intermediate)
    assert caller.ask().status == 201
    caller.chain = (intermediate.certificate, caller.root.certificate)
    assert caller.ask().status == 201


def test_a_trust_anchor_has_up_to_two_certificates(caller):
    """Either certificate of a bundle vouches."""
    other = make_root()
    caller.anchor = TrustAnchor(ANCHOR, tuple(read_certificate(ca.der) for ca in (other, caller.root)))
    assert caller.ask().status == 201
    caller.leaf = other.issue()
    assert caller.ask().status == 201


def test_a_cross_signed_intermediate_is_found(caller):
    """Of two certificates for the same intermediate the one that leads to the trust anchor is taken."""
    intermediate = deep(caller, 1)
    elsewhere = make_root(common_name="elsewhere").issue_authority(intermediate.key, "intermediate 0")
    caller.leaf = intermediate.issue()
    for order in itertools.permutations((intermediate.certificate, elsewhere.certificate)):
        caller.chain = order
        assert caller.ask().status == 201


def test_five_certificates_in_the_chain_are_the_most(caller):
    """Five are accepted, a sixth is refused, whatever it is."""
    caller.leaf = deep(caller, 5).issue()
    caller.chain = caller.leaf.chain
    assert len(caller.chain) == 5
    assert caller.ask().status == 201
    caller.chain = (*caller.leaf.chain, caller.root.certificate)
    assert caller.ask().refusal == (400, "ValidationException", "The certificate chain has more than 5 certificates")


@pytest.mark.parametrize("sent", [0, 1])
def test_a_missing_intermediate_is_untrusted(caller, sent):
    """Without every certificate on the way there is no path, even if all the others are there."""
    caller.leaf = deep(caller, 2).issue()
    caller.chain = caller.leaf.chain[:sent]
    assert caller.ask().refusal == UNTRUSTED


def test_a_stranger_is_untrusted(caller):
    """A certificate of another CA is refused, also when that CA has the trust anchor's name."""
    for name in ("stranger", "Test root"):
        stranger = make_root(common_name=name)
        caller.leaf, caller.chain = stranger.issue(), [stranger.certificate]
        assert caller.ask().refusal == UNTRUSTED


def test_a_self_signed_end_entity_certificate_is_untrusted(caller):
    """Vouching for oneself is not enough."""
    caller.leaf = make_root(ca=False, usage=key_usage("digital_signature"))
    assert caller.ask().refusal == UNTRUSTED


@pytest.mark.parametrize(
    ("defect", "told"),
    [
        ({"not_before": NOW - 2 * DAY, "not_after": NOW - DAY}, "not valid at this time"),
        ({"not_before": NOW + DAY, "not_after": NOW + 2 * DAY}, "not valid at this time"),
        ({"ca": False}, "not a CA certificate"),
        ({"ca": None}, "not a CA certificate"),
        ({"usage": key_usage("digital_signature", "crl_sign")}, "lacks keyCertSign"),
        ({"usage": None}, "lacks keyCertSign"),
        ({"signature_hash": hashes.SHA224()}, "weaker than SHA-256"),
        (
            {
                "extensions": [
                    (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)
                ]
            },
            "critical extension 1.3.6.1.4.1.99999.1",
        ),
        (
            {"extensions": [(x509.NameConstraints([x509.DNSName("example.com")], None), True)]},
            "critical extension 2.5.29.30",
        ),
    ],
)
def test_an_unfit_intermediate_is_untrusted(caller, defect, told):
    """An intermediate that is out of its time or must not issue is no link; the requests file tells why."""
    intermediate = caller.root.issue_authority(**defect)
    caller.leaf, caller.chain = intermediate.issue(), [intermediate.certificate]
    assert caller.ask().refusal == UNTRUSTED
    assert told in caller.log[-1]["detail"]


def test_an_expired_trust_anchor_is_untrusted(caller):
    """The trust anchor's own dates count."""
    caller.root = make_root(not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    caller.leaf, caller.anchor = caller.root.issue(), trust(caller.root)
    assert caller.ask().refusal == UNTRUSTED


@pytest.mark.parametrize(("path_length", "status"), [(0, 403), (1, 201), (2, 201)])
def test_the_path_length_is_kept(caller, path_length, status):
    """A pathLenConstraint bounds the intermediates below it."""
    above = caller.root.issue_authority(common_name="above", path_length=path_length)
    caller.leaf = above.issue_authority(common_name="below").issue()
    caller.chain = caller.leaf.chain
    assert caller.ask().status == status


@pytest.mark.parametrize(
    "defect",
    [
        {"ca": True, "usage": key_usage("digital_signature", "key_cert_sign")},
        {"usage": key_usage("key_encipherment")},
        {"usage": None},
        {"subject": x509.Name([])},
        {"signature_hash": hashes.SHA224()},
        {"extensions": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)]},
    ],
)
def test_an_unfit_end_entity_certificate_is_insufficient(caller, defect):
    """No CA, keyUsage with digitalSignature, SHA-256 or better, a subject, nothing critical that is unknown."""
    caller.leaf = caller.root.issue(**defect)
    assert caller.ask().refusal == INSUFFICIENT


def test_the_trust_anchor_itself_is_insufficient(caller):
    """A CA certificate is no end-entity certificate, not even the trust anchor's."""
    caller.leaf = caller.root
    assert caller.ask().status == 403


def test_basic_constraints_and_extended_key_usage_are_not_needed(caller):
    """Only keyUsage is."""
    caller.leaf = caller.root.issue(ca=None)
    assert caller.ask().status == 201


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        ((NOW - 2 * DAY, NOW - timedelta(seconds=1)), "Certificate expired"),
        ((NOW + timedelta(seconds=1), NOW + DAY), "Certificate not yet valid"),
    ],
)
def test_an_end_entity_certificate_has_its_time(caller, dates, message):
    """Out of its dates, even by a second, a certificate is refused."""
    caller.leaf = caller.root.issue(not_before=dates[0], not_after=dates[1])
    assert caller.ask().refusal == (403, "AccessDeniedException", message)
    caller.leaf = caller.root.issue(not_before=NOW, not_after=NOW)
    assert caller.ask().status == 201


def test_a_revoked_certificate_is_refused(caller):
    """A serial number on the issuer's list is revoked, and only that one."""
    other = caller.root.issue()
    revoked = caller.leaf.certificate.serial_number
    caller.anchor = trust(caller.root, crls=(caller.root.revoke(revoked),))
    assert caller.ask().refusal == REVOKED
    caller.leaf = other
    assert caller.ask().status == 201


def test_a_revoked_intermediate_is_refused(caller):
    """The intermediates on the path must not be revoked either; each issuer's own list counts."""
    intermediate = deep(caller, 1)
    caller.leaf, caller.chain = intermediate.issue(), [intermediate.certificate]
    caller.anchor = trust(caller.root, crls=(caller.root.revoke(intermediate.certificate.serial_number),))
    assert caller.ask().refusal == REVOKED
    caller.anchor = trust(caller.root, crls=(intermediate.revoke(caller.leaf.certificate.serial_number),))
    assert caller.ask().refusal == REVOKED


def test_a_strangers_revocation_list_says_nothing(caller):
    """A list counts when the certificate's issuer signed it; its name alone is not enough."""
    forged = make_root(common_name="Test root").revoke(caller.leaf.certificate.serial_number)
    caller.anchor = trust(caller.root, crls=(forged,))
    assert caller.ask().status == 201


def test_an_intermediate_with_a_long_name_is_matched(caller):
    """Issuers are found by their whole name."""
    caller.root = make_root(common_name="R")
    caller.anchor = trust(caller.root)
    name = make_name("sub", organization_name="Example", country_name="DE", organizational_unit_name="Unit")
    intermediate = caller.root.issue_authority(subject=name)
    caller.leaf, caller.chain = intermediate.issue(), [intermediate.certificate]
    assert caller.ask().status == 201


@pytest.mark.parametrize("forged", [False, True])
def test_a_null_beside_the_algorithm_is_let_through(caller, forged):
    """A NULL beside ecdsa-with-SHA2 is overlooked in every certificate of the path; the issuer's signature is not."""
    root, intermediate = caller.root, deep(caller, 1)
    caller.leaf = intermediate.issue()
    signed = ((root, root), (intermediate, root), (caller.leaf, make_root() if forged else intermediate))
    anchor, above, leaf = (with_null_parameters(each.certificate, by.key) for each, by in signed)
    caller.anchor = TrustAnchor(ANCHOR, (read_certificate(anchor),))
    headers = {"x-amz-x509": leaf, "x-amz-x509-chain": above}
    answer = caller.ask(headers={name: base64.b64encode(der).decode() for name, der in headers.items()})
    assert answer.refusal == UNTRUSTED if forged else answer.status == 201
