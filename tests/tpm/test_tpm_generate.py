"""`rolekey key generate` and `csr` in a TPM: key files and persistent handles, as tpm2-tools and OpenSSL see them."""

import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from rolekey.certificates import spki
from support.pki import make_root
from support.process import GENEROUS, rolekey
from support.tpm_keys import TPMKeys
from support.tpm_proxy import proxy_of

CREATE = 0x153
CANNOT = "this key cannot leave the TPM"


@pytest.fixture
def run(tpm):
    """Runs a command of `rolekey key`."""

    def run(command, key, *words, **variables):
        more = ("--tpm-tcti", tpm.tcti, "--timeout", GENEROUS)
        return rolekey("key", command, str(key), *more, *words, environment=variables)

    return run


@pytest.fixture
def keep(tpm):
    """Frees a handle after a test."""
    handles = []

    def keep(handle):
        handles.append(handle)
        return f"handle:{handle:#x}"

    yield keep
    for handle in handles:
        tpm.run("tpm2_evictcontrol", "--object-context", f"{handle:#x}")


@pytest.fixture
def secret(tmp_path):
    """A file with a password."""

    def secret(text):
        path = tmp_path / f"{text}.password"
        path.touch(mode=0o600)
        path.write_text(text)
        return f"file:{path}"

    return secret


def said(outcome):
    """The lines of a success, by name."""
    assert (outcome.code, outcome.stderr) == (0, "")
    return dict(line.split(": ", 1) for line in outcome.stdout.splitlines())


def requested(run, key, *words):
    """The public key of a request that was signed with a key."""
    outcome = run("csr", key, "--subject", "CN=web-1", "--out", "-", *words)
    assert (outcome.code, outcome.stderr) == (0, "")
    request = x509.load_pem_x509_csr(outcome.stdout.encode())
    assert request.is_signature_valid
    return spki(request.public_key())


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa2048", "rsa3072"])
def test_file(tpm, run, tmp_path, kind):
    """A key file of each type: for this user alone, OpenSSL loads it, and it signs; it cannot leave the TPM."""
    path = tmp_path / "new.key"
    assert said(run("generate", path, "--type", kind))["verdict"] == CANNOT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    tpm.openssl("pkey", "-in", str(path), "-pubout", "-out", str(tmp_path / "public.pem"))
    public = spki(load_pem_public_key((tmp_path / "public.pem").read_bytes()))
    assert requested(run, path) == public
    assert said(run("inspect", path))["verdict"] == CANNOT


def test_handle(tpm, run, keep):
    """A key that the TPM keeps, as tpm2-tools reads it: fixed, made there, for signatures and nothing else."""
    key = keep(0x81010101)
    assert said(run("generate", key, "--type", "p256"))["verdict"] == CANNOT
    words = ("--object-context", key.removeprefix("handle:"), "--format", "pem", "--output", "kept.pem")
    shown = tpm.run("tpm2_readpublic", *words)
    assert "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign\n" in shown
    public = spki(load_pem_public_key((tpm.directory / "kept.pem").read_bytes()))
    assert requested(run, key, "--no-tpm-key-password") == public


def test_not_offered(run, tmp_path):
    """What this TPM does not make is an error that says so, and leaves no file."""
    run("generate", tmp_path / "new.key", "--type", "rsa4096").failed(3, "the TPM makes no rsa4096 key", "--type")
    assert list(tmp_path.iterdir()) == []


