"""Every form in which OpenSSL writes keys and certificates: what it wrote is read, and what cannot be is named."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from rolekey.certificates import check_end_entity, issuer_chain, read_certificates, spki, utc_now
from rolekey.der import elements
from rolekey.errors import (
    AmbiguousMatchError,
    CertificateError,
    KeyNotFoundError,
    PinIncorrectError,
    RolekeyError,
    UnsupportedKeyError,
)
from rolekey.pkcs12_file import is_pkcs12
from rolekey.secret import Secret
from rolekey.signers.file import open_file_signer
from rolekey.signers.pbes2 import decrypt
from support.der import explicit, octets, tlv
from support.pki import make_key, make_root, to_pem

PASSPHRASE = "correct horse é"

pytestmark = pytest.mark.rig("openssl")


@pytest.fixture(autouse=True)
def openssl(record_property, tmp_path, monkeypatch):
    """Runs openssl in a directory of the test's own; its version is in the report, and in every failure."""
    version = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout.strip()
    record_property("openssl", version)
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> bytes:
        done = subprocess.run(["openssl", *command.split()], capture_output=True, check=False, env={"PW": PASSPHRASE})
        assert done.returncode == 0, f"{version}: {done.stderr.decode()}"
        return done.stdout

    return run


def asked(_what: str = "") -> Secret:
    """The right passphrase."""
    return Secret(PASSPHRASE)


def never_asked(_what: str = "") -> Secret:
    """For what has no passphrase."""
    raise AssertionError("a passphrase was asked for")


def opened(data: bytes, passphrase=never_asked, **more):
    """The signer of a key file."""
    return open_file_signer(Path("key-file"), data, passphrase, **more)


# --- encrypted PKCS#8 ---

