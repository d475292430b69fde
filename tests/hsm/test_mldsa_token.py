"""ML-DSA keys in a PKCS#11 v3.2 token: credentials, what is shown of the keys, and what is refused."""

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import mldsa
from dilithium_py.ml_dsa import ML_DSA_44, ML_DSA_65, ML_DSA_87

from support.emulator import running_emulator
from support.mldsa_rig import KEYS
from support.pkcs11_shim import CKU_USER
from support.process import GENEROUS, rolekey

pytestmark = pytest.mark.rig("shim", "softhsm", "emulator")
CKM_ML_DSA = 0x1D


@pytest.fixture(scope="module")
def emulator(mldsa_token):
    with running_emulator(mldsa_token.root) as running:
        yield running


@pytest.fixture
def shimmed(pkcs11_shim, mldsa_token, tmp_path):
    """The token behind the module that counts, and goes wrong on purpose."""
    return pkcs11_shim.over(mldsa_token.module, tmp_path / "shim")


@pytest.fixture
def run(mldsa_token, shimmed, emulator):
    """Runs credential-process."""

    def run(label, *more):
        words = ["credential-process", *emulator.arguments, "--pkcs11-lib", str(shimmed.module)]
        words += ["--private-key", mldsa_token.uri(label), "--intermediates", str(mldsa_token.intermediate)]
        return rolekey(*words, *more, environment={**mldsa_token.environment, **shimmed.environment})

    return run


@pytest.mark.parametrize("place", ["file", "token"])
@pytest.mark.parametrize("label", KEYS)
def test_credentials(run, shimmed, mldsa_token, label, place):
    """The emulator, which verifies, gives credentials for one login and one private-key operation.

    The rig ends a program that asks for the private key's CKA_VALUE, and refuses a mechanism with a parameter.
    """
    named = ("--certificate", str(mldsa_token.certificate(label))) if place == "file" else ()
    assert run(label, *named).credentials["AccessKeyId"].startswith("ASIA")
    assert (shimmed.calls["C_SignInit"], shimmed.signatures) == (1, 1)
    assert shimmed.logins == {CKU_USER: 1}


def test_mechanism_that_is_not_there(run, shimmed):
    """A token with such a key that does not list CKM_ML_DSA is refused by that name, and asked for no signature."""
    shimmed.rule("C_GetMechanismList", hide_mechanism=CKM_ML_DSA)
    run("mldsa65").failed(3, "does not list CKM_ML_DSA", "use another key type")
    assert shimmed.calls["C_SignInit"] == 0


@pytest.mark.parametrize(("key", "certificate"), [("mldsa44", "mldsa65"), ("mldsa87", "mldsa44")])
def test_certificate_of_another_parameter_set(run, shimmed, mldsa_token, key, certificate):
    """It is seen not to belong to the key before a PIN is sent."""
    outcome = run(key, "--certificate", str(mldsa_token.certificate(certificate)))
    outcome.failed(5, f"object={key}", "does not belong to the certificate", f"CN={certificate}")
    assert shimmed.logins == {}


def shown(mldsa_token, *words):
    outcome = rolekey(
        *("key", *words, "--pkcs11-lib", str(mldsa_token.module), "--timeout", GENEROUS),
        environment=mldsa_token.environment,
    )
    assert (outcome.code, outcome.stderr) == (0, "")
    return outcome.stdout


@pytest.mark.parametrize("label", KEYS)
def test_inspect(mldsa_token, label):
    """The verdict is that of any key that was made in the token."""
    lines = dict(line.split(": ", 1) for line in shown(mldsa_token, "inspect", mldsa_token.uri(label)).splitlines())
    assert lines["type"] == label.upper()
    assert lines["verdict"] == "this key cannot leave the token"


def test_list(mldsa_token):
    """Each key is one row with its certificate, and usable."""
    rows = shown(mldsa_token, "list", f"pkcs11:?pin-source=file:{mldsa_token.pin_file}")
    for label in KEYS:
        assert rows.count(f"object={label}") == 1
        assert f"{label.upper()}, certificate CN={label}" in rows
    assert " is of type " not in rows


@pytest.mark.parametrize(("label", "other"), [("mldsa44", ML_DSA_44), ("mldsa65", ML_DSA_65), ("mldsa87", ML_DSA_87)])
def test_two_implementations(mldsa_token, label, other):
    """dilithium-py, with which the rig signs, and cryptography make the same key of a seed and verify each other."""
    seed = (mldsa_token.directory / "keys" / f"{KEYS[label]}.seed").read_bytes()
    ours = getattr(mldsa, f"{label.upper()}PrivateKey").from_seed_bytes(seed)
    public, private = other.key_derive(seed)
    certified = x509.load_pem_x509_certificate(mldsa_token.certificate(label).read_bytes()).public_key()
    assert ours.public_key().public_bytes_raw() == public == certified.public_bytes_raw()
    certified.verify(other.sign(private, b"message"), b"message")
    assert other.verify(public, b"message", ours.sign(b"message"))
    with pytest.raises(InvalidSignature):
        certified.verify(other.sign(private, b"message", ctx=b"context"), b"message")
