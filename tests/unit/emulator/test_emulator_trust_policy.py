"""Trust policies: what is evaluated, how, and that nothing else is let through."""

from dataclasses import replace

import pytest
from cryptography import x509

from rolekey.emulator.trust_policy import ACTIONS, PolicyError, parse
from support.emulator_caller import ANCHOR, ROLE
from support.pki import make_name

CN = "aws:PrincipalTag/x509Subject/CN"
CONTEXT = {
    CN: "machine-1",
    "aws:PrincipalTag/x509Subject/OU": "a/b",
    "aws:PrincipalTag/x509Issuer/CN": "Test root",
    "aws:PrincipalTag/x509SAN/DNS": "m1.example.com",
    "aws:PrincipalTag/x509SAN/URI": "spiffe://example.com/m1",
    "aws:PrincipalTag/x509SAN/Name/CN": "inner",
    "aws:SourceArn": ANCHOR,
    "aws:SourceAccount": "123456789012",
    "sts:SourceIdentity": "CN=machine-1",
}


def policy(condition=None, *, effect="Allow", principal=None, action=None, more=()):
    statement = {
        "Effect": effect,
        "Principal": principal or {"Service": "rolesanywhere.amazonaws.com"},
        "Action": action or list(ACTIONS),
    }
    if condition is not None:
        statement["Condition"] = condition
    return {"Version": "2012-10-17", "Statement": [statement, *more]}


CONDITIONS = [
    ({"StringEquals": {CN: "machine-1"}}, True),
    ({"StringEquals": {CN: "Machine-1"}}, False),
    ({"StringEquals": {CN: ["other", "machine-1"]}}, True),
    ({"StringEquals": {CN: "machine-*"}}, False),
    ({"StringEquals": {"AWS:principaltag/X509Subject/cn": "machine-1"}}, True),
    ({"StringEquals": {"aws:PrincipalTag/x509Subject/O": "x"}}, False),
    ({"StringEqualsIfExists": {"aws:PrincipalTag/x509Subject/O": "x"}}, True),
    ({"StringEqualsIfExists": {CN: "x"}}, False),
    ({"StringNotEquals": {CN: "machine-2"}}, True),
    ({"StringNotEquals": {CN: ["machine-2", "machine-1"]}}, False),
    ({"StringNotEquals": {"aws:PrincipalTag/x509Subject/O": "x"}}, True),
    ({"StringNotEqualsIfExists": {CN: "machine-1"}}, False),
    ({"StringLike": {CN: "machine-?"}}, True),
    ({"StringLike": {CN: "machine-??"}}, False),
    ({"StringLike": {CN: "*"}}, True),
    ({"StringLike": {CN: "machine.1"}}, False),
    ({"StringLikeIfExists": {"aws:PrincipalTag/x509SAN/URI": "https://*"}}, False),
    ({"StringNotLike": {CN: "machine-*"}}, False),
    ({"StringNotLike": {CN: "test-*"}}, True),
    ({"StringNotLikeIfExists": {CN: "machine-*"}}, False),
    ({"ArnEquals": {"aws:SourceArn": ANCHOR}}, True),
    ({"ArnEquals": {"aws:SourceArn": ANCHOR[:-1]}}, False),
    ({"ArnLike": {"aws:SourceArn": "arn:aws:rolesanywhere:eu-west-1:*:trust-anchor/*"}}, True),
    ({"ArnLike": {"aws:SourceArn": "arn:aws:rolesanywhere:*:trust-anchor/*"}}, False),
    ({"ArnLike": {"aws:SourceArn": "*"}}, False),
    ({"ArnLikeIfExists": {"aws:SourceArn": "arn:aws:iam:*:*:*"}}, False),
    ({"ArnEqualsIfExists": {"aws:SourceArn": ANCHOR}}, True),
    ({"StringEquals": {"aws:SourceAccount": "123456789012"}}, True),
    ({"StringEquals": {"aws:SourceAccount": "210987654321"}}, False),
    ({"StringEquals": {"sts:SourceIdentity": "CN=machine-1"}}, True),
    ({"StringLike": {"sts:SourceIdentity": "CN=machine-?"}}, True),
    ({"StringEquals": {"aws:PrincipalTag/x509Issuer/CN": "Test root"}}, True),
    ({"StringEquals": {"aws:PrincipalTag/x509SAN/DNS": "m1.example.com"}}, True),
    ({"StringLike": {"aws:PrincipalTag/x509SAN/URI": "spiffe://example.com/*"}}, True),
    ({"StringEquals": {"aws:PrincipalTag/x509SAN/Name/CN": "inner"}}, True),
    ({"StringEquals": {CN: "machine-1"}, "ArnEquals": {"aws:SourceArn": "arn:aws:a:b:c:d"}}, False),
    ({"StringEquals": {CN: "machine-1", "aws:PrincipalTag/x509Subject/OU": "a/b"}}, True),
    ({"StringEquals": {CN: "machine-1", "aws:PrincipalTag/x509Subject/OU": "b"}}, False),
    ({}, True),
]