PRFS = ("SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "SHA512-224", "SHA512-256", "MD5")
CIPHERS = ("aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "des-ede3-cbc")
SCHEMES = [
    *(f"-v2 {cipher} -v2prf hmacWith{prf}" for cipher in CIPHERS for prf in PRFS),
    *(f"-v2 {cipher} -scrypt" for cipher in CIPHERS),
    "-v2 aes-256-cbc -scrypt -scrypt_N 1024 -scrypt_r 4 -scrypt_p 2",
    "-v2 aes-128-cbc -iter 1",
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_pbes2(scheme, openssl):
    """A key under each PBES2 is read; a wrong passphrase is said to be one.

    HMAC-SHA1 is the PRF that is not named in the file, as in those that AWS Certificate Manager exports.
    """
    key = make_key("p256")
    Path("plain.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    encrypted = openssl(f"pkcs8 -topk8 -in plain.pem {scheme} -passout env:PW")
    assert spki(opened(encrypted, asked).public_key) == spki(key.public_key())
    with pytest.raises(PinIncorrectError):
        opened(encrypted, lambda _: Secret("wrong"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_pbes2_by_our_own_code(scheme, openssl):
    """What is left to our own code, ML-DSA keys with seed and expanded key among it, is decrypted under each, too."""
    plain = make_key("p256").private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    Path("plain.der").write_bytes(plain)
    encrypted = openssl(f"pkcs8 -topk8 -in plain.der -inform DER -outform DER {scheme} -passout env:PW")
    assert decrypt(encrypted, PASSPHRASE.encode()) == plain


@pytest.mark.parametrize("scheme", ["-v1 PBE-SHA1-3DES", "-v2 aes-256-cbc"])
@pytest.mark.parametrize("name", ["rsa2048", "p256", "p384", "p521"])
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_every_type_of_encrypted_key(scheme, name, form, openssl):
    """Every type of key, as PEM and as DER."""
    key = make_key(name)
    Path("plain.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    encrypted = openssl(f"pkcs8 -topk8 -in plain.pem -outform {form} {scheme} -passout env:PW")
    assert spki(opened(encrypted, asked).public_key) == spki(key.public_key())


@pytest.mark.parametrize(
    "scheme", ["-v2 camellia-256-cbc", "-v2 aria-256-cbc", "-v2 aes-256-ofb", "-v2 sm4-cbc", "-v1 PBE-SHA1-2DES"]
)
def test_encryption_that_is_not_supported(scheme, openssl):
    """It is named as the cause, and not the passphrase, which may be right."""
    Path("plain.pem").write_bytes(make_key("p256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    encrypted = openssl(f"pkcs8 -topk8 -in plain.pem {scheme} -passout env:PW")
    with pytest.raises(UnsupportedKeyError, match="the encryption of the private key in key-file is not supported"):
        opened(encrypted, asked)


# --- keys in DER ---


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("rsa2048", "pkcs8 -topk8 -nocrypt"),
        ("p384", "pkcs8 -topk8 -nocrypt"),
        ("rsa2048", "rsa -traditional"),
        ("p256", "ec"),
        ("p521", "ec"),
    ],
)
def test_keys_in_der(name, command, openssl):
    """PKCS#8, PKCS#1 and SEC1 in DER."""
    key = make_key(name)
    Path("plain.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    der = openssl(f"{command} -in plain.pem -outform DER")
    assert spki(opened(der).public_key) == spki(key.public_key())
    with pytest.raises(RolekeyError):
        opened(der[:-1])
    with pytest.raises(UnsupportedKeyError, match="not encrypted"):
        opened(der, passphrase_given=True)


# --- PKCS#12 ---

ALGORITHMS = [
    "",
    "-keypbe aes-128-cbc -certpbe aes-128-cbc",
    "-keypbe aes-192-cbc -certpbe aes-192-cbc -macalg sha512",
    "-keypbe des-ede3-cbc -certpbe des-ede3-cbc",
    "-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1",
    "-legacy",
    "-keypbe NONE -certpbe NONE",
    "-nomac",
]


@pytest.fixture(scope="module")
def pair() -> Iterator:
    """A root, an intermediate and a leaf."""
    root = make_root()
    inter = root.issue_authority()
    return root, inter, inter.issue(make_key("rsa2048"))


@pytest.fixture
def export(pair, openssl):
    """Writes a PKCS#12 file with openssl."""
    root, inter, leaf = pair
    Path("key.pem").write_bytes(leaf.key_pem)
    Path("leaf.pem").write_bytes(leaf.pem)
    Path("chain.pem").write_bytes(to_pem([root.certificate, inter.certificate]))

    def write(more: str, *, password: bool = True) -> bytes:
        passout = "env:PW" if password else "pass:"
        openssl(f"pkcs12 -export -passout {passout} -out out.p12 -in leaf.pem {more}")
        return Path("out.p12").read_bytes()

    return write


@pytest.mark.parametrize("password", [True, False], ids=["with a password", "with an empty password"])
@pytest.mark.parametrize("algorithms", ALGORITHMS)
def test_pkcs12(algorithms, password, pair, export):
    """Key, certificate and issuers are read, under old algorithms and new; a password is asked for where one is."""
    root, inter, leaf = pair
    data = export(f"-inkey key.pem -certfile chain.pem {algorithms}", password=password)
    passphrase = asked if password else never_asked
    assert spki(opened(data, passphrase).public_key) == spki(leaf.key.public_key())
    first, *others = read_certificates(Path("out.p12"), passphrase=passphrase)
    assert first == leaf.certificate
    assert set(others) == {root.certificate, inter.certificate}
    assert issuer_chain(first, others) == (inter.certificate,)


def test_pkcs12_with_a_wrong_password(export):
    """It is said to be wrong, and is in neither text nor cause; where none can be given the file cannot be read."""
    data = export("-inkey key.pem")
    for read in (
        lambda: opened(data, lambda _: Secret("not-this-one")),
        lambda: read_certificates(Path("out.p12"), passphrase=lambda: Secret("not-this-one")),
    ):
        with pytest.raises(PinIncorrectError, match="does not open the PKCS#12 file") as caught:
            read()
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert "not-this-one" not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(CertificateError, match="no certificate that can be read") as unread:
        read_certificates(Path("out.p12"))
    assert "a PKCS#12 file without a password" in unread.value.hint


def test_a_passphrase_for_a_pkcs12_file_without(export):
    """A passphrase that the file has no use for is said to be one."""
    data = export("-inkey key.pem", password=False)
    with pytest.raises(UnsupportedKeyError, match="not encrypted"):
        opened(data, asked, passphrase_given=True)


def test_pkcs12_without_a_key(pair, export):
    """Certificates alone can be read, and no key is made of them."""
    data = export("-nokeys")
    assert read_certificates(Path("out.p12"), passphrase=asked) == (pair[2].certificate,)
    with pytest.raises(KeyNotFoundError, match="holds no private key"):
        opened(data, asked)


def test_pkcs12_with_two_keys(export, openssl):
    """None of two keys is chosen, whoever reads the file; openssl agrees that there are two."""
    export("-inkey key.pem -keypbe NONE -certpbe NONE -nomac", password=False)
    one = Path("out.p12").read_bytes()
    Path("out.p12").write_bytes(doubled(one))
    assert openssl("pkcs12 -in out.p12 -nodes -nocerts -passin pass:").count(b"BEGIN PRIVATE KEY") == 2
    for read in (lambda: opened(doubled(one)), lambda: read_certificates(Path("out.p12"))):
        with pytest.raises(AmbiguousMatchError, match="holds 2 private keys"):
            read()


def doubled(data: bytes) -> bytes:
    """A PKCS#12 file without encryption and MAC whose part with the key is there twice."""
    (pfx,) = elements(data)
    version, info = elements(pfx.content)
    kind, wrapped = elements(info.content)
    (safe,) = elements(elements(wrapped.content)[0].octets)
    parts = [part.whole for part in elements(safe.content)]
    authenticated = tlv(0x30, *parts, parts[-1])
    return tlv(0x30, version.whole, tlv(0x30, kind.whole, explicit(0, octets(authenticated))))


@pytest.mark.rig("nss")
def test_pkcs12_of_nss(pair, export):
    """NSS writes BER with indefinite lengths, of which nothing is said on stderr."""
    export("-inkey key.pem -name leaf")
    Path("password").write_text(PASSPHRASE)
    Path("db").mkdir()
    for command in (
        "certutil -N -d sql:db --empty-password",
        "pk12util -i out.p12 -d sql:db -w password",
        "pk12util -o nss.p12 -n leaf -d sql:db -w password",
    ):
        subprocess.run(command.split(), capture_output=True, check=True)
    data = Path("nss.p12").read_bytes()
    assert data.startswith(b"0\x80")
    assert spki(opened(data, asked).public_key) == spki(pair[2].key.public_key())
    assert read_certificates(Path("nss.p12"), passphrase=asked)[0] == pair[2].certificate


@pytest.mark.parametrize("cut", [1, 2, 5, 50, 500])
def test_damaged_pkcs12(cut, export):
    """A file that ends too early, or has a wrong octet, is an error of ours; nothing else gets out."""
    data = export("-inkey key.pem", password=False)
    for damaged in (data[:-cut], data[:cut] + b"\xff" + data[cut + 1 :], data[:cut]):
        with pytest.raises(RolekeyError):
            opened(damaged, asked)


@pytest.mark.parametrize(
    "data", [b"", b"0", b"0\x80", b"0\x80" * 5000, b"0\x84\xff\xff\xff\xff", b"\x1f\x81\x01", b"text"]
)
def test_what_is_no_ber(data):
    """Whatever a file holds, looking at it ends and says no."""
    assert not is_pkcs12(data)


# --- certificates ---


def test_certificate_in_der(pair, openssl):
    """The certificate in DER is the one in PEM."""
    Path("leaf.pem").write_bytes(pair[2].pem)
    Path("leaf.der").write_bytes(openssl("x509 -in leaf.pem -outform DER"))
    assert read_certificates(Path("leaf.der")) == (pair[2].certificate,)


@pytest.mark.parametrize("order", ["leaf inter root", "leaf root inter", "leaf inter"])
def test_full_chain(order, pair):
    """A PEM file with the leaf first is certificate and chain, whatever the order of the others."""
    root, inter, leaf = pair
    named = {"root": root, "inter": inter, "leaf": leaf}
    Path("full.pem").write_bytes(b"".join(named[name].pem for name in order.split()))
    first, *others = read_certificates(Path("full.pem"))
    assert (first, issuer_chain(first, others)) == (leaf.certificate, (inter.certificate,))


@pytest.mark.parametrize("order", ["root inter leaf", "inter leaf root"])
def test_a_chain_in_the_wrong_order(order, pair):
    """With a CA first the file is refused, and says what must be first."""
    root, inter, leaf = pair
    named = {"root": root, "inter": inter, "leaf": leaf}
    Path("full.pem").write_bytes(b"".join(named[name].pem for name in order.split()))
    first, *_ = read_certificates(Path("full.pem"))
    with pytest.raises(CertificateError, match="is a CA certificate") as caught:
        check_end_entity(first, utc_now())
    assert "its file must have it first" in caught.value.hint
