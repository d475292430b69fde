"""What a signature must cover, when it must have been made, and by which key (authentication-sign-process)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from support.emulator_caller import NOW, PROFILE, ROLE, send, trust
from support.pki import KEY_NAMES, make_root

INVALID = (403, "AccessDeniedException", "Invalid signature")


@pytest.mark.parametrize("key", KEY_NAMES)
@pytest.mark.parametrize("depth", [0, 2])
def test_every_kind_of_key_is_accepted(caller, key, depth):
    """RSA, P-256, P-384, P-521 and ML-DSA sign requests, with and without intermediates."""
    issuer = caller.root
    for level in range(depth):
        issuer = issuer.issue_authority(common_name=f"intermediate {level}")
    caller.leaf = issuer.issue(key)
    caller.chain = caller.leaf.chain
    assert caller.ask().status == 201


@pytest.mark.parametrize("key", ["rsa2048", "mldsa65"])
def test_authorities_of_every_kind_are_believed(caller, key):
    """RSA and ML-DSA authorities issue certificates as EC ones do."""
    root = make_root(key)
    caller.anchor = trust(root)
    intermediate = root.issue_authority(key)
    caller.leaf, caller.chain = intermediate.issue(), [intermediate.certificate]
    assert caller.ask().status == 201


@pytest.mark.parametrize("seconds", [-300, -1, 0, 299])
def test_a_date_within_five_minutes_is_accepted(caller, seconds):
    """X-Amz-Date may be five minutes off in either direction."""
    assert caller.ask(date=NOW + timedelta(seconds=seconds)).status == 201


@pytest.mark.parametrize("seconds", [-86400, -1800, -301, 301])
def test_a_date_further_off_is_an_invalid_signature(caller, seconds):
    """A request that was signed too long ago, or too far ahead, gets the service's words for it."""
    assert caller.ask(date=NOW + timedelta(seconds=seconds)).refusal == INVALID
    assert "the time here is" in caller.log[-1]["detail"]


def test_a_scope_of_another_day_is_refused(caller):
    """The credential scope's date is that of X-Amz-Date, even when both days are near."""
    caller.now = datetime(2030, 1, 2, 0, 1, tzinfo=UTC)
    caller.leaf = caller.root.issue(not_after=datetime(2040, 1, 1, tzinfo=UTC))
    caller.anchor = trust(caller.root)
    caller.root = make_root(not_after=datetime(2040, 1, 1, tzinfo=UTC))
    caller.leaf = caller.root.issue(not_after=datetime(2040, 1, 1, tzinfo=UTC))
    caller.anchor = trust(caller.root)
    assert caller.ask(date=caller.now - timedelta(minutes=2)).status == 201
    answer = caller.ask(scope_date="20300101")
    assert answer.refusal == (
        403,
        "AccessDeniedException",
        "The credential scope must be 20300102/eu-west-1/rolesanywhere/aws4_request",
    )


@pytest.mark.parametrize("changes", [{"region": "us-east-1"}, {"service": "sts"}])
def test_another_scope_is_refused(caller, changes):
    """The scope names the trust anchor's region and the service rolesanywhere."""
    assert caller.ask(**changes).refusal[2].startswith("The credential scope must be ")


@pytest.mark.parametrize("serial", ["1", "0{}", "{}0"])
def test_the_serial_number_must_be_the_certificates(caller, serial):
    """Credential starts with the certificate's serial number in decimal, without leading zeros."""
    wrong = serial.format(caller.leaf.certificate.serial_number)
    status, _, message = caller.ask(serial=wrong).refusal
    assert (status, message) == (
        403,
        "The serial number in Credential is not that of the certificate in X-Amz-X509",
    )


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        ("p256", "AWS4-X509-RSA-SHA256"),
        ("p384", "AWS4-X509-MLDSA"),
        ("rsa2048", "AWS4-X509-ECDSA-SHA256"),
        ("mldsa44", "AWS4-X509-RSA-SHA256"),
    ],
)
def test_the_algorithm_follows_the_key(caller, key, algorithm):
    """A signature that verifies under the name of another kind of key is refused."""
    caller.leaf = caller.root.issue(key)
    assert caller.ask(algorithm=algorithm).refusal == INVALID


@pytest.mark.parametrize("algorithm", ["AWS4-X509-ECDSA-SHA384", "AWS4-HMAC-SHA256", "aws4-x509-ecdsa-sha256"])
def test_an_unknown_algorithm_is_refused(caller, algorithm):
    """There are three algorithm names."""
    assert caller.ask(algorithm=algorithm).refusal[2] == "Malformed Authorization header"


def test_the_key_of_another_certificate_is_refused(caller):
    """Having a certificate is not having its key."""
    other = caller.root.issue()
    caller.leaf = replace(caller.leaf, key=other.key)
    assert caller.ask().refusal == INVALID
    assert "hash of the canonical request: " in caller.log[-1]["detail"]


