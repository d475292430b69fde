"""Certificate stores on Windows: what is found, what is refused, and signatures of a CNG key in one process.

Wine keeps certificates in the registry, but no key of CNG beyond its process, and knows no ECDSA there. So look-up is
run with certificates whose keys are gone, and everything with a key inside one process (windows_programs).
"""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from rolekey.vend.certificate_data import certificate_list
from support.windows_store import LEGACY_PROVIDER, Stored, selectors_in, windows_store

ANCHOR = "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a"
POLICY = ("rolekey", "trust-policy", "--trust-anchor-arn", ANCHOR)
NTE_NOT_SUPPORTED = 0x80090029


@pytest.fixture
def store(windows, tmp_path):
    """The certificate stores, to be filled."""
    with windows_store(windows, tmp_path) as store:
        yield store


@pytest.fixture
def ca(root, tmp_path):
    """The files of the CA that the emulator trusts."""
    return root.write(tmp_path, "ca")


@pytest.fixture
def issue(root):
    """Issues a certificate to a name, for so many days."""

    def issue(name, days=1):
        end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
        return root.issue(common_name=name, not_after=end).certificate

    return issue


@pytest.fixture
def chosen(windows):
    """The common name of the certificate that options select; no key is opened for it."""

    def chosen(*options):
        done = windows.run(*POLICY, *options)
        assert (done.returncode, done.stderr) == (0, "")
        condition = json.loads(done.stdout)["Statement"][0]["Condition"]["StringEquals"]
        return condition["aws:PrincipalTag/x509Subject/CN"]

    return chosen


def test_the_list(store, windows, issue):
    """read-certificate-data lists what has a key, of the user and of the computer, each once, as the helper does."""
    mine, theirs, both, without = (issue(name) for name in ("mine", "theirs", "both", "without"))
    store.put(
        Stored(mine),
        Stored(theirs, "LocalMachine"),
        Stored(both),
        Stored(both, "LocalMachine"),
        Stored(without, provider=None),
        Stored(issue("other"), store="Ours"),
    )
    for words in ((), ("--system-store-name", "my")):
        done = windows.run("rolekey", "read-certificate-data", *words)
        assert (done.returncode, done.stderr) == (0, "")
        lines = [line for line in done.stdout.splitlines() if line.startswith("Subject: ")]
        assert sorted(lines) == ["Subject: CN=both", "Subject: CN=mine", "Subject: CN=theirs"]
    done = windows.run("rolekey", "read-certificate-data", "--cert-selector", "Key=x509Subject,Value=CN=theirs")
    assert done.stdout == certificate_list([(theirs, None)])
    done = windows.run("rolekey", "read-certificate-data", "--cert-selector", "Key=x509Subject,Value=CN=THEIRS")
    assert (done.returncode, done.stdout) == (0, "No matching identities\n")


def test_several(store, windows, issue, chosen):
    """Several are listed and none is taken; each selector that is offered selects one; the latest is taken if asked."""
    certificates = {name: issue(name, days) for name, days in (("a", 5), ("b", 20), ("c", 9))}
    store.put(*(Stored(certificate, place) for certificate, place in zip(certificates.values(), PLACES, strict=True)))
    done = windows.run("rolekey", "sign-string", "--cert-selector", "")
    assert (done.returncode, done.stdout) == (3, "")
    assert "3 certificates in the certificate store MY match: " in done.stderr
    selectors = selectors_in(done.stderr)
    assert sorted(chosen("--cert-selector", selector) for selector in selectors) == ["a", "b", "c"]
    assert chosen("--use-latest-expiring-certificate") == "b"


PLACES = ("CurrentUser", "LocalMachine", "CurrentUser")


def test_where(store, windows, issue, chosen, tmp_path):
    """The computer's store is looked into, another store by its name, and the selector may be in a file."""
    store.put(Stored(issue("machine"), "LocalMachine"), Stored(issue("other"), store="Ours"))
    assert chosen("--cert-selector", "") == "machine"
    assert chosen("--system-store-name", "Ours") == "other"
    path = tmp_path / "selector.json"
    path.write_text('[{"Key": "x509Subject", "Value": "CN=machine"}]', encoding="utf-8-sig")
    assert chosen("--cert-selector", f"file://{windows.path(path)}") == "machine"
    done = windows.run(*POLICY, "--system-store-name", "Nowhere")
    assert done.returncode == 3
    assert "there is no certificate store Nowhere" in done.stderr


def test_nothing_is_named(windows, store, issue):
    """Without a flag of the store none of its certificates is used; the hint says how it would be."""
    store.put(Stored(issue("machine")))
    done = windows.run("rolekey", "sign-string")
    assert (done.returncode, done.stdout) == (2, "")
    assert "neither --certificate nor --private-key is given" in done.stderr
    assert '--cert-selector ""' in done.stderr


