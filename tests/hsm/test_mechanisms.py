"""Which mechanism signs, what a token without a usable one gets, and threads."""

import subprocess
import sys
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from rolekey.deadline import Deadline
from rolekey.errors import UnsupportedKeyError
from rolekey.interaction import NoInteraction
from rolekey.secret import Secret
from rolekey.signers.pkcs11 import PKCS11Signer
from rolekey.tokens.keys import OpenKey
from rolekey.tokens.modules import load_module
from rolekey.tokens.token import Token
from support.pkcs11_spy import PKCS11Calls
from support.pki import make_root
from support.process import rolekey

pytestmark = pytest.mark.rig("softhsm")


@pytest.fixture
def session(provisioned_token):
    module = load_module(str(provisioned_token.module))
    token = next(token for token in module.tokens() if token.label == provisioned_token.label)
    session = token.open(Secret(provisioned_token.user_pin))
    yield session
    session.close()


def key_of(session, label):
    return next(key for key in session.private_keys() if key.label == label)


def signer_of(key, session):
    def reopen():
        raise AssertionError("the token was opened anew")

    return PKCS11Signer(OpenKey(key, session, None), reopen, Deadline(60), NoInteraction().remind)


def verify(provisioned_token, label, signature, message):
    certificate = x509.load_pem_x509_certificate(provisioned_token.certificate(label).read_bytes())
    public_key = certificate.public_key()
    if isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    else:
        public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    ("label", "listed", "taken"),
    [
        ("rsa-2048", {"SHA256_RSA_PKCS", "RSA_PKCS"}, "SHA256_RSA_PKCS"),
        ("rsa-2048", {"RSA_PKCS", "RSA_PKCS_PSS", "SHA512_RSA_PKCS"}, "RSA_PKCS"),
        ("rsa-2048", set(), "SHA256_RSA_PKCS"),
        ("p-384", {"ECDSA", "ECDSA_SHA256"}, "ECDSA"),
        ("p-384", set(), "ECDSA"),
    ],
)
def test_what_the_token_lists_decides(provisioned_token, session, monkeypatch, label, listed, taken):
    """The first of our mechanisms that the token lists signs, with what it needs around the digest."""
    used = []
    key = key_of(session, label)
    monkeypatch.setattr(Token, "mechanisms", lambda _self: frozenset(listed))
    sign = type(key).sign

    def spied(self, data, mechanism):
        used.append(mechanism)
        return sign(self, data, mechanism)

    monkeypatch.setattr(type(key), "sign", spied)
    signature = signer_of(key, session).sign(b"message")
    assert used == [taken]
    verify(provisioned_token, label, signature, b"message")


@pytest.mark.parametrize(("label", "listed", "hashed"), [("p-256", {"ECDSA_SHA256"}, "CKM_ECDSA_SHA256")])
def test_a_token_that_hashes_itself(session, monkeypatch, label, listed, hashed):
    """Where only CKM_ECDSA_SHA256 is listed, the message itself is given to it, not its digest."""
    given = []
    key = key_of(session, label)
    monkeypatch.setattr(Token, "mechanisms", lambda _self: frozenset(listed))
    monkeypatch.setattr(type(key), "sign", lambda _self, data, mechanism: given.append((data, mechanism)) or b"12")
    signer_of(key, session).sign(b"message")
    assert given == [(b"message", hashed.removeprefix("CKM_"))]


def test_a_token_without_a_usable_mechanism(session, monkeypatch):
    """A token that lists none of them is refused with the names of what it lacks."""
    monkeypatch.setattr(Token, "mechanisms", lambda _self: frozenset({"RSA_PKCS_PSS"}))
    with pytest.raises(UnsupportedKeyError, match="CKM_SHA256_RSA_PKCS nor CKM_RSA_PKCS"):
        signer_of(key_of(session, "rsa-2048"), session).sign(b"message")


# --- ML-DSA beside others; tests/hsm/test_mldsa_token.py signs with it ---

CKM_ML_DSA = 0x1D
ARGUMENTS = (
    *("credential-process", "--endpoint", "http://127.0.0.1:1"),
    *("--trust-anchor-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a"),
    *("--profile-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p"),
    *("--role-arn", "arn:aws:iam::000000000000:role/r"),
)