@pytest.mark.parametrize("part", ["body", "query", "header"])
def test_a_changed_request_is_refused(caller, part):
    """What was signed cannot be changed on the way: another body, query or header does not verify."""
    wire = caller.wire(headers={"x-extra": "1"})
    changed = {
        "body": replace(wire, body=wire.body + b" "),
        "query": replace(wire, query=wire.query.replace(b"example", b"another")),
        "header": wire.with_header("x-extra", "2"),
    }[part]
    assert changed != wire
    assert send(caller.app(), wire).status == 201
    assert send(caller.app(), changed).refusal == INVALID


@pytest.mark.parametrize("name", ["host", "x-amz-date", "x-amz-x509", "content-type", "x-amz-x509-chain"])
def test_a_header_that_matters_must_be_signed(caller, name):
    """Host, date and certificate always, content type and chain when they are sent."""
    intermediate = caller.root.issue_authority()
    caller.leaf, caller.chain = intermediate.issue(), [intermediate.certificate]
    assert caller.ask(unsigned=[name]).refusal == (
        403,
        "AccessDeniedException",
        f"The header {name} must be signed",
    )


@pytest.mark.parametrize("name", ["host", "x-amz-date", "x-amz-x509", "authorization", "x-extra"])
def test_a_header_that_is_missing_is_named(caller, name):
    """A header that is required or listed as signed must be there."""
    wire = caller.wire(headers={"x-extra": "1"}).with_header(name, None)
    assert send(caller.app(), wire).refusal == (403, "AccessDeniedException", f"The header {name} is missing")


@pytest.mark.parametrize("path", ["/prefix/sessions", "/a/b%20c/sessions", "//sessions"])
def test_a_path_prefix_may_be_signed_or_not(caller, path):
    """The official helper signs /sessions whatever the endpoint's path; a client that signs the path is right, too."""
    assert caller.ask(path=path).status == 201
    assert caller.ask(path=path, signed_path=path.replace("%", "%25")).status == 201
    assert caller.ask(path=path, signed_path="/other/sessions").refusal == INVALID


def test_an_equals_sign_in_the_query_may_be_encoded_once_or_twice(caller):
    """The document says twice, the official helper does it once; a role's name may hold one."""
    role = "arn:aws:iam::123456789012:role/a=b"
    caller.profile = replace(caller.profile, role_arns=(role,))
    query = {"profileArn": PROFILE, "roleArn": role, "trustAnchorArn": caller.anchor.arn}
    assert caller.ask(query=query).status == 201
    twice = "&".join(
        f"{name}={value.replace(':', '%3A').replace('/', '%2F').replace('=', '%253D')}" for name, value in query.items()
    )
    assert caller.ask(query=query, canonical_query=twice).status == 201


def test_the_arns_may_stand_in_the_body(caller):
    """Query and body are equal places for members, and both may hold the same."""
    arns = {"profileArn": PROFILE, "roleArn": ROLE, "trustAnchorArn": caller.anchor.arn}
    assert caller.ask(body=arns, query={}).status == 201
    assert caller.ask(body=arns).status == 201


CREDENTIAL = "AWS4-X509-ECDSA-SHA256 Credential=1/20260101/eu-west-1/rolesanywhere/aws4_request"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "AWS4-X509-ECDSA-SHA256",
        "Basic dXNlcjpwYXNz",
        CREDENTIAL,
        f"{CREDENTIAL}, SignedHeaders=host",
        f"{CREDENTIAL}, SignedHeaders=x-amz-date;host, Signature=00",
        f"{CREDENTIAL}, SignedHeaders=Host, Signature=00",
        f"{CREDENTIAL}, SignedHeaders=host;host, Signature=00",
        f"{CREDENTIAL}, SignedHeaders=;host, Signature=00",
        f"{CREDENTIAL}, SignedHeaders=host, Signature=0G",
        f"{CREDENTIAL}, SignedHeaders=host, Signature=AA",
        f"{CREDENTIAL}, SignedHeaders=host, Signature=000",
        f"{CREDENTIAL}, SignedHeaders=host, Signature=00, Signature=00",
        "\xff" * 100,
    ],
)
def test_a_malformed_authorization_is_refused(caller, value):
    """Anything but algorithm, credential, sorted lower-case header names and a lower-case hex signature."""
    wire = caller.wire().with_header("authorization", value)
    assert send(caller.app(), wire).refusal == (403, "AccessDeniedException", "Malformed Authorization header")


def test_bytes_above_ascii_in_a_signed_header_are_signed_as_they_are(caller):
    """A header's bytes are hashed, not some text that was made of them."""
    assert caller.ask(headers={"x-extra": "caf\xe9"}).status == 201
