"""softhsm/provision: what is in the directory that it fills."""

import hashlib
import os
import stat
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from support.pkcs11_spy import PKCS11Calls, PKCS11Spy
from support.softhsm import OBJECT_IDS, PROVISION, ProvisionedToken

pytestmark = pytest.mark.rig("softhsm")


def contents(directory: Path) -> dict[str, str]:
    """What a directory holds, but for the record of wrong PINs that SoftHSM writes anew at each login."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != "token.object"
    }


def test_second_run_changes_nothing_and_prints_the_same(provisioned_token):
    """Provisioning can be run again at any time: nothing is made anew, and the URIs are the same."""
    directory = provisioned_token.directory
    before = contents(directory)
    runs = [subprocess.run([PROVISION, directory], capture_output=True, text=True, check=True) for _ in range(2)]
    assert contents(directory) == before
    assert runs[0].stdout == runs[1].stdout
    for label in OBJECT_IDS:
        assert f"'{provisioned_token.uri(label)}'" in runs[0].stdout


def test_a_removed_certificate_is_made_again(provisioned_token, tmp_path):
    """What is missing is made from what the token holds, and is the same as before."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-R", provisioned_token.directory, copy], check=True)
    certificate = ProvisionedToken(copy).certificate("p-384")
    before = certificate.read_bytes()
    certificate.unlink()
    subprocess.run([PROVISION, copy], capture_output=True, check=True)
    assert certificate.read_bytes() == before


def test_a_certificate_of_another_key_is_refused(provisioned_token, tmp_path):
    """A directory whose parts do not belong together is reported in one line, never used."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-R", provisioned_token.directory, copy], check=True)
    (copy / "file" / "p-256.pem").write_bytes(ProvisionedToken(copy).certificate("p-256").read_bytes())
    run = subprocess.run([PROVISION, copy], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1)
    assert "another key's: remove" in run.stderr


def test_nobody_else_can_read_a_secret(provisioned_token):
    """PINs, keys and the token are for their owner only."""
    for path in provisioned_token.directory.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_missing_programs_are_named_with_their_packages(tmp_path):
    """Without pkcs11-tool the one line says which Debian packages to install."""
    (tmp_path / "bin").mkdir()
    for program in ("bash", "dirname", "env"):
        (tmp_path / "bin" / program).symlink_to(f"/usr/bin/{program}")
    run = subprocess.run(
        [PROVISION, tmp_path / "token"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(tmp_path / "bin")},
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "softhsm2 opensc openssl" in run.stderr


@pytest.mark.parametrize(
    ("label", "kind", "size"),
    [
        ("rsa-2048", rsa.RSAPublicKey, 2048),
        ("rsa-4096", rsa.RSAPublicKey, 4096),
        ("p-256", ec.EllipticCurvePublicKey, 256),
        ("p-384", ec.EllipticCurvePublicKey, 384),
        ("p-521", ec.EllipticCurvePublicKey, 521),
        ("always-auth", ec.EllipticCurvePublicKey, 256),
    ],
)
def test_certificates_are_what_roles_anywhere_asks_for(provisioned_token, label, kind, size):
    """Each key has an end-entity certificate with digitalSignature, issued by the intermediate under the root."""
    certificate = x509.load_pem_x509_certificate(provisioned_token.certificate(label).read_bytes())
    intermediate = x509.load_pem_x509_certificate(provisioned_token.intermediate.read_bytes())
    root = x509.load_pem_x509_certificate(provisioned_token.root.read_bytes())
    certificate.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    key = certificate.public_key()
    assert isinstance(key, kind)
    assert key.key_size == size
    assert certificate.subject.rfc4514_string() == f"CN={label},O=rolekey throw-away"
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("label", OBJECT_IDS)
def test_spy_counts_logins_and_signatures(provisioned_token, pkcs11_spy: PKCS11Spy, tmp_path, label):
    """The spy's counts are those of a run whose calls are known: one login, and one signature with a buffer."""
    log = tmp_path / "calls"
    (tmp_path / "in").write_bytes(bytes(32))
    command = f"--module {pkcs11_spy.module} --token-label {provisioned_token.label} --login --pin env:PIN --sign"
    options = f"--id {OBJECT_IDS[label].hex()} --input-file in --output-file out --mechanism"
    subprocess.run(
        ["pkcs11-tool", *command.split(), *options.split(), "RSA-PKCS" if label.startswith("rsa") else "ECDSA"],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PIN": provisioned_token.user_pin,
            **provisioned_token.environment,
            **pkcs11_spy.environment(provisioned_token.module, log),
        },
    )
    calls = PKCS11Calls.read(log)
    expected = Counter(CKU_USER=1, CKU_CONTEXT_SPECIFIC=1) if label == "always-auth" else Counter(CKU_USER=1)
    assert calls.logins == expected
    assert calls.count["C_Initialize"] == 1
    assert (calls.count["C_SignInit"], calls.signatures, calls.length_queries) == (1, 1, 0)


@pytest.mark.rig("openssl")
@pytest.mark.parametrize("name", ["-verify_ip 127.0.0.1", "-verify_ip ::1", "-verify_hostname localhost"])
def test_tls_certificate_is_for_this_machine(provisioned_token, name):
    """A TLS client that trusts tls/ca.pem accepts tls/server.pem under each name of the loopback interface."""
    tls = provisioned_token.directory / "tls"
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", *name.split()]
    subprocess.run([*command, "-CAfile", tls / "ca.pem", tls / "server.pem"], capture_output=True, check=True)


@pytest.mark.rig("openssl")
@pytest.mark.parametrize("label", OBJECT_IDS)
def test_openssl_accepts_the_chain_by_the_book(provisioned_token, label):
    """Every certificate leads to the root by the strict rules, and not without the intermediate."""
    command = ["openssl", "verify", "-x509_strict", "-CAfile", provisioned_token.root]
    certificate = provisioned_token.certificate(label)
    chain = ["-untrusted", provisioned_token.intermediate]
    subprocess.run([*command, *chain, certificate], capture_output=True, check=True)
    assert subprocess.run([*command, certificate], capture_output=True, check=False).returncode != 0
