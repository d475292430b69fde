"""The emulator's TOML file, its defaults, and what is said about mistakes in them."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.emulator import EmulatorConfigurationError, RequestLog, for_certificate_authority, load
from rolekey.emulator.configuration import DEFAULT_PROFILE_ARN, DEFAULT_ROLE_ARN, DEFAULT_TRUST_ANCHOR_ARN
from support.emulator_caller import ANCHOR, PROFILE, ROLE
from support.pki import Issued, make_root, to_pem


@pytest.fixture
def ca(tmp_path: Path) -> Issued:
    root = make_root()
    root.write(tmp_path, "ca")
    return root


def section(name, **values):
    lines = [f"{key} = {value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[[{name}]]", *lines, ""])


def text(*, anchor=None, profile=None, role=None):
    parts = [section("trust_anchors", **{"arn": f'"{ANCHOR}"', "certificates": '"ca.pem"'} | (anchor or {}))]
    parts.append(section("profiles", **{"arn": f'"{PROFILE}"', "role_arns": [ROLE]} | (profile or {})))
    if role is not None:
        parts.append(section("roles", **{"arn": f'"{ROLE}"'} | role))
    return "\n".join(parts)


def write(directory: Path, content: str) -> Path:
    path = directory / "emulator.toml"
    path.write_text(content)
    return path


def test_the_defaults_are_those_of_aws(tmp_path, ca):
    """What is left out is an hour, enabled, without session names, and a role that anybody may assume."""
    configuration = load(write(tmp_path, text()))
    anchor, profile = configuration.trust_anchors[ANCHOR], configuration.profiles[PROFILE]
    assert [c.parsed for c in anchor.certificates] == [ca.certificate]
    assert (anchor.enabled, anchor.crls) == (True, ())
    assert (profile.role_arns, profile.duration_seconds) == ((ROLE,), 3600)
    assert (profile.accept_role_session_name, profile.enabled) == (False, True)
    assert configuration.roles == {}


def test_everything_can_be_said(tmp_path, ca):
    """Every key of the file reaches the set-up; files are relative to it."""
    crl = ca.revoke(5)
    (tmp_path / "ca.crl").write_bytes(crl.public_bytes(Encoding.PEM))
    (tmp_path / "policy.json").write_text(
        json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Principal": "*", "Action": "*"}})
    )
    content = text(
        anchor={"certificates": ["ca.pem"], "crls": ["ca.crl"], "enabled": False},
        profile={"duration_seconds": 900, "accept_role_session_name": True, "enabled": False},
        role={"max_session_duration": 43200, "trust_policy": '"policy.json"'},
    )
    configuration = load(write(tmp_path, content))
    assert configuration.trust_anchors[ANCHOR].crls == (crl,)
    assert not configuration.trust_anchors[ANCHOR].enabled
    profile = configuration.profiles[PROFILE]
    assert (profile.duration_seconds, profile.accept_role_session_name, profile.enabled) == (900, True, False)
    assert configuration.roles[ROLE].max_session_duration == 43200
    assert configuration.roles[ROLE].trust_policy.refused_action({}) == "sts:AssumeRole"


@pytest.mark.usefixtures("ca")
def test_a_trust_policy_may_be_an_inline_table(tmp_path):
    """The policy can stand in the file itself."""
    inline = '{ Statement = [{ Effect = "Allow", Principal = "*", Action = "sts:AssumeRole" }] }'
    configuration = load(write(tmp_path, text(role={"trust_policy": inline})))
    assert configuration.roles[ROLE].trust_policy.refused_action({}) == "sts:TagSession"


MISTAKES = [
    ("[", "not TOML"),
    ("\x00", "not TOML"),
    ("", "trust_anchors: at least one is needed"),
    ("other = 1", "other: unknown key"),
    ("trust_anchors = 1", "trust_anchors: must be [[trust_anchors]] tables"),
    (text(anchor={"arn": '"x"'}), "trust_anchors[0].arn: must be the ARN of a trust-anchor"),
    (text(anchor={"arn": f'"{PROFILE}"'}), "trust_anchors[0].arn: must be the ARN of a trust-anchor"),
    (text(anchor={"certificates": '"no.pem"'}), "trust_anchors[0].certificates: "),
    (text(anchor={"certificates": "5"}), "trust_anchors[0].certificates: must be a string or a list of strings"),
    (text(anchor={"certificates": []}), "trust_anchors[0].certificates: a trust anchor has one or two certificates"),
    (text(anchor={"certificates": ["ca.pem"] * 3}), "has one or two certificates, not 3"),
    (text(anchor={"certificates": '"ca.key"'}), "has one or two certificates, not 0"),
    (text(anchor={"certificates": '"emulator.toml"'}), "not a certificate"),
    (text(anchor={"certificates": '"leaf.pem"'}), "Incorrect basic constraints for CA certificate"),
    (text(anchor={"crls": '"ca.pem"'}), "trust_anchors[0].crls: "),
    (text(anchor={"crls": '"emulator.toml"'}), "not a revocation list"),
    (text(anchor={"enabled": 1}), "trust_anchors[0].enabled: must be true or false"),
    (text(anchor={"extra": 1}), "trust_anchors[0].extra: unknown key"),
    (text(profile={"role_arns": []}), "profiles[0].role_arns: must be a list of ARNs of roles"),
    (text(profile={"role_arns": [ANCHOR]}), "profiles[0].role_arns: must be a list of ARNs of roles"),
    (text(profile={"duration_seconds": 899}), "profiles[0].duration_seconds: must be a number of seconds from 900"),
    (text(profile={"duration_seconds": 43201}), "profiles[0].duration_seconds: must be a number of seconds from 900"),
    (text(profile={"duration_seconds": "true"}), "profiles[0].duration_seconds: must be a number of seconds from 900"),
    (
        text(profile={"accept_role_session_name": '"yes"'}),
        "profiles[0].accept_role_session_name: must be true or false",
    ),
    (text() + section("profiles", arn=f'"{PROFILE}"', role_arns=[ROLE]), "profiles[1].arn: is there twice"),
    (text(role={"max_session_duration": 900}), "roles[0].max_session_duration: must be a number of seconds from 3600"),
    (text(role={"trust_policy": '"no.json"'}), "roles[0].trust_policy: "),
    (text(role={"trust_policy": '"emulator.toml"'}), "not JSON"),
    (text(role={"trust_policy": "{ Statement = [] }"}), "roles[0].trust_policy: Statement must be"),
    (text(role={"arn": '"arn:aws:iam::123456789012:user/x"'}), "roles[0].arn: must be the ARN of a role"),
]


@pytest.mark.parametrize(("content", "told"), MISTAKES)
def test_a_mistake_is_named_with_file_and_key(tmp_path, ca, content, told):
    """The text names the TOML file and the key in it."""
    ca.issue().write(tmp_path, "leaf")
    path = write(tmp_path, content)
    with pytest.raises(EmulatorConfigurationError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    """So is the TOML file itself."""
    with pytest.raises(EmulatorConfigurationError) as caught:
        load(tmp_path / "none.toml")
    assert str(tmp_path / "none.toml") in str(caught.value)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_one_ca_is_enough(tmp_path, ca, encoding):
    """A CA file alone, PEM or DER, makes a trust anchor, a profile and a role with fixed ARNs."""
    path, crl = tmp_path / "file", tmp_path / "crl"
    path.write_bytes(ca.certificate.public_bytes(encoding))
    crl.write_bytes(ca.revoke(7).public_bytes(encoding))
    configuration = for_certificate_authority(path, crl)
    assert list(configuration.trust_anchors) == [DEFAULT_TRUST_ANCHOR_ARN]
    assert len(configuration.trust_anchors[DEFAULT_TRUST_ANCHOR_ARN].crls) == 1
    profile = configuration.profiles[DEFAULT_PROFILE_ARN]
    assert (profile.role_arns, profile.accept_role_session_name) == ((DEFAULT_ROLE_ARN,), True)


def test_two_certificates_in_one_file_are_one_trust_anchor(tmp_path, ca):
    """A bundle has up to two certificates, with any text around them."""
    path = tmp_path / "bundle.pem"
    path.write_bytes(b"# old\n" + ca.pem + b"# new\r\n" + to_pem([make_root().certificate]).replace(b"\n", b"\r\n"))
    configuration = for_certificate_authority(path)
    assert len(configuration.trust_anchors[DEFAULT_TRUST_ANCHOR_ARN].certificates) == 2


def test_the_requests_file_is_appended_to(tmp_path):
    """One line a request, after what is there, readable by its owner alone when it is new."""
    path = tmp_path / "requests"
    for entry in ({"a": 1}, {"b": "é\n"}):
        log = RequestLog(path)
        log(entry)
        log.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"b": "é\n"}]
    assert path.stat().st_mode & 0o077 == 0


def test_a_full_disk_is_told_at_the_end():
    """A line that cannot be written is no reason to fail a request, and is not passed over either."""
    log = RequestLog(Path("/dev/full"))
    log({"a": 1})
    with pytest.raises(EmulatorConfigurationError) as caught:
        log.close()
    assert "/dev/full is not complete: No space left on device" in str(caught.value)


def test_a_requests_file_that_cannot_be_written_is_named(tmp_path):
    """It is noticed at the start."""
    with pytest.raises(EmulatorConfigurationError) as caught:
        RequestLog(tmp_path)
    assert str(tmp_path) in str(caught.value)
