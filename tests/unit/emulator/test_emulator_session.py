"""What is asked for and what is given: members, durations, names, tags, the 201 document and the requests file."""

import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from rolekey.emulator import Configuration, Emulator
from rolekey.emulator.certificates import read_certificate
from rolekey.emulator.model import Profile
from rolekey.emulator.principal import serial_hex, session_tags, source_identity
from rolekey.emulator.session import TemporaryCredentials
from support.emulator_caller import ANCHOR, NOW, PROFILE, ROLE, Caller, send
from support.pki import make_name, make_root

VALIDATION = (400, "ValidationException")


def with_certificate(**overrides):
    return read_certificate(make_root().issue(**overrides).der)


def test_the_document_is_complete(caller: Caller):
    """Every member that the service documents is there, and they agree with each other."""
    answer = caller.ask()
    (session,) = answer.document["credentialSet"]
    name = f"{caller.leaf.certificate.serial_number:x}"
    assert answer.status == 201
    assert session["assumedRoleUser"]["arn"] == f"arn:aws:sts::123456789012:assumed-role/example/{name}"
    assert re.fullmatch(f"AROA[0-9A-F]{{17}}:{name}", session["assumedRoleUser"]["assumedRoleId"])
    assert session["roleArn"] == ROLE
    assert session["sourceIdentity"] == "CN=machine"
    assert 0 <= session["packedPolicySize"] <= 100
    credentials = session["credentials"]
    assert re.fullmatch("ASIA[A-Z2-7]{16}", credentials["accessKeyId"])
    assert len(credentials["secretAccessKey"]) == 40
    assert len(credentials["sessionToken"]) == 400
    assert credentials["expiration"] == (NOW + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert re.fullmatch(
        r"arn:aws:rolesanywhere:eu-west-1:123456789012:subject/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        answer.document["subjectArn"],
    )


def test_every_answer_has_an_id_and_a_date(caller: Caller):
    """A client can measure its clock by any answer, and name the request."""
    good, bad = caller.ask(), caller.ask(region="us-east-1")
    for answer in (good, bad):
        assert re.fullmatch("[0-9a-f-]{36}", answer.headers["x-amzn-requestid"])
        assert answer.headers["date"] == NOW.strftime("%a, %d %b %Y %H:%M:%S GMT")
        assert answer.headers["content-type"] == "application/json"
    assert good.headers["x-amzn-requestid"] != bad.headers["x-amzn-requestid"]


def test_credentials_come_from_where_they_are_minted(caller: Caller):
    """What makes credentials can be replaced, and is told about the session."""
    seen = []

    def mint(session):
        seen.append(session)
        return TemporaryCredentials("ASIAEXAMPLE", "secret", "token")

    configuration = Configuration({ANCHOR: caller.anchor}, {PROFILE: caller.profile})
    answer = send(Emulator(configuration, clock=lambda: NOW, mint=mint), caller.wire())
    assert answer.document["credentialSet"][0]["credentials"]["secretAccessKey"] == "secret"
    assert (seen[0].role_arn, seen[0].duration_seconds, seen[0].source_identity) == (ROLE, 3600, "CN=machine")


@pytest.mark.parametrize(
    ("asked", "profile", "role", "granted"),
    [
        (None, 3600, 3600, 3600),
        (900, 3600, 3600, 900),
        (7200, 3600, 43200, 3600),
        (43200, 43200, 43200, 43200),
        (43200, 3600, 3600, 3600),
        (3600.0, 3600, 3600, 3600),
        (7200, 43200, 3600, None),
        (None, 7200, 3600, None),
    ],
)
def test_the_duration_is_the_smaller_of_profile_and_request(caller: Caller, asked, profile, role, granted):
    """The profile's or the request's, whichever is smaller; above the role's it is refused."""
    caller.profile = replace(caller.profile, duration_seconds=profile)
    caller.role = replace(caller.role, max_session_duration=role)
    answer = caller.ask(body={} if asked is None else {"durationSeconds": asked})
    if granted is None:
        words = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        message = f"Unable to assume role for {ROLE}. {words}"
        assert answer.refusal == (403, "AccessDeniedException", message)
    else:
        expiration = answer.document["credentialSet"][0]["credentials"]["expiration"]
        assert expiration == (NOW + timedelta(seconds=granted)).strftime("%Y-%m-%dT%H:%M:%SZ")


def constraint(value, field, text):
    return (
        *VALIDATION,
        f"1 validation error detected: Value {value} at '{field}' failed to satisfy constraint: {text}",
    )


NAME_PATTERN = "Member must satisfy regular expression pattern: [a-zA-Z0-9_=,.@-]*"
MEMBERS = [
    ({"durationSeconds": 43201}, ("'43201'", "durationSeconds", "Member must have value less than or equal to 43200")),
    ({"durationSeconds": 899}, ("'899'", "durationSeconds", "Member must have value greater than or equal to 900")),
    ({"durationSeconds": -1}, ("'-1'", "durationSeconds", "Member must have value greater than or equal to 900")),
    ({"durationSeconds": 10**40}, ("'...'", "durationSeconds", "Member must have value less than or equal to 43200")),
    ({"durationSeconds": 3600.5}, ("'3600.5'", "durationSeconds", "Member must be an integer")),
    ({"durationSeconds": "3600"}, ("'3600'", "durationSeconds", "Member must be an integer")),
    ({"durationSeconds": True}, ("'true'", "durationSeconds", "Member must be an integer")),
    ({"roleSessionName": "a b"}, ("'a b'", "roleSessionName", NAME_PATTERN)),
    ({"roleSessionName": "a+b"}, ("'a+b'", "roleSessionName", NAME_PATTERN)),
    ({"sessionName": "a/b"}, ("'a/b'", "roleSessionName", NAME_PATTERN)),
    ({"roleSessionName": "a"}, ("'a'", "roleSessionName", "Member must have length between 2 and 64")),
    ({"roleSessionName": "a" * 65}, (f"'{'a' * 65}'", "roleSessionName", "Member must have length between 2 and 64")),
    ({"roleSessionName": 5}, ("'5'", "roleSessionName", "Member must be a string")),
]


@pytest.mark.parametrize(("body", "expected"), MEMBERS)
def test_a_member_that_breaks_its_constraint_is_named(caller: Caller, body, expected):
    """The service's validator's sentence, with the value and the member."""
    caller.profile = replace(caller.profile, accept_role_session_name=True)
    assert caller.ask(body=body).refusal == constraint(*expected)


@pytest.mark.parametrize("name", ["profileArn", "roleArn", "trustAnchorArn"])
def test_an_arn_must_be_there_and_be_one(caller: Caller, name):
    """A missing or malformed ARN is named."""
    arns = {"profileArn": PROFILE, "roleArn": ROLE, "trustAnchorArn": ANCHOR}
    missing = {key: value for key, value in arns.items() if key != name}
    assert caller.ask(query=missing).refusal == constraint("null", name, "Member must not be null")
    for wrong in ("x", "arn:aws:s3:::bucket", ""):
        status, kind, message = caller.ask(query={**arns, name: wrong}).refusal
        assert (status, kind) == VALIDATION
        assert f"Value '{wrong}' at '{name}' failed to satisfy constraint: Member must satisfy" in message
    long = arns[name] + "x" * 1011
    assert "Member must have length between 1 and 1011" in caller.ask(query={**arns, name: long}).refusal[2]


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({"roleArn": ROLE}, {"roleArn": ROLE + "x"}),
        ({"durationSeconds": "900"}, {"durationSeconds": 901}),
        ({"roleSessionName": "one"}, {"sessionName": "two"}),
        ({}, {"roleSessionName": "one", "sessionName": "two"}),
    ],
)
def test_query_and_body_must_not_differ(caller: Caller, query, body):
    """Which of two values the service takes is not known, so neither is."""
    arns = {"profileArn": PROFILE, "roleArn": ROLE, "trustAnchorArn": ANCHOR}
    assert caller.ask(query=arns | query, body=body).refusal[2].startswith("The request gives ")


