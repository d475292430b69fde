"""From options and environment to Settings: what is refused before a file, a token or the network is looked at."""

import dataclasses
import logging
import pickle
from pathlib import Path

import pytest

from rolekey.cli.ending import exit_code
from rolekey.config import CA_BUNDLE_VARIABLES, Settings, resolve_settings
from rolekey.endpoints import Endpoint
from rolekey.errors import ConfigurationError
from rolekey.options import Options
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret

ID = "11111111-2222-3333-4444-555555555555"
TRUST_ANCHOR = f"arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/{ID}"
PROFILE = f"arn:aws:rolesanywhere:eu-west-1:123456789012:profile/{ID}"
ROLE = "arn:aws:iam::123456789012:role/team/web"
OPTIONS = Options(trust_anchor_arn=TRUST_ANCHOR, profile_arn=PROFILE, role_arn=ROLE, certificate="/c.pem")
URI = "pkcs11:token=t;object=o"
CANARY = "hunter2-canary"


def resolve(environment: dict[str, str] | None = None, **changes: object) -> Settings:
    """Good options with changes."""
    return resolve_settings(dataclasses.replace(OPTIONS, **changes), environment or {})


def refused(environment: dict[str, str] | None = None, **changes: object) -> ConfigurationError:
    """The error of good options with changes, after checking its exit code and that it has a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(environment, **changes)
    assert exit_code(caught.value) == 2
    assert caught.value.hint
    return caught.value


def test_defaults():
    """Three ARNs and a certificate are enough; everything else has a value."""
    settings = resolve()
    assert str(settings.trust_anchor_arn) == TRUST_ANCHOR
    assert str(settings.profile_arn) == PROFILE
    assert str(settings.role_arn) == ROLE
    assert settings.region == "eu-west-1"
    assert settings.endpoint == Endpoint("https", "rolesanywhere.eu-west-1.amazonaws.com")
    assert settings.session_duration == 3600
    assert settings.timeout is None
    assert settings.verify_tls
    assert (settings.intermediates, settings.role_session_name, settings.pkcs11_module) == (None, None, None)
    assert (settings.pkcs8_password, settings.ca_bundle, settings.proxy) == (None, None, None)


def test_settings_are_frozen():
    """Settings do not change once they are resolved."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve().region = "us-east-1"


# --- ARNs and regions ---

FIELDS = {"--trust-anchor-arn": "trust_anchor_arn", "--profile-arn": "profile_arn", "--role-arn": "role_arn"}


@pytest.mark.parametrize("flag", FIELDS)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_arn(flag, value):
    """An ARN that is not given, or given empty, is missing; the hint says where to find it."""
    error = refused(**{FIELDS[flag]: value})
    assert error.message == f"{flag} is missing"
    assert "list-trust-anchors" in error.hint


@pytest.mark.parametrize("flag", FIELDS)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("web", "is not an ARN"),
        ("arn:aws:iam", "is not an ARN"),
        (" arn:aws:iam::123456789012:role/web", "has a blank"),
        ("arn:aws:s3:::bucket", "is the ARN of something else"),
        ("arn:aws:sts::123456789012:assumed-role/web/x", "is the ARN of an assumed role's session"),
    ],
)
def test_malformed_arn(flag, value, problem):
    """An ARN that cannot be one, or is one of something else, is refused with its flag's name."""
    assert refused(**{FIELDS[flag]: value}).message.startswith(f"{flag} {problem}")


def test_arns_in_the_wrong_places():
    """Trust anchor and profile exchanged are told apart."""
    error = refused(trust_anchor_arn=PROFILE, profile_arn=TRUST_ANCHOR)
    assert error.message.startswith("--trust-anchor-arn is the ARN of a Roles Anywhere profile")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"profile_arn": PROFILE.replace("eu-west-1", "us-east-1")},
            "the trust anchor is in eu-west-1 and the profile in us-east-1",
        ),
        ({"region": "us-east-1"}, "--region is us-east-1 and the trust anchor is in eu-west-1"),
        ({"region": "EU-WEST-1"}, "--region is EU-WEST-1 and the trust anchor is in eu-west-1"),
        (
            {"role_arn": ROLE.replace(":aws:", ":aws-cn:")},
            "the ARNs are of different partitions: aws, aws-cn",
        ),
        (
            {"profile_arn": PROFILE.replace(":aws:", ":aws-us-gov:")},
            "the ARNs are of different partitions: aws, aws-us-gov",
        ),
    ],
)
def test_regions_and_partitions_that_differ(changes, message):
    """Trust anchor, profile and --region are of one region, and all three ARNs of one partition."""
    assert refused(**changes).message == message


