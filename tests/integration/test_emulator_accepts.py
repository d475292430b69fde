"""Client and emulator share no code: what one signs the other accepts, for every key, in a file and in a token."""

from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from rolekey.certificates import read_certificates, utc_now
from rolekey.config import resolve_settings
from rolekey.create_session import request_credentials
from rolekey.deadline import Deadline
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from support.emulator import running_emulator
from support.pki import make_root
from support.process import rolekey

pytestmark = pytest.mark.rig("emulator")
TOKEN_KEYS = ("rsa-2048", "rsa-4096", "p-256", "p-384", "p-521", "always-auth")


def fetch(options):
    settings = resolve_settings(options, {})
    deadline = Deadline(30)
    with open_identity(settings, NoInteraction(), deadline) as identity:
        return request_credentials(settings, identity, deadline)


@pytest.fixture(scope="module")
def root():
    return make_root()


@pytest.fixture(scope="module")
def file_emulator(root, tmp_path_factory):
    certificate, _ = root.write(tmp_path_factory.mktemp("ca"), "root")
    with running_emulator(certificate) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def token_emulator(provisioned_token):
    with running_emulator(provisioned_token.root) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def intermediate_emulator(provisioned_token):
    with running_emulator(provisioned_token.intermediate) as emulator:
        yield emulator


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("key", ["rsa2048", "rsa4096", "p256", "p384", "p521", "mldsa44", "mldsa65", "mldsa87"])
def test_keys_in_files(root, file_emulator, tmp_path, key, depth):
    """Every key type in a file, directly under the trust anchor and under intermediates (in one file with the leaf)."""
    issuer = root
    for _ in range(depth):
        issuer = issuer.issue_authority()
    leaf = issuer.issue(key=key, common_name="machine")
    certificate, private_key = leaf.write(tmp_path, "leaf")
    certificate.write_bytes(leaf.pem + leaf.chain_pem)
    credentials = fetch(file_emulator.options(certificate=str(certificate), private_key=str(private_key)))
    assert credentials.access_key_id.startswith("ASIA")


@pytest.mark.parametrize("label", TOKEN_KEYS)
@pytest.mark.parametrize("place", ["file", "token"])
def test_keys_in_the_token_with_intermediates(provisioned_token, token_emulator, label, place):
    """Every key type in the token, the certificate in a file or beside it, the intermediate from --intermediates."""
    credentials = fetch(
        token_emulator.options(
            certificate=str(provisioned_token.certificate(label)) if place == "file" else None,
            private_key=provisioned_token.uri(label),
            intermediates=str(provisioned_token.intermediate),
            pkcs11_lib=str(provisioned_token.module),
        ),
    )
    assert credentials.access_key_id.startswith("ASIA")


@pytest.mark.parametrize("label", TOKEN_KEYS)
def test_keys_in_the_token_without_intermediates(provisioned_token, intermediate_emulator, label):
    """With the intermediate as the trust anchor, no chain is needed and none is sent."""
    options = intermediate_emulator.options(
        private_key=provisioned_token.uri(label),
        pkcs11_lib=str(provisioned_token.module),
    )
    assert fetch(options).access_key_id.startswith("ASIA")


def test_certificate_in_the_token_and_key_in_a_file(provisioned_token, token_emulator):
    """A certificate that a token shows serves for a key in a file; one that is not its own is refused."""
    outcome = rolekey(
        "credential-process",
        *token_emulator.arguments,
        *("--pkcs11-lib", str(provisioned_token.module)),
        *("--certificate", provisioned_token.uri("p-256", with_pin=False)),
        *("--private-key", str(provisioned_token.directory / "file" / "p-256.key")),
    )
    outcome.failed(5, "does not belong")


def test_over_tls(provisioned_token):
    """Over TLS with a CA of its own that AWS_CA_BUNDLE names; without it the connection is refused."""
    tls = provisioned_token.directory / "tls"
    with running_emulator(provisioned_token.root, tls=(tls / "server.pem", tls / "server.key")) as emulator:
        assert emulator.url.startswith("https://")
        arguments = (
            "credential-process",
            *emulator.arguments,
            *("--pkcs11-lib", str(provisioned_token.module)),
            *("--intermediates", str(provisioned_token.intermediate)),
            *("--private-key", provisioned_token.uri("p-256")),
        )
        trusted = rolekey(*arguments, environment={"AWS_CA_BUNDLE": str(tls / "ca.pem")})
        assert trusted.credentials["SessionToken"]
        rolekey(*arguments).failed(6, "TLS", "AWS_CA_BUNDLE")
        assert rolekey(*arguments, "--no-verify-ssl").credentials["SessionToken"]