@pytest.fixture
def shimmed(pkcs11_shim, provisioned_token, tmp_path):
    """A token that lists CKM_ML_DSA beside the others."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    shimmed.rule("C_GetMechanismList", add_mechanism=CKM_ML_DSA)
    return shimmed


def run_shimmed(shimmed, *more, **environment):
    words = (*ARGUMENTS, "--pkcs11-lib", str(shimmed.module), *more)
    return rolekey(*words, environment=shimmed.environment | environment)


@pytest.mark.rig("shim")
@pytest.mark.parametrize("label", ["rsa-2048", "p-256", "p-384", "always-auth"])
def test_a_token_that_lists_ml_dsa(shimmed, provisioned_token, label):
    """Its RSA and EC keys sign as ever."""
    run_shimmed(shimmed, "--private-key", provisioned_token.uri(label)).failed(6, "Connection refused")
    assert shimmed.calls["C_GetMechanismList"] > 0
    assert shimmed.signatures == 1


@pytest.mark.rig("shim")
@pytest.mark.parametrize("place", ["file", "token"])
@pytest.mark.parametrize(
    ("key", "code", "says", "logins"),
    [
        ("p-256", 5, "does not belong to the certificate CN=an ML-DSA key", 0),
        ("nobody", 3, "holds no private key", 1),
        (None, 5, "does not belong to the certificate CN=an ML-DSA key", 1),
    ],
)
def test_an_ml_dsa_certificate_with_a_key_in_a_token(
    shimmed, provisioned_token, tmp_path, place, key, code, says, logins
):
    """RSA and EC keys are not taken for those of an ML-DSA certificate, and none signs."""
    token = provisioned_token.copy(tmp_path / "second")
    issued = make_root().issue("mldsa65", "an ML-DSA key")
    certificate, _ = issued.write(tmp_path, "mldsa")
    if place == "token":
        (tmp_path / "mldsa.der").write_bytes(issued.der)
        write = ["pkcs11-tool", "--module", str(token.module), "--login", "--pin", token.user_pin, "--type", "cert"]
        write += ["--write-object", str(tmp_path / "mldsa.der"), "--label", "mldsa", "--id", "77"]
        environment = {"PATH": "/usr/bin:/bin", **token.environment}
        subprocess.run(write, env=environment, check=True, capture_output=True)
    pin = f"?pin-source=file:{token.pin_file}"
    uri = token.uri(key) if key else f"pkcs11:token={token.label}{pin}"
    named = f"pkcs11:token={token.label};object=mldsa" if place == "token" else str(certificate)
    outcome = run_shimmed(shimmed, "--certificate", named, "--private-key", uri, **token.environment)
    outcome.failed(code, says)
    assert shimmed.calls["C_OpenSession"] > 0
    assert shimmed.calls["C_SignInit"] == 0
    assert shimmed.logins.total() == logins


@pytest.mark.rig("pkcs11-spy")
def test_the_module_is_told_of_threads(provisioned_token, pkcs11_spy, tmp_path):
    """C_Initialize gets CKF_OS_LOCKING_OK: python-pkcs11 releases the GIL around every call."""
    log = tmp_path / "spy.log"
    rolekey(
        "credential-process",
        *("--trust-anchor-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a"),
        *("--profile-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p"),
        *("--role-arn", "arn:aws:iam::000000000000:role/r"),
        *("--pkcs11-lib", str(pkcs11_spy.module), "--private-key", "pkcs11:token=nobody"),
        environment=pkcs11_spy.environment(provisioned_token.module, log),
    ).failed(3, "token=nobody")
    assert PKCS11Calls.read(log).count["C_Initialize"] == 1
    assert "CKF_OS_LOCKING_OK" in log.read_text()


@pytest.mark.usefixtures("session")
def test_threads_sign_at_once(provisioned_token):
    """Sixteen threads with sessions of their own sign for ten seconds, and every signature verifies."""
    module = load_module(str(provisioned_token.module))
    token = next(token for token in module.tokens() if token.label == provisioned_token.label)
    failures, signatures = [], []
    end = time.monotonic() + 10

    def work():
        own = token.open()  # the login is the process's
        try:
            signer = signer_of(key_of(own, "p-256"), own)
            while time.monotonic() < end:
                message = f"{threading.get_ident()} {len(signatures)}".encode()
                signature = signer.sign(message)
                verify(provisioned_token, "p-256", signature, message)
                signatures.append(signature)
        except Exception as error:  # noqa: BLE001 - reported by the thread that waits
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(signatures) > 100


@pytest.mark.parametrize("first", ["rolekey", "rolekey.tokens.library", "rolekey.tokens.token"])
def test_a_program_that_ends(provisioned_token, first):
    """A program that ends with its module loaded says nothing, whatever it imported first."""
    code = (
        f"import {first}\n"
        "from rolekey.tokens.modules import load_module\n"
        f"tokens = list(load_module({str(provisioned_token.module)!r}).tokens())\n"
        "assert len(tokens) == 2\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_module_however_it_is_named(provisioned_token, tmp_path):
    """A symbolic link to a module that is loaded gives the loaded one."""
    link = tmp_path / "link.so"
    link.symlink_to(provisioned_token.module)
    assert load_module(str(link)) is load_module(str(provisioned_token.module))