@pytest.mark.parametrize("region", [None, "", "eu-west-1"])
def test_region(region):
    """The trust anchor's region is the default, and may be said again."""
    assert resolve(region=region).region == "eu-west-1"


def test_unknown_partition():
    """A partition whose host names are not known needs --endpoint."""
    arns = {name: getattr(OPTIONS, name).replace(":aws:", ":aws-moon:") for name in FIELDS.values()}
    error = refused(**arns)
    assert error.message == "the AWS partition aws-moon is not known"
    assert "--endpoint" in error.hint
    assert str(resolve(**arns, endpoint="https://example.com").endpoint) == "https://example.com"


# --- numbers and names ---


@pytest.mark.parametrize("seconds", [900, 901, 3600, 43199, 43200])
def test_session_duration(seconds):
    """15 minutes to 12 hours, both included."""
    assert resolve(session_duration=seconds).session_duration == seconds


@pytest.mark.parametrize("seconds", [899, 43201, 0, -1, -3600, 99999999999, 2**32 + 900])
def test_bad_session_duration(seconds):
    """Anything else is refused with both bounds, and never cut to 32 bits."""
    error = refused(session_duration=seconds)
    assert error.message == f"--session-duration is {seconds} seconds"
    assert "900 to 43200" in error.hint


@pytest.mark.parametrize("seconds", [0.1, 50, 3600])
def test_timeout(seconds):
    """Up to an hour."""
    assert resolve(timeout=seconds).timeout == seconds


@pytest.mark.parametrize("seconds", [0, -1, 3600.1, float("nan"), float("inf")])
def test_bad_timeout(seconds):
    """No time, more than an hour and what is no number are refused."""
    assert refused(timeout=seconds).message == "--timeout is out of range"


@pytest.mark.parametrize("name", ["ab", "a" * 64, "web-1.example_com=a,b@c", "12"])
def test_role_session_name(name):
    """What the service's pattern allows, of 2 to 64 characters."""
    assert resolve(role_session_name=name).role_session_name == name


@pytest.mark.parametrize("name", ["a", "a" * 65, "a b", "a/b", "a+b", "r\u00f4le", "ab\n"])
def test_bad_role_session_name(name):
    """Any other is refused."""
    assert refused(role_session_name=name).message.startswith("--role-session-name has a character or length")


def test_no_role_session_name():
    """An empty name is none."""
    assert resolve(role_session_name="").role_session_name is None


# --- endpoint ---

OWN = "https://option.example/prefix"
VARIABLE = {"AWS_ENDPOINT_URL_ROLESANYWHERE": "https://variable.example"}


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [
        (None, {}, "https://rolesanywhere.eu-west-1.amazonaws.com"),
        (None, VARIABLE, "https://variable.example"),
        (OWN, {}, OWN),
        (OWN, VARIABLE, OWN),
        ("", VARIABLE, "https://variable.example"),
        (None, {"AWS_ENDPOINT_URL_ROLESANYWHERE": ""}, "https://rolesanywhere.eu-west-1.amazonaws.com"),
        (None, {"AWS_ENDPOINT_URL": "https://all.example"}, "https://rolesanywhere.eu-west-1.amazonaws.com"),
        (OWN, {"AWS_ENDPOINT_URL_ROLESANYWHERE": "no URL"}, OWN),
    ],
)
def test_endpoint_precedence(option, environment, expected):
    """--endpoint, then AWS_ENDPOINT_URL_ROLESANYWHERE, then the region's own; AWS_ENDPOINT_URL does not count."""
    assert str(resolve(environment, endpoint=option).endpoint) == expected


@pytest.mark.parametrize("source", ["--endpoint", "AWS_ENDPOINT_URL_ROLESANYWHERE"])
def test_bad_endpoint_names_its_source(source):
    """The error names the option or variable, and does not quote what may hold a password."""
    url = f"https://user:{CANARY}@example.com"
    error = refused(endpoint=url) if source == "--endpoint" else refused({source: url})
    assert error.message == f"{source} has user information before the host, which is not sent to anybody"
    assert CANARY not in error.hint