@pytest.mark.parametrize("raw", [b"a=1&a", b"roleArn=%zz", b"roleArn=%f", b"&", b"roleArn=%ff", b"\xff=1"])
def test_a_malformed_query_is_refused(caller: Caller, raw):
    """Cut-off escapes, empty pairs and other encodings are no query."""
    answer = send(caller.app(), replace(caller.wire(), query=raw))
    assert 400 <= answer.status < 500


def test_a_member_twice_in_the_query_is_refused(caller: Caller):
    """Two values of one member are one too many."""
    wire = caller.wire()
    answer = send(caller.app(), replace(wire, query=wire.query + b"&roleArn=x"))
    assert answer.refusal == (*VALIDATION, "The request gives roleArn twice, with different values")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff",
        b'{"durationSeconds": NaN}',
        b'{"roleArn": "a", "roleArn": "b"}',
        b"[" * 100_000,
        b'{"durationSeconds": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(caller: Caller, body):
    """Malformed, nested without end, or with a member twice."""
    assert caller.ask(body=body).refusal == (*VALIDATION, "The body is not a JSON object")


def test_an_empty_body_is_none(caller: Caller):
    """The members may all be in the query."""
    assert caller.ask(body=b"").status == 201


@pytest.mark.parametrize(("properties", "status"), [({"a": "b"}, 201), ({"a": 1}, 400), ({"": "b"}, 400), ("x", 400)])
def test_instance_properties_are_strings(caller: Caller, properties, status):
    """They are checked, and not used."""
    assert caller.ask(body={"instanceProperties": properties}).status == status