def test_file_is_not_overwritten(run, tmp_path):
    """A file that is there stays, whatever it is, unless it may be replaced; a URI never becomes a file."""
    path = tmp_path / "new.key"
    path.write_text("mine")
    run("generate", path, "--type", "p256").failed(2, "is there already", "--force")
    assert path.read_text() == "mine"
    assert said(run("generate", path, "--type", "p256", "--force"))["verdict"] == CANNOT
    assert path.read_text().startswith("-----BEGIN TSS2 PRIVATE KEY-----\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["new.key"]
    for name in ("PKCS11:object=a", "handle:new", "-"):
        assert run("generate", name, "--type", "p256").code == 2


def test_handle_is_not_overwritten(run, keep):
    """A handle in use stays as it is, unless it may be replaced."""
    key = keep(0x81010102)
    said(run("generate", key, "--type", "p256"))
    before = requested(run, key, "--no-tpm-key-password")
    run("generate", key, "--type", "p256").failed(3, "already keeps an object under handle:0x81010102", "--force")
    assert requested(run, key, "--no-tpm-key-password") == before
    assert "replaced" in said(run("generate", key, "--type", "p256", "--force"))
    assert requested(run, key, "--no-tpm-key-password") != before


def test_parent_is_never_replaced(tpm, run, keep):
    """A storage key is the parent of others: --force does not replace it."""
    key = keep(0x81010103)
    TPMKeys(tpm, make_root()).storage_key(0x81010103)
    run("generate", key, "--type", "p256", "--force").failed(3, "no signing key", "is not replaced")


@pytest.mark.parametrize("kept", [False, True], ids=["file", "handle"])
def test_password(tpm, run, keep, tmp_path, secret, kept):
    """A password that is configured is the new key's: it signs with it, and with no other; wrong ones count."""
    key = keep(0x81010104) if kept else str(tmp_path / "new.key")
    said(run("generate", key, "--type", "p256", "--pin-source", secret("right")))
    assert requested(run, key, "--pin-source", secret("right"))
    outcome = run("csr", key, "--subject", "CN=a", "--out", "-", "--pin-source", secret("wrong"))
    outcome.failed(4, "the password was not accepted; the TPM has counted that")
    tpm.run("tpm2_dictionarylockout", "--clear-lockout")


def test_no_question(run, tmp_path):
    """A new password is not asked for, and not cut to what fits."""
    words = ("generate", tmp_path / "new.key", "--type", "p256")
    run(*words, "--pin-source", "prompt").failed(2, "the password of a new key is not asked for")
    run(*words, "--pin-source", "env:NEW", NEW="x" * 33).failed(4, "at most 32 bytes")
    assert list(tmp_path.iterdir()) == []


def test_owner_password(tpm, run, tmp_path, secret):
    """The owner's password is taken from its source; without it, or with another, nothing is made."""
    tpm.run("tpm2_changeauth", "--object-context", "owner", "own")
    try:
        path, key = tmp_path / "new.key", "handle:0x81010105"
        run("generate", path, "--type", "p256").failed(4, "--tpm-parent-password-source")
        wrong = ("--tpm-parent-password-source", secret("other"))
        run("generate", key, "--type", "p256", *wrong).failed(4, "the password was not accepted")
        assert not path.exists()
        right = ("--tpm-parent-password-source", secret("own"))
        said(run("generate", path, "--type", "p256", *right))
        said(run("generate", key, "--type", "p256", *right))
        assert requested(run, path, *right)
        assert requested(run, key, "--no-tpm-key-password")
        tpm.run("tpm2_evictcontrol", "--auth", "own", "--object-context", "0x81010105")
    finally:
        tpm.run("tpm2_changeauth", "--object-context", "owner", "--object-auth", "own", "")


def test_no_tpm(tmp_path):
    """Without a TPM there is no key and no file."""
    words = ("key", "generate", str(tmp_path / "new.key"), "--type", "p256", "--tpm-tcti", "device:/nowhere")
    rolekey(*words).failed(3, "/nowhere")
    assert list(tmp_path.iterdir()) == []


def test_certificate_has_no_place(run, tmp_path):
    """A TPM keeps no certificate: the error says how it is used."""
    certificate, _ = make_root().issue().write(tmp_path, "leaf")
    outcome = run("import-certificate", "handle:0x81010101", str(certificate))
    outcome.failed(2, "is in no PKCS#11 token", "--certificate FILE")


def test_password_is_encrypted(tpm, run, tmp_path, secret):
    """The new key's password does not go to the TPM as it is: who stands in between does not see it."""
    source = secret("canary-password")
    with proxy_of(tpm, tmp_path) as proxy:
        words = ("--type", "p256", "--pin-source", source, "--tpm-tcti", str(proxy.path))
        said(run("generate", tmp_path / "new.key", *words))
    assert proxy.commands[CREATE] == 1
    assert b"canary-password" not in proxy.overheard
    assert requested(run, tmp_path / "new.key", "--pin-source", source)