FIPS, DUAL = "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"


@pytest.mark.parametrize(
    ("fips", "dual_stack", "environment", "host"),
    [
        (None, None, {}, "rolesanywhere.eu-west-1.amazonaws.com"),
        (True, None, {}, "rolesanywhere-fips.eu-west-1.amazonaws.com"),
        (None, True, {}, "rolesanywhere.eu-west-1.api.aws"),
        (True, True, {}, "rolesanywhere-fips.eu-west-1.api.aws"),
        (None, None, {FIPS: "true"}, "rolesanywhere-fips.eu-west-1.amazonaws.com"),
        (None, None, {FIPS: "True", DUAL: "TRUE"}, "rolesanywhere-fips.eu-west-1.api.aws"),
        (None, None, {FIPS: "false", DUAL: "False"}, "rolesanywhere.eu-west-1.amazonaws.com"),
        (None, None, {FIPS: "", DUAL: ""}, "rolesanywhere.eu-west-1.amazonaws.com"),
        (False, None, {FIPS: "true", DUAL: "true"}, "rolesanywhere.eu-west-1.api.aws"),
        (None, False, {FIPS: "true", DUAL: "true"}, "rolesanywhere-fips.eu-west-1.amazonaws.com"),
        (False, False, {FIPS: "bad", DUAL: "bad"}, "rolesanywhere.eu-west-1.amazonaws.com"),
        (True, None, {FIPS: "false"}, "rolesanywhere-fips.eu-west-1.amazonaws.com"),
    ],
)
def test_fips_and_dual_stack(fips, dual_stack, environment, host):
    """The options win over the variables, in both directions."""
    settings = resolve(environment, use_fips_endpoint=fips, use_dualstack_endpoint=dual_stack)
    assert str(settings.endpoint) == f"https://{host}"


@pytest.mark.parametrize("variable", [FIPS, DUAL])
@pytest.mark.parametrize("value", ["1", "yes", "0", " true", "on"])
def test_bad_switch(variable, value):
    """A variable that is neither true nor false is an error: a guess could leave the FIPS endpoint."""
    assert refused({variable: value}).message == f"{variable} is neither true nor false"


@pytest.mark.parametrize(
    ("changes", "environment", "source"),
    [
        ({"endpoint": OWN, "use_fips_endpoint": True}, {}, "--endpoint"),
        ({"endpoint": OWN, "use_dualstack_endpoint": True}, {}, "--endpoint"),
        ({"endpoint": OWN}, {FIPS: "true"}, "--endpoint"),
        ({"endpoint": OWN}, {DUAL: "true"}, "--endpoint"),
        ({"use_fips_endpoint": True}, VARIABLE, "AWS_ENDPOINT_URL_ROLESANYWHERE"),
        ({}, {**VARIABLE, DUAL: "true"}, "AWS_ENDPOINT_URL_ROLESANYWHERE"),
    ],
)
def test_endpoint_and_a_kind_of_endpoint(changes, environment, source):
    """A named endpoint and a wish for FIPS or dual stack contradict each other, wherever they come from."""
    error = refused(environment, **changes)
    assert error.message == f"{source} names an endpoint, and a FIPS or dual-stack endpoint is asked for as well"


def test_endpoint_and_a_switched_off_kind():
    """A variable for FIPS is out of the way once the option says false."""
    assert str(resolve({FIPS: "true"}, endpoint=OWN, use_fips_endpoint=False).endpoint) == OWN


# --- trusted CAs and proxies ---


def test_ca_bundle_precedence(tmp_path):
    """AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE: the first that is set decides."""
    assert CA_BUNDLE_VARIABLES == ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    environment = {}
    for name in reversed(CA_BUNDLE_VARIABLES):
        environment[name] = str(tmp_path / name)
        (tmp_path / name).touch()
        assert resolve(environment).ca_bundle == tmp_path / name
    assert resolve(environment | {"AWS_CA_BUNDLE": ""}).ca_bundle == tmp_path / "REQUESTS_CA_BUNDLE"
    assert resolve({"AWS_CA_BUNDLE": str(tmp_path)}).ca_bundle == tmp_path