@pytest.mark.parametrize(("condition", "allowed"), CONDITIONS)
def test_a_condition_holds_or_not(condition, allowed):
    """Operators, several values (or), several keys (and), missing keys and IfExists, as IAM evaluates them."""
    assert (parse(policy(condition)).refused_action(CONTEXT) is None) is allowed


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        ({"Service": "rolesanywhere.amazonaws.com"}, True),
        ({"Service": ["ec2.amazonaws.com", "rolesanywhere.amazonaws.com"]}, True),
        ({"Service": "ec2.amazonaws.com"}, False),
        ({"AWS": "arn:aws:iam::123456789012:root"}, False),
        ({"AWS": "*"}, True),
        ({"Federated": "cognito-identity.amazonaws.com"}, False),
        ("*", True),
    ],
)
def test_the_principal_must_be_the_service(principal, allowed):
    """Another principal's statement allows nothing."""
    assert (parse(policy(principal=principal)).refused_action({}) is None) is allowed


@pytest.mark.parametrize(
    ("action", "refused"),
    [
        ("sts:*", None),
        ("*", None),
        ("STS:assumerole", "sts:TagSession"),
        (["sts:AssumeRole", "sts:SetSourceIdentity"], "sts:TagSession"),
        (["sts:AssumeRole", "sts:TagSession"], "sts:SetSourceIdentity"),
        (["sts:TagSession", "sts:SetSourceIdentity"], "sts:AssumeRole"),
        (["sts:?ssumeRole", "sts:T*", "sts:Set*"], None),
    ],
)
def test_all_three_actions_are_needed(action, refused):
    """Without one of AssumeRole, TagSession and SetSourceIdentity the role is refused, and it is known which."""
    assert parse(policy(action=action)).refused_action({}) == refused


def test_the_actions_may_be_allowed_by_several_statements():
    """Statements add up."""
    first = policy(action=["sts:AssumeRole"])["Statement"]
    assert parse(policy(action=["sts:TagSession", "sts:SetSourceIdentity"], more=first)).refused_action({}) is None


def test_an_explicit_deny_wins():
    """What one statement denies no other allows; a deny whose condition fails denies nothing."""
    denied = policy({"StringEquals": {CN: "machine-1"}}, effect="Deny", action="sts:TagSession")["Statement"]
    assert parse(policy(more=denied)).refused_action(CONTEXT) == "sts:TagSession"
    assert parse(policy(more=denied)).refused_action({**CONTEXT, CN: "machine-2"}) is None


def test_a_policy_may_have_one_statement_without_a_list():
    """Statement may be an object."""
    document = policy()
    document["Statement"] = document["Statement"][0]
    assert parse(document).refused_action({}) is None