def test_a_session_name_needs_the_profiles_consent(caller: Caller):
    """Only a profile that accepts names lets a request name its session."""
    body = {"roleSessionName": "build-42"}
    assert caller.ask(body=body).refusal == (403, "AccessDeniedException", "Not authorized to set roleSessionName")
    caller.profile = replace(caller.profile, accept_role_session_name=True)
    (session,) = caller.ask(body=body).document["credentialSet"]
    assert session["assumedRoleUser"]["arn"].endswith(":assumed-role/example/build-42")
    assert caller.ask(body={"sessionName": "build-42"}).status == 201


def test_a_role_must_be_listed_in_the_profile(caller: Caller):
    """A role that the profile does not list is refused, even if it is set up."""
    caller.profile = replace(caller.profile, role_arns=("arn:aws:iam::123456789012:role/other",))
    assert caller.ask().refusal == (
        403,
        "AccessDeniedException",
        "Requested Role isn't one of those listed in the Profile.",
    )


def test_trust_anchor_and_profile_must_be_known_and_enabled(caller: Caller):
    """Unknown and disabled ones are refused, each with its words."""
    arns = {"profileArn": PROFILE, "roleArn": ROLE, "trustAnchorArn": ANCHOR}
    assert caller.ask(query={**arns, "trustAnchorArn": ANCHOR + "0"}).refusal == (
        404,
        "ResourceNotFoundException",
        "Specified Trust Anchor wasn't found.",
    )
    unknown = (403, "AccessDeniedException", "Invalid or empty profile provided.")
    assert caller.ask(query={**arns, "profileArn": PROFILE + "0"}).refusal == unknown
    enabled = caller.profile
    caller.profile = replace(enabled, enabled=False)
    assert caller.ask().refusal == (403, "AccessDeniedException", "Specified Profile is not enabled.")
    caller.profile, caller.anchor = enabled, replace(caller.anchor, enabled=False)
    assert caller.ask().refusal == (403, "AccessDeniedException", "Specified Trust Anchor is not enabled.")


def test_profile_and_trust_anchor_must_be_of_one_region_and_account(caller: Caller):
    """A profile of another region or account is none for this trust anchor."""
    for part, other in (("eu-west-1", "us-east-1"), ("123456789012", "210987654321")):
        arn = PROFILE.replace(part, other)
        configuration = Configuration({ANCHOR: caller.anchor}, {arn: Profile(arn, (ROLE,))})
        wire = caller.wire(query={"profileArn": arn, "roleArn": ROLE, "trustAnchorArn": ANCHOR})
        answer = send(Emulator(configuration, clock=lambda: NOW), wire)
        assert answer.refusal == (403, "AccessDeniedException", "Invalid or empty profile provided.")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", b"/"), ("GET", b"/sessions"), ("POST", b"/session"), ("PUT", b"/")]
)
def test_everything_else_is_not_found(caller: Caller, method, path):
    """There is one operation."""
    answer = send(caller.app(), replace(caller.wire(), method=method, path=path))
    assert answer.refusal[:2] == (404, "UnknownOperationException")