@pytest.mark.parametrize("variable", CA_BUNDLE_VARIABLES)
def test_missing_ca_bundle(variable, tmp_path):
    """A file that does not exist is an error that names the variable, and no reason to look at the next one."""
    later = CA_BUNDLE_VARIABLES[CA_BUNDLE_VARIABLES.index(variable) + 1 :]
    environment = dict.fromkeys(later, str(tmp_path))
    error = refused(environment | {variable: str(tmp_path / "no")})
    assert error.message == f"{variable} names {tmp_path / 'no'}, which does not exist"


@pytest.mark.parametrize(
    ("environment", "endpoint", "proxy"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, None, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, None, "http://proxy:3128"),
        ({"https_proxy": "http://small:1", "HTTPS_PROXY": "http://large:1"}, None, "http://small:1"),
        ({"HTTPS_PROXY": "proxy:3128"}, None, "http://proxy:3128"),
        ({"HTTPS_PROXY": "https://proxy"}, None, "https://proxy"),
        ({"ALL_PROXY": "http://all:1"}, None, "http://all:1"),
        ({"HTTPS_PROXY": "http://proxy:1", "ALL_PROXY": "http://all:1"}, None, "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1"}, None, None),
        ({"HTTPS_PROXY": ""}, None, None),
        # never to this machine
        ({"HTTPS_PROXY": "http://proxy:1"}, "https://localhost:1", None),
        ({"HTTPS_PROXY": "http://proxy:1"}, "https://127.0.0.1", None),
        ({"HTTPS_PROXY": "http://proxy:1"}, "https://127.9.9.9:1/x", None),
        ({"HTTPS_PROXY": "http://proxy:1"}, "https://[::1]:1", None),
        ({"HTTP_PROXY": "http://proxy:1", "ALL_PROXY": "http://proxy:1"}, "http://127.0.0.1:1", None),
        # exempted
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "amazonaws.com"}, None, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "other.example, .amazonaws.com"}, None, None),
        ({"HTTPS_PROXY": "http://proxy:1", "no_proxy": "*"}, None, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "example.com:8443"}, "https://example.com:8443", None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "example.com:8443"}, "https://example.com", "http://proxy:1"),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "ws.com"}, None, "http://proxy:1"),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "other.example"}, None, "http://proxy:1"),
    ],
)
def test_proxy(environment, endpoint, proxy):
    """HTTPS_PROXY and ALL_PROXY count unless NO_PROXY exempts the host; a request to this machine takes no detour."""
    settings = resolve(environment, endpoint=endpoint)
    assert settings.proxy == (None if proxy is None else Secret(proxy))


# --- certificate and key ---


@pytest.mark.parametrize(
    ("certificate", "private_key", "expected", "derived"),
    [
        ("/c", "/k", (Path("/c"), Path("/k")), False),
        ("/c", None, (Path("/c"), Path("/c")), True),
        (None, "/k", (Path("/k"), Path("/k")), False),
        ("", "/k", (Path("/k"), Path("/k")), False),
        ("/c", "", (Path("/c"), Path("/c")), True),
        (URI, None, (PKCS11URI.parse(URI), PKCS11URI.parse(URI)), True),
        (None, URI, (PKCS11URI.parse(URI), PKCS11URI.parse(URI)), False),
        ("/c", URI, (Path("/c"), PKCS11URI.parse(URI)), False),
        (URI, "/k", (PKCS11URI.parse(URI), Path("/k")), False),
        ("relative.pem", "./-k", (Path("relative.pem"), Path("-k")), False),
        ("~/c", "/k", (Path("~/c"), Path("/k")), False),
    ],
)
def test_certificate_and_key(certificate, private_key, expected, derived):
    """One of the two serves for both; a pkcs11: URI and a path are told apart by the scheme."""
    settings = resolve(certificate=certificate, private_key=private_key)
    assert (settings.certificate, settings.private_key) == expected
    assert settings.derived_private_key is derived


@pytest.mark.parametrize("nothing", [None, ""])
def test_neither_certificate_nor_key(nothing):
    """Without both there is nothing to sign with; no certificate store is searched."""
    error = refused(certificate=nothing, private_key=nothing)
    assert error.message == "neither --certificate nor --private-key is given"


