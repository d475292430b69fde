"""The trust policy that `rolekey trust-policy` prints, as the emulator evaluates it."""

import json
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from rolekey.arn import ARN, parse_trust_anchor_arn
from rolekey.emulator.model import Role
from rolekey.emulator.trust_policy import parse
from rolekey.errors import CertificateError, ConfigurationError
from rolekey.vend.trust_policy import trust_policy_json
from support.emulator_caller import ANCHOR, ROLE, make_caller, trust
from support.pki import make_name, make_root
from support.process import rolekey

LONG = "x" * 64


@pytest.fixture
def caller():
    """A machine whose certificate the trust anchor's root issued."""
    return make_caller()


def with_policy_for(caller, certificate, anchor=ANCHOR):
    """The same caller, and a role with the policy for a certificate."""
    document = json.loads(trust_policy_json(certificate, ARN.parse(anchor)))
    return replace(caller, role=Role(ROLE, trust_policy=parse(document)))


def test_the_command_prints_what_the_service_accepts(caller, tmp_path):
    """The printed document lets its certificate in, and no other one of the same CA; neither role nor profile is named.

    A certificate that has been renewed under its name is let in, too.
    """
    certificate, _ = caller.leaf.write(tmp_path, "leaf")
    printed = rolekey("trust-policy", "--trust-anchor-arn", ANCHOR, "--certificate", str(certificate))
    assert (printed.code, printed.stderr) == (0, "")
    caller.role = Role(ROLE, trust_policy=parse(json.loads(printed.stdout)))
    assert caller.ask().status == 201
    assert replace(caller, leaf=caller.root.issue(common_name="machine")).ask().status == 201
    for other in (
        caller.root.issue(common_name="machine-2"),
        caller.root.issue(common_name="Machine"),
        caller.root.issue(subject=make_name(None, organization_name="machine")),
    ):
        assert replace(caller, leaf=other).ask().status == 403


def test_another_issuer_is_refused(caller):
    """A certificate of the same name, which another CA under the same trust anchor issued, is refused."""
    authority = caller.root.issue_authority(common_name="Another CA")
    leaf = authority.issue(common_name="machine")
    elsewhere = replace(caller, leaf=leaf, chain=leaf.chain)
    assert elsewhere.ask().status == 201
    assert with_policy_for(elsewhere, caller.leaf.certificate).ask().status == 403
    assert with_policy_for(elsewhere, leaf.certificate).ask().status == 201


def test_another_trust_anchor_is_refused(caller):
    """So is the very certificate, where another trust anchor vouches for it."""
    assert with_policy_for(caller, caller.leaf.certificate, f"{ANCHOR[:-1]}0").ask().status == 403


@pytest.mark.parametrize(
    "subject",
    [
        make_name("Füße 1/2 _.:/=+-@"),
        make_name(LONG),
        make_name(None, organization_name="Example"),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("first", "second")]),
    ],
)
def test_names_of_every_kind(caller, subject):
    """A name with every sign that a tag takes, a long one, two, and none: the certificate is let in, another is not."""
    leaf = caller.root.issue(subject=subject, serial=0xABC)
    policed = with_policy_for(replace(caller, leaf=leaf), leaf.certificate)
    assert policed.ask().status == 201
    assert replace(policed, leaf=caller.root.issue(common_name="machine")).ask().status == 403
    other = caller.root.issue(subject=make_name(None, organization_name="Example"), serial=0xABD)
    assert replace(policed, leaf=other).ask().status == 403


@pytest.mark.parametrize("name", ["a*b", "a?b", "${aws:username}", "a\nb", "a,b", "a(b)"])
def test_a_name_that_no_tag_can_hold(caller, name):
    """A common name that is left out of the tags is refused: a policy with it would never hold, or hold for others."""
    leaf = caller.root.issue(common_name=name)
    with pytest.raises(CertificateError, match="cannot be a session tag"):
        trust_policy_json(leaf.certificate, ARN.parse(ANCHOR))
    root = make_root(common_name=name)
    with pytest.raises(CertificateError, match="the issuer's common name"):
        trust_policy_json(root.issue(common_name="machine").certificate, ARN.parse(ANCHOR))


@pytest.mark.parametrize("end", ["*", "?", "1*", "${x}"])
def test_an_anchor_with_a_wildcard(caller, end):
    """ArnEquals takes wildcards: an ARN with one would trust every anchor, and is refused."""
    anchor = parse_trust_anchor_arn(f"{ANCHOR.rpartition('/')[0]}/{end}")
    with pytest.raises(ConfigurationError, match="wildcard"):
        trust_policy_json(caller.leaf.certificate, anchor)


def test_it_trusts_the_anchor_that_is_there(caller):
    """The rig tells accepted from refused: without a policy of its own the role lets every certificate in."""
    stranger = make_root()
    assert replace(caller, leaf=caller.root.issue(common_name="x")).ask().status == 201
    assert replace(caller, anchor=trust(stranger)).ask().status == 403