MALFORMED = [
    ("text", "the policy must be an object"),
    ({"Statement": []}, "Statement must be"),
    ({"Statement": "x"}, "Statement must be"),
    ({"Statement": ["x"]}, "Statement[0] must be an object"),
    ({**policy(), "Version": "2020-01-01"}, "Version must be one of"),
    ({**policy(), "Extra": 1}, "Extra is not evaluated here"),
    (policy({"StringEqualsIgnoreCase": {CN: "x"}}), "StringEqualsIgnoreCase is an operator"),
    (policy({"ForAnyValue:StringEquals": {CN: "x"}}), "is an operator that is not evaluated here"),
    (policy({"Null": {CN: "true"}}), "Null is an operator"),
    (policy({"IfExists": {CN: "true"}}), "IfExists is an operator"),
    (policy({"StringEquals": {"aws:PrincipalTag/team": "x"}}), "aws:PrincipalTag/team is a condition key"),
    (policy({"StringEquals": {"aws:PrincipalTag/x509Subject/": "x"}}), "is a condition key"),
    (policy({"StringEquals": {"aws:SourceIp": "x"}}), "aws:SourceIp is a condition key"),
    (policy({"StringEquals": {CN: "${aws:SourceArn}"}}), "policy variables"),
    (policy({"StringEquals": {CN: 1}}), "must be a string or a list of strings"),
    (policy({"StringEquals": {CN: []}}), "must be a string or a list of strings"),
    (policy({"StringEquals": "x"}), "StringEquals must be an object"),
    (policy("x"), "Condition must be an object"),
    (policy(effect="allow"), "Effect must be Allow or Deny"),
    (policy(principal="rolesanywhere.amazonaws.com"), "Principal must be"),
    (policy(principal={"Robot": "x"}), "Robot is not evaluated here"),
    (policy(action=[1]), "Action must be"),
    ({"Statement": {"Effect": "Allow", "Principal": "*", "NotAction": "x"}}, "NotAction is not evaluated here"),
    ({"Statement": {"Effect": "Allow", "NotPrincipal": "*", "Action": "x"}}, "NotPrincipal is not evaluated here"),
    ({"Statement": {"Effect": "Allow", "Principal": "*"}}, "Action must be"),
]


@pytest.mark.parametrize(("document", "told"), MALFORMED)
def test_what_is_not_evaluated_is_an_error_at_once(document, told):
    """An element, operator or key that is unknown is named when the policy is read, never passed over."""
    with pytest.raises(PolicyError) as caught:
        parse(document)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"StringEquals": {CN: "machine"}}, 201),
        ({"StringEquals": {CN: "other"}}, 403),
        ({"StringEquals": {"aws:PrincipalTag/x509Issuer/CN": "Test root"}}, 201),
        ({"StringEquals": {"aws:PrincipalTag/x509SAN/DNS": "first.example.com"}}, 201),
        ({"StringEquals": {"aws:PrincipalTag/x509SAN/DNS": "second.example.com"}}, 403),
        ({"StringEquals": {"aws:PrincipalTag/x509SAN/URI": "spiffe://example.com/a"}}, 201),
        ({"StringEquals": {"aws:PrincipalTag/x509SAN/Name/CN": "inner"}}, 201),
        ({"ArnEquals": {"aws:SourceArn": ANCHOR}}, 201),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:rolesanywhere:us-east-1:*:trust-anchor/*"}}, 403),
        ({"StringEquals": {"aws:SourceAccount": "123456789012"}}, 201),
        ({"StringEquals": {"sts:SourceIdentity": "CN=machine"}}, 201),
        ({"StringEquals": {"sts:SourceIdentity": "machine"}}, 403),
    ],
)
def test_a_roles_policy_sees_the_certificate(caller, condition, status):
    """The names in the certificate, the trust anchor and the source identity reach the conditions."""
    names = [
        x509.DNSName("first.example.com"),
        x509.DNSName("second.example.com"),
        x509.UniformResourceIdentifier("spiffe://example.com/a"),
        x509.DirectoryName(make_name("inner")),
    ]
    caller.leaf = caller.root.issue(common_name="machine", alternative_names=names)
    caller.role = replace(caller.role, trust_policy=parse(policy(condition)))
    answer = caller.ask()
    assert answer.status == status
    if status == 403:
        assert answer.refusal == (403, "AccessDeniedException", f"Unable to assume role for {ROLE}.")
        assert caller.log[-1]["detail"] == "the trust policy does not allow sts:AssumeRole"