@pytest.mark.parametrize("flag", ["--certificate", "--private-key"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("PKCS11:token=x", "{}: the scheme of a PKCS#11 URI is written in small letters"),
        ("Pkcs11:token=x?pin-value=" + CANARY, "{}: the scheme of a PKCS#11 URI is written in small letters"),
        ("pkcs11:token", "the PKCS#11 URI has an attribute in its path, at position 1, that is not name=value"),
        ("handle:0x40000001", "the TPM handle is not one of a persistent key"),
        ("'pkcs11:token=x?pin-value=" + CANARY + "'", "{} has a pin-value and is not a PKCS#11 URI"),
        (" pkcs11:token=x?pin-value=" + CANARY, "{} has a pin-value and is not a PKCS#11 URI"),
        ("token=x?PIN-value=" + CANARY, "{} has a pin-value and is not a PKCS#11 URI"),
    ],
)
def test_bad_reference(flag, value, message):
    """What cannot name a certificate or key is refused by its looks; the option given is named, no PIN is quoted."""
    nothing = {"certificate": None, "private_key": None}
    for others in ({}, nothing):
        error = refused(**others | {flag[2:].replace("-", "_"): value})
        assert error.message.startswith(message.format(flag))
        assert CANARY not in error.message + error.hint


@pytest.mark.parametrize("flag", ["--intermediates", "--pkcs11-lib"])
def test_uri_for_a_path(flag):
    """A URI with a PIN where a path belongs is refused: paths are quoted in messages."""
    error = refused(**{flag[2:].replace("-", "_"): f"pkcs11:token=x?pin-value={CANARY}"})
    assert error.message.startswith(f"{flag} has a pin-value")
    assert CANARY not in error.message + error.hint


@pytest.mark.parametrize("module", ["/usr/lib/x.so", "x.so", "./x.so"])
def test_module(module):
    """The module is kept as it is written: the loader tells a bare name from a path."""
    assert resolve(pkcs11_lib=module).pkcs11_module == module
    assert resolve(pkcs11_lib="").pkcs11_module is None


def test_intermediates():
    """A path, or none where it is empty."""
    assert resolve(intermediates="/i.pem").intermediates == Path("/i.pem")
    assert resolve(intermediates="").intermediates is None


# --- secrets ---

SECRETS = {
    "proxy": ({}, {"HTTPS_PROXY": f"http://user:{CANARY}@proxy:3128"}),
    "passphrase": ({"pkcs8_password": Secret(CANARY)}, {}),
    "pin-value of the certificate": ({"certificate": f"{URI}?pin-value={CANARY}"}, {}),
    "pin-value of the key": ({"private_key": f"{URI}?pin-value={CANARY}"}, {}),
}


@pytest.mark.parametrize("where", SECRETS)
def test_secrets_stay_inside(where, monkeypatch, caplog):
    """No password or PIN is in the repr, str, log or pickle of options and settings, and a pickle fails with it."""
    caplog.set_level(logging.DEBUG)
    changes, environment = SECRETS[where]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    options = dataclasses.replace(OPTIONS, **changes)
    settings = resolve_settings(options, environment)
    held = [
        settings.proxy,
        settings.pkcs8_password,
        *(getattr(reference, "pin_value", None) for reference in (settings.certificate, settings.private_key)),
    ]
    assert CANARY in "".join(secret.reveal() for secret in held if secret)
    for shown in (repr(options), repr(settings), str(settings), f"{settings}", caplog.text):
        assert CANARY not in shown
    with pytest.raises(TypeError, match="neither pickled nor copied") as caught:
        pickle.dumps(settings)
    assert CANARY not in str(caught.value)


def test_settings_without_secrets_can_be_pickled():
    """Settings without a secret go to another process and arrive equal."""
    settings = resolve(certificate=URI)
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_log(caplog):
    """The trace says which region and endpoint were chosen and whether a proxy is used, not which."""
    caplog.set_level(logging.DEBUG)
    resolve({"HTTPS_PROXY": "http://proxy.example"})
    assert "region eu-west-1, endpoint https://rolesanywhere.eu-west-1.amazonaws.com, proxy\n" in caplog.text
    assert "proxy.example" not in caplog.text


@pytest.mark.parametrize("option", ["certificate", "private_key", "intermediates", "pkcs11_lib"])
def test_windows_path_without_backslashes(option):
    """What an SDK has made of a path with backslashes is called by its name; other paths with a colon are paths."""
    error = refused(**{option: "C:certsx.pem"})
    assert error.message == f"--{option.replace('_', '-')} is a Windows path without its backslashes"
    for path in ("C:/certs/x.pem", r"C:\certs\x.pem", "./C:x", "a/b:c"):
        resolve(**{option: path})