@pytest.mark.parametrize(
    ("common_name", "serial", "identity"),
    [
        ("x", 1, "CN=x"),
        ("n" * 61, 1, "CN=" + "n" * 61),
        ("n" * 62, 1, "n" * 62),
        ("n" * 64, 1, "n" * 64),
        ("größe 1", 1, "CN=größe 1"),
        ("*.example.com", 291, "ID=0123"),
        (None, 291, "ID=0123"),
        (None, 17767, "ID=4567"),
    ],
)
def test_the_source_identity_comes_from_the_common_name(common_name, serial, identity):
    """CN= and the name, the name alone where that is too long, else ID= and the serial number in hexadecimal."""
    subject = make_name(common_name, organization_name="Example")
    assert source_identity(with_certificate(subject=subject, serial=serial)) == identity


@pytest.mark.parametrize(("serial", "name"), [(5, "05"), (0x1000, "1000"), (127, "7f"), (256, "0100")])
def test_a_session_is_named_after_the_serial_number(serial, name):
    """Hexadecimal, lower case, an even number of digits, so that it is long enough for STS."""
    assert serial_hex(with_certificate(serial=serial)) == name


def test_the_tags_are_the_names_in_the_certificate():
    """Subject, issuer and the first alternative name of each kind; several values are joined, unfit ones left out."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "one"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "two"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bad (name)"),
            x509.NameAttribute(NameOID.COMMON_NAME, "machine"),
        ]
    )
    names = [
        x509.DNSName("a.example.com"),
        x509.DNSName("b.example.com"),
        x509.RFC822Name("someone@example.com"),
        x509.UniformResourceIdentifier("spiffe://example.com/a"),
        x509.DirectoryName(make_name("inner", organization_name="Example")),
        x509.DirectoryName(make_name("second")),
    ]
    assert session_tags(with_certificate(subject=subject, alternative_names=names)) == {
        "x509Subject/OU": "one/two",
        "x509Subject/CN": "machine",
        "x509Issuer/CN": "Test root",
        "x509SAN/DNS": "a.example.com",
        "x509SAN/URI": "spiffe://example.com/a",
        "x509SAN/Name/O": "Example",
        "x509SAN/Name/CN": "inner",
    }


def test_the_requests_file_tells_what_happened_and_nothing_secret(caller: Caller):
    """ARNs, serial, subject, identity, status and the reason; no credentials and no signature."""
    wire = caller.wire()
    answer = send(caller.app(), wire)
    caller.ask(region="us-east-1")
    good, bad = caller.log
    assert good["request_id"] == answer.headers["x-amzn-requestid"]
    assert (good["status"], good["error"], good["role_arn"]) == (201, None, ROLE)
    assert (good["trust_anchor_arn"], good["profile_arn"]) == (ANCHOR, PROFILE)
    assert good["serial"] == str(caller.leaf.certificate.serial_number)
    assert (good["subject"], good["source_identity"]) == ("CN=machine", "CN=machine")
    assert re.fullmatch("[0-9a-f]{64}", good["canonical_request_sha256"])
    assert good["role_session_name"] == f"{caller.leaf.certificate.serial_number:x}"
    assert (bad["status"], bad["error"]) == (403, "AccessDeniedException")
    assert bad["detail"].endswith("/us-east-1/rolesanywhere/aws4_request")
    text = json.dumps(caller.log)
    credentials = answer.document["credentialSet"][0]["credentials"]
    for name in ("accessKeyId", "secretAccessKey", "sessionToken"):
        assert credentials[name] not in text
    assert wire.header("authorization").rpartition("=")[2] not in text
