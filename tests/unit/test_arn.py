import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekey.arn import ARN, parse_profile_arn, parse_role_arn, parse_trust_anchor_arn
from rolekey.errors import ConfigurationError

# The id is the one of the API reference's own examples, and no UUID: it has an "l" in it.
ID = "41cl0bae-6783-40d4-ab20-65dc5d922e45"
TRUST_ANCHOR = f"arn:aws:rolesanywhere:us-east-1:123456789012:trust-anchor/{ID}"
PROFILE = f"arn:aws:rolesanywhere:us-east-1:123456789012:profile/{ID}"
ROLE = "arn:aws:iam::123456789012:role/Deploy"

PARSERS = {
    "--trust-anchor-arn": (parse_trust_anchor_arn, TRUST_ANCHOR),
    "--profile-arn": (parse_profile_arn, PROFILE),
    "--role-arn": (parse_role_arn, ROLE),
}
EACH = pytest.mark.parametrize(("option", "parse", "good"), [(name, *rest) for name, rest in PARSERS.items()])


def test_sections():
    """The sections of an ARN are told apart; colons after the fifth belong to the resource."""
    assert ARN.parse("arn:aws-cn:logs:cn-north-1:123456789012:log-group:a:b/c") == ARN(
        partition="aws-cn", service="logs", region="cn-north-1", account_id="123456789012", resource="log-group:a:b/c"
    )