def test_a_key_that_is_gone(windows, store, issue):
    """A certificate whose key is gone is found; the call with which it ends is CryptAcquireCertificatePrivateKey."""
    store.put(Stored(issue("machine")))
    done = windows.run("rolekey", "sign-string", "--cert-selector", "")
    assert (done.returncode, done.stdout) == (3, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("rolekey: error: open the key of CN=machine in CurrentUser\\MY: Windows finds no key of it")
    assert error.endswith("(CRYPT_E_NO_KEY_PROPERTY)")
    assert hint.startswith("rolekey: hint: ")


def test_a_key_of_cryptoapi(windows, store, root):
    """A key that lasts, of a provider of CryptoAPI: it is refused, and the provider named."""
    public_key = load_pem_public_key(store.legacy_key("rolekey-test").encode())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().public_key(public_key).serial_number(7).issuer_name(root.certificate.subject)
    builder = builder.subject_name(root.certificate.subject).not_valid_before(now).not_valid_after(now)
    certificate = builder.sign(root.key, hashes.SHA256())
    store.put(Stored(certificate, provider=LEGACY_PROVIDER, provider_type=24, container="rolekey-test"))
    done = windows.run("rolekey", "sign-string", "--cert-selector", "")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"belongs to {LEGACY_PROVIDER}, a provider of the older CryptoAPI" in done.stderr


# --- with a key, in one process ---


def test_signatures(store, ca):
    """Each signature verifies, is one NCryptSignHash, and all that Windows gave is given back; Wine has no ECDSA."""
    done = store.with_key(ca, "check")
    assert done.stderr == ""
    seen = json.loads(done.stdout)
    assert seen["sizes"] == dict.fromkeys(("sha256", "sha384", "sha512"), 256)
    calls = seen["calls"]
    assert calls["NCryptSignHash"] == 9
    assert calls["CryptAcquireCertificatePrivateKey"] == 1
    assert calls["CertOpenStore"] == calls["CertCloseStore"]
    given = calls["CertEnumCertificatesInStore"] + calls["CertDuplicateCertificateContext"]
    # The next one gives each of an enumeration back.
    assert given == calls["CertFreeCertificateContext"] + calls["CertEnumCertificatesInStore"]
    assert seen["ECDSA"] == NTE_NOT_SUPPORTED


def test_credentials_and_the_cache(store, ca, emulator):
    """credential-process gets credentials with the store's key; the next process has them from the cache."""
    words = ("credential-process", *emulator.arguments, "--cert-selector", "Key=x509Subject,Value=CN=in the store")
    done = store.with_key(ca, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(done.stdout)["AccessKeyId"]] == emulator.granted
    again = store.windows.run("rolekey", *words)
    assert (again.returncode, again.stderr, again.stdout) == (0, "", done.stdout)
    assert len(emulator.requests) == 1
    other = store.windows.run("rolekey", *words[:-1], "Key=x509Subject,Value=CN=another")
    assert (other.returncode, other.stdout) == (3, "")


def test_the_chain(store, root, emulator, tmp_path):
    """An intermediate that Windows keeps in its store for them is sent with the certificate."""
    below = root.issue_authority()
    store.put(Stored(below.certificate, store="CA", provider=None))
    done = store.with_key(
        below.write(tmp_path, "below"), "credential-process", *emulator.arguments, "--cert-selector", ""
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(done.stdout)["AccessKeyId"]] == emulator.granted


def test_a_named_identity(store, ca, emulator, windows):
    """Configure keeps an empty selector, the store's name and the choice of the latest; credential-process has them."""
    options = ("--cert-selector", "", "--system-store-name", "MY", "--use-latest-expiring-certificate")
    done = windows.run("rolekey", "configure", "prod", *emulator.arguments, *options)
    assert (done.returncode, done.stderr) == (0, "")
    config = (windows.home / "AppData/Roaming/rolekey/config.toml").read_text()
    assert 'cert-selector = ""' in config
    assert "use-latest-expiring-certificate = true" in config
    done = store.with_key(ca, "credential-process", "prod")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(done.stdout)["AccessKeyId"]] == emulator.granted


def test_a_boto3_session(store, ca, emulator):
    """A session of boto3 signs with an identity of the store."""
    arns = ("trust_anchor_arn", "profile_arn", "role_arn")
    options = {"endpoint": emulator.url, **{name: getattr(emulator, name) for name in arns}, "cert_selector": ""}
    done = store.with_key(ca, "boto3", json.dumps(options))
    assert done.stderr == ""
    assert [json.loads(done.stdout)["access_key_id"]] == emulator.granted


def test_doctor(store, ca, emulator):
    """Doctor finds certificate and key, and says what the provider tells of export: under Wine nothing."""
    done = store.with_key(ca, "doctor", *emulator.arguments, "--cert-selector", "", "--json")
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    for name in ("key and certificate", "certificate", "certificate profile", "validity", "chain", "key in store"):
        assert findings[name]["status"] == "ok", findings[name]
    assert "RSA 2048" in findings["key in store"]["message"]
    assert "export cannot be ruled out: NCRYPT_IMPL_HARDWARE_FLAG is not given" in findings["key in store"]["message"]


def test_require_non_exportable(store, ca, emulator):
    """Where export cannot be ruled out, the key is not used if that is required."""
    words = ("credential-process", *emulator.arguments, "--cert-selector", "", "--require-non-exportable")
    done = store.with_key(ca, *words)
    assert (done.returncode, done.stdout) == (3, "")
    assert "is not used (--require-non-exportable): export cannot be ruled out" in done.stderr
    assert emulator.requests == []
