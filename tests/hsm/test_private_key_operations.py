"""How often the private key and the PIN are used in one run, counted by pkcs11-spy."""

import pytest

from support.emulator import running_emulator
from support.pkcs11_spy import PKCS11Calls
from support.process import rolekey

LABELS = ("rsa-2048", "rsa-4096", "p-256", "p-384", "p-521")

pytestmark = pytest.mark.rig("softhsm", "pkcs11-spy", "emulator")


@pytest.fixture(scope="module")
def emulator(provisioned_token):
    with running_emulator(provisioned_token.root) as running:
        yield running


@pytest.fixture
def run_and_count(provisioned_token, pkcs11_spy, emulator, tmp_path):
    def run(*more):
        log = tmp_path / "spy.log"
        outcome = rolekey(
            "credential-process",
            *emulator.arguments,
            *("--pkcs11-lib", str(pkcs11_spy.module)),
            *("--intermediates", str(provisioned_token.intermediate)),
            *more,
            environment=pkcs11_spy.environment(provisioned_token.module, log),
        )
        assert outcome.credentials["AccessKeyId"].startswith("ASIA")
        return PKCS11Calls.read(log)

    return run


def expect_one_of_each(calls, *, context_logins=0):
    assert calls.count["C_SignInit"] == 1
    assert calls.signatures == 1
    assert calls.length_queries <= 1
    assert calls.logins["CKU_USER"] == 1
    assert calls.logins["CKU_CONTEXT_SPECIFIC"] == context_logins
    assert calls.logins.total() == 1 + context_logins
    assert calls.count["C_Initialize"] == 1
    # Certificates and public keys before the login, private keys after it: a card takes long to show an object.
    assert calls.count["C_FindObjectsInit"] == 3
    assert calls.count["C_OpenSession"] == calls.count["C_CloseSession"]


@pytest.mark.parametrize("label", LABELS)
def test_certificate_in_a_file(run_and_count, provisioned_token, label):
    """With the certificate in a file: one C_SignInit, one C_Sign with a buffer, one user login."""
    certificate = str(provisioned_token.certificate(label))
    calls = run_and_count("--certificate", certificate, "--private-key", provisioned_token.uri(label))
    expect_one_of_each(calls)


@pytest.mark.parametrize("label", LABELS)
def test_certificate_in_the_token(run_and_count, provisioned_token, label):
    """With the certificate in the token, found by the key's URI: the same counts."""
    expect_one_of_each(run_and_count("--private-key", provisioned_token.uri(label)))


def test_only_the_certificate_is_named(run_and_count, provisioned_token):
    """With the certificate's URI alone, the key is found by its public key: the same counts."""
    expect_one_of_each(run_and_count("--certificate", provisioned_token.uri("p-384")))


@pytest.mark.parametrize("named", ["object=p-256", "id=%03", "object=p-256;id=%03"])
def test_only_the_named_key_is_looked_at(run_and_count, provisioned_token, named):
    """After the login the token is asked about the key that the URI names, and about none of its others."""
    uri = provisioned_token.uri("p-256").replace("object=p-256", named)
    assert len(run_and_count("--private-key", uri).asked_after_login) == 1
    # Where the URI names no key each of them may be meant.
    assert len(run_and_count("--certificate", provisioned_token.uri("p-256")).asked_after_login) > len(LABELS)


@pytest.mark.parametrize("where", ["file", "token"])
def test_always_authenticate(run_and_count, provisioned_token, where):
    """A key that wants the PIN at each signature: exactly one context login more, and nothing else."""
    more = ("--certificate", str(provisioned_token.certificate("always-auth"))) if where == "file" else ()
    calls = run_and_count("--private-key", provisioned_token.uri("always-auth"), *more)
    expect_one_of_each(calls, context_logins=1)