def test_role_session_name_and_duration(root, file_emulator, tmp_path):
    """The role session name and the duration arrive: the credentials live as long as was asked for."""
    certificate, private_key = root.issue().write(tmp_path, "leaf")
    options = file_emulator.options(
        certificate=str(certificate),
        private_key=str(private_key),
        role_session_name="build-42",
        session_duration=900,
    )
    left = fetch(options).expiration - utc_now()
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)


def test_expiration_has_the_one_form(root, file_emulator, tmp_path):
    """On stdout Expiration is YYYY-MM-DDTHH:MM:SSZ."""
    certificate, private_key = root.issue().write(tmp_path, "leaf")
    arguments = ("--certificate", str(certificate), "--private-key", str(private_key))
    credentials = rolekey("credential-process", *file_emulator.arguments, *arguments).credentials
    assert set(credentials) == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
    datetime.strptime(credentials["Expiration"], "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007 - the form is what is tested


def test_a_service_that_refuses(file_emulator, tmp_path):
    """A certificate of another CA: exit 7, the service's own words, its request id, and what to check."""
    certificate, private_key = make_root().issue().write(tmp_path, "leaf")
    arguments = ("--certificate", str(certificate), "--private-key", str(private_key))
    outcome = rolekey("credential-process", *file_emulator.arguments, *arguments)
    outcome.failed(7, "AccessDeniedException", "Untrusted signing certificate", "request id", "trust anchor")


@pytest.mark.parametrize("key", ["rsa2048", "p384"])
def test_a_pkcs12_file_with_a_password(root, file_emulator, tmp_path, key):
    """One PKCS#12 file with a password is certificate, key and chain; a wrong password is exit code 4."""
    leaf = root.issue_authority().issue(key=key, common_name="machine")
    data = pkcs12.serialize_key_and_certificates(
        b"machine", leaf.key, leaf.certificate, leaf.chain, BestAvailableEncryption(b"correct horse")
    )
    (tmp_path / "machine.p12").write_bytes(data)
    words = ["credential-process", *file_emulator.arguments, "--certificate", str(tmp_path / "machine.p12")]
    rolekey(*words, "--pkcs8-password", "wrong").failed(4)
    rolekey(*words).failed(4)
    assert rolekey(*words, "--pkcs8-password", "correct horse").credentials["AccessKeyId"].startswith("ASIA")


@pytest.mark.rig("softhsm")
def test_a_pkcs12_certificate_of_a_key_in_a_token(provisioned_token, token_emulator, tmp_path):
    """A certificate in a PKCS#12 file with a password goes together with a key in a token."""
    leaf, *_ = read_certificates(provisioned_token.certificate("p-256"))
    others = read_certificates(provisioned_token.intermediate)
    data = pkcs12.serialize_key_and_certificates(b"x", None, leaf, others, BestAvailableEncryption(b"correct horse"))
    (tmp_path / "leaf.p12").write_bytes(data)
    words = ["credential-process", *token_emulator.arguments, "--certificate", str(tmp_path / "leaf.p12")]
    words += ["--private-key", provisioned_token.uri("p-256"), "--pkcs11-lib", str(provisioned_token.module)]
    assert rolekey(*words, "--pkcs8-password=correct horse").credentials["AccessKeyId"].startswith("ASIA")


@pytest.mark.parametrize("order", ["leaf inter root", "leaf root inter", "root inter leaf"])
def test_a_full_chain_as_the_certificate(root, file_emulator, tmp_path, order):
    """A PEM file with the leaf first is certificate and chain; with a CA first it is exit code 5."""
    inter = root.issue_authority()
    leaf = inter.issue()
    named = {"leaf": leaf, "inter": inter, "root": root}
    _, key = leaf.write(tmp_path, "leaf")
    (tmp_path / "full.pem").write_bytes(b"".join(named[name].pem for name in order.split()))
    words = ["credential-process", *file_emulator.arguments, "--certificate", str(tmp_path / "full.pem")]
    outcome = rolekey(*words, "--private-key", str(key))
    if order.startswith("leaf"):
        assert outcome.credentials["AccessKeyId"].startswith("ASIA")
    else:
        outcome.failed(5)
        assert "is a CA certificate" in outcome.stderr