@pytest.mark.parametrize("text", [TRUST_ANCHOR, PROFILE, ROLE, "arn:aws:s3:::bucket/key", "arn:aws-iso-b:x::::"])
def test_written_as_read(text):
    """The text of an ARN is exactly what was read."""
    assert str(ARN.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "--x is empty"),
        ("arn", "--x is not an ARN"),
        ("arn:aws:iam", "--x is not an ARN"),
        ("arn:aws:iam::123456789012", "--x is not an ARN"),
        ("urn:aws:iam::123456789012:role/a", "--x is not an ARN"),
        ("ARN:aws:iam::123456789012:role/a", "--x is not an ARN"),
        ("'arn:aws:iam::123456789012:role/a'", "--x is not an ARN"),
        ("arn::iam::123456789012:role/a", "lacks a partition"),
        ("arn:gcp:iam::123456789012:role/a", "lacks a partition"),
        ("arn:aws-:iam::123456789012:role/a", "lacks a partition"),
        ("arn:aws:::123456789012:role/a", "lacks a partition"),
        ("arn:aws:iam::123456789012:", "lacks a partition"),
        (ROLE + " ", f"at position {len(ROLE) + 1}"),
        (" " + ROLE, "at position 1"),
        (ROLE + "\n", f"at position {len(ROLE) + 1}"),
        ("arn:aws:iam::123456789012:role/a\x1bb", "at position 33"),
        ("arn:aws:iam::123456789012:role/a\u2013b", "at position 33"),
        ("arn:aws:iam::123456789012:role/\u200ba", "at position 32"),
        ("arn:aws:iam::123456789012:role/" + "a" * 981, "longer than 1011"),
    ],
)
def test_not_an_arn(text, problem):
    """What is no ARN is refused with the option's name, what is wrong with it, and a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        ARN.parse(text, option="--x")
    assert str(caught.value).startswith("--x ")
    assert problem in str(caught.value)
    assert caught.value.hint


@EACH
@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-eusc", "aws-iso-f"])
def test_every_partition(option, parse, good, partition):
    """The ARN is taken in every partition, also in one that is not known yet."""
    text = good.replace(":aws:", f":{partition}:")
    assert str(parse(text)) == text, option
    assert parse(text).partition == partition


@EACH
def test_the_longest(option, parse, good):
    """An ARN of 1011 characters is taken, one of 1012 is not."""
    head, _, tail = good.rpartition("/")
    filling = 1011 - len(good)
    longest = f"{head}/{'p' * (filling - 1)}/{tail}" if option == "--role-arn" else good + "0" * filling
    assert len(longest) == 1011
    assert str(parse(longest)) == longest
    with pytest.raises(ConfigurationError, match="longer than 1011 characters"):
        parse(longest.replace("/", "/p", 1))


@EACH
@pytest.mark.parametrize("account_id", ["", "12345678901", "1234567890123", "12345678901a", "1234-5678-90", "aws"])
def test_account_id(option, parse, good, account_id):
    """An account id is 12 digits."""
    with pytest.raises(ConfigurationError, match=f"{option} has an account id that is not 12 digits"):
        parse(good.replace("123456789012", account_id))


@pytest.mark.parametrize(
    ("option", "text", "kind"),
    [
        ("--trust-anchor-arn", PROFILE, "a Roles Anywhere profile"),
        ("--trust-anchor-arn", ROLE, "an IAM role"),
        (
            "--trust-anchor-arn",
            f"arn:aws:acm-pca:us-east-1:123456789012:certificate-authority/{ID}",
            "an AWS Private CA",
        ),
        ("--profile-arn", ROLE, "an IAM role"),
        ("--profile-arn", TRUST_ANCHOR, "a Roles Anywhere trust anchor"),
        ("--profile-arn", "arn:aws:iam::123456789012:instance-profile/a", "an IAM instance profile"),
        ("--role-arn", PROFILE, "a Roles Anywhere profile"),
        ("--role-arn", "arn:aws:sts::123456789012:assumed-role/Deploy/me", "an assumed role's session"),
        ("--role-arn", "arn:aws:iam::123456789012:user/me", "an IAM user"),
        ("--role-arn", "arn:aws:s3:::bucket", "something else"),
        ("--role-arn", "arn:aws:iam::123456789012:roles/a", "something else"),
    ],
)
def test_the_wrong_arn(option, text, kind):
    """An ARN of another kind is named as what it is, and the hint shows the right kind."""
    parse, good = PARSERS[option]
    with pytest.raises(ConfigurationError, match=f"{option} is the ARN of {kind}, not of an?") as caught:
        parse(text)
    assert good.partition("/")[0].replace("us-east-1", "REGION") in caught.value.hint


@pytest.mark.parametrize("option", ["--trust-anchor-arn", "--profile-arn"])
@pytest.mark.parametrize(
    ("region", "problem"),
    [
        ("", "has no region"),
        ("evil.example/", "a region that cannot be one"),
        ("us_east_1", "a region that cannot be one"),
        ("-us", "a region that cannot be one"),
        ("a" * 64, "a region that cannot be one"),
    ],
)
def test_region(option, region, problem):
    """The region is there and can be a part of a host name, and of nothing else in a URL."""
    parse, good = PARSERS[option]
    with pytest.raises(ConfigurationError, match=problem):
        parse(good.replace("us-east-1", region))


def test_role_has_no_region():
    """A role is in no region."""
    with pytest.raises(ConfigurationError, match="--role-arn has a region"):
        parse_role_arn("arn:aws:iam:us-east-1:123456789012:role/Deploy")


@pytest.mark.parametrize(
    ("option", "resource"),
    [
        ("--trust-anchor-arn", "trust-anchor"),
        ("--trust-anchor-arn", "trust-anchor/"),
        ("--trust-anchor-arn", "trust-anchor:a"),
        ("--trust-anchor-arn", "trust-anchor/a/b"),
        ("--profile-arn", "profile/"),
        ("--profile-arn", "profile/a:b"),
        ("--role-arn", "role"),
        ("--role-arn", "role/"),
        ("--role-arn", "role:a"),
        ("--role-arn", "role/path/"),
        ("--role-arn", "role/a*b"),
        ("--role-arn", "role/" + "a" * 65),
    ],
)
def test_resource(option, resource):
    """The resource has the shape of its kind: one id, or a role's path and name."""
    parse, good = PARSERS[option]
    with pytest.raises(ConfigurationError, match=f"{option} does not name an? .* after the account id"):
        parse(good.rpartition(":")[0] + ":" + resource)


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ("role/Deploy", "Deploy"),
        ("role/service-role/ci/Deploy", "Deploy"),
        ("role/a:b*/Deploy", "Deploy"),
        ("role/x_+=,.@-9", "x_+=,.@-9"),
        ("role/" + "a" * 64, "a" * 64),
    ],
)
def test_role_name(resource, name):
    """A role's name is what follows its path."""
    assert parse_role_arn(f"arn:aws:iam::123456789012:{resource}").role_name == name


SECTIONS = (
    "arn",
    "aws",
    "aws-cn",
    "iam",
    "rolesanywhere",
    "us-east-1",
    "",
    "123456789012",
    "role/a",
    "profile/",
    "a/b",
)


@given(st.text() | st.lists(st.sampled_from(SECTIONS) | st.text(), max_size=8).map(":".join))
def test_nothing_but_configuration_error(text):
    """Any text at all is either an ARN that is written as it was read, or a ConfigurationError."""
    for parse in (ARN.parse, parse_trust_anchor_arn, parse_profile_arn, parse_role_arn):
        try:
            assert str(parse(text)) == text
        except ConfigurationError:
            continue
