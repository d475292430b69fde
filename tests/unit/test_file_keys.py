"""Private keys in files: every form that users have, and what is said of the others."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
    pkcs12,
)

from rolekey.certificates import read_file, spki
from rolekey.errors import (
    AmbiguousMatchError,
    KeyNotFoundError,
    PinIncorrectError,
    RolekeyError,
    UnsupportedKeyError,
)
from rolekey.secret import Secret
from rolekey.signers.file import open_file_signer
from rolekey.signers.pbes2 import decrypt
from rolekey.sigv4_x509 import verify_signature
from support.der import integer, octets, tlv
from support.pki import make_key, make_root

VECTORS = Path(__file__).parents[1] / "vectors"
PASSPHRASE = "correct horse"


def open_key(path, passphrase, **more):
    """The signer of a key file."""
    return open_file_signer(path, read_file(path, "private key file", KeyNotFoundError), passphrase, **more)


def asked(_what: str) -> Secret:
    return Secret(PASSPHRASE)


def never_asked(_what: str) -> Secret:
    raise AssertionError("a passphrase was asked for")


def pem(key, form, encryption=None):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


@pytest.mark.parametrize("name", ["rsa2048", "p256", "p384", "p521", "mldsa44", "mldsa65", "mldsa87"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_pkcs8_of_every_type(tmp_path, name, encrypted):
    """PKCS#8, plain (no passphrase is asked for) and encrypted: the key signs and the signature verifies."""
    key = make_key(name)
    path = tmp_path / "key.pem"
    path.write_bytes(pem(key, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode()) if encrypted else None))
    signer = open_key(path, asked if encrypted else never_asked)
    assert spki(signer.public_key) == spki(key.public_key())
    verify_signature(key.public_key(), signer.sign(b"message"), b"message")


@pytest.mark.parametrize("name", ["rsa2048", "p256", "p384", "p521"])
def test_traditional_forms(tmp_path, name):
    """PKCS#1 and SEC1, plain and in OpenSSL's old encryption."""
    key = make_key(name)
    (tmp_path / "plain.pem").write_bytes(pem(key, PrivateFormat.TraditionalOpenSSL))
    encrypted = pem(key, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(PASSPHRASE.encode()))
    (tmp_path / "encrypted.pem").write_bytes(encrypted)
    assert b"Proc-Type: 4,ENCRYPTED" in encrypted
    assert spki(open_key(tmp_path / "plain.pem", never_asked).public_key) == spki(key.public_key())
    assert spki(open_key(tmp_path / "encrypted.pem", asked).public_key) == spki(key.public_key())


@pytest.mark.rig("openssl")
@pytest.mark.parametrize(
    "command",
    [
        "openssl ecparam -name prime256v1 -genkey",
        "openssl ecparam -name secp521r1 -genkey",
        "openssl genrsa -traditional 2048",
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        "openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -v2 aes-128-cbc -passout pass:'{}'",
        "openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -scrypt -passout pass:'{}'",
        "openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-192-cbc -v2prf hmacWithSHA512 -passout pass:'{}'",
        "openssl genrsa -aes256 -traditional -passout pass:'{}' 2048",
    ],
)
def test_keys_that_openssl_writes(tmp_path, command):
    """What openssl writes is read, EC PARAMETERS in front included; openssl agrees on the public key."""
    path = tmp_path / "key.pem"
    done = subprocess.run(["bash", "-c", command.format(PASSPHRASE)], capture_output=True, check=True)
    path.write_bytes(done.stdout)
    signer = open_key(path, asked)
    words = ["openssl", "pkey", "-in", str(path), "-pubout", "-passin", f"pass:{PASSPHRASE}"]
    public = subprocess.run(words, capture_output=True, check=True).stdout
    assert spki(signer.public_key) == spki(load_pem_public_key(public))


def test_ec_parameters_in_front(tmp_path):
    """The block of EC PARAMETERS that openssl ecparam writes first is passed over."""
    key = make_key("p256")
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    (tmp_path / "key.pem").write_bytes(parameters + pem(key, PrivateFormat.TraditionalOpenSSL))
    assert spki(open_key(tmp_path / "key.pem", never_asked).public_key) == spki(key.public_key())


def test_key_beside_its_certificate(tmp_path):
    """One file with certificate, key and text around them is enough."""
    leaf = make_root().issue()
    (tmp_path / "combo.pem").write_bytes(b"text\r\n" + leaf.pem + leaf.key_pem.replace(b"\n", b"\r\n") + b"more")
    assert spki(open_key(tmp_path / "combo.pem", never_asked).public_key) == spki(leaf.key.public_key())


def both_form_vector():
    vector = json.loads((VECTORS / "sigv4_x509.json").read_text())[-1]
    lines = vector["private_key_pem"].splitlines()
    return vector, base64.b64decode("".join(lines[1:-1]))


def scrypt_encrypted(der: bytes) -> bytes:
    """PBES2 with scrypt and AES-256-CBC, put together by hand, since no tool here encrypts this form."""
    salt, iv = b"saltsalt", b"0123456789abcdef"
    key = Scrypt(salt, 32, 1024, 8, 1).derive(PASSPHRASE.encode())
    padding = 16 - len(der) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    data = encryptor.update(der + bytes([padding] * padding)) + encryptor.finalize()

    def tlv(tag: int, *content: bytes) -> bytes:
        body = b"".join(content)
        size = len(body).to_bytes(2, "big")
        return bytes([tag, 0x82]) + size + body if len(body) > 127 else bytes([tag, len(body)]) + body

    scrypt = tlv(0x30, tlv(4, salt), tlv(2, b"\x04\x00"), tlv(2, b"\x08"), tlv(2, b"\x01"))
    kdf = tlv(0x30, bytes.fromhex("06092b06010401da47040b"), scrypt)
    cipher = tlv(0x30, bytes.fromhex("060960864801650304012a"), tlv(4, iv))
    pbes2 = tlv(0x30, bytes.fromhex("06092a864886f70d01050d"), tlv(0x30, kdf, cipher))
    return tlv(0x30, pbes2, tlv(4, data))


def as_pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


def test_mldsa_in_the_both_form(tmp_path):
    """ML-DSA as {seed, expanded}: the public key is the one that made the captured signature."""
    vector, der = both_form_vector()
    (tmp_path / "key.pem").write_text(as_pem("PRIVATE KEY", der))
    key = open_key(tmp_path / "key.pem", never_asked).public_key
    verify_signature(key, bytes.fromhex(vector["signature_hex"]), vector["string_to_sign"].encode())


def test_mldsa_in_the_both_form_encrypted(tmp_path):
    """The same under PBES2: the passphrase decrypts it, another one is PinIncorrectError."""
    vector, der = both_form_vector()
    path = tmp_path / "key.pem"
    path.write_text(as_pem("ENCRYPTED PRIVATE KEY", scrypt_encrypted(der)))
    verify_signature(
        open_key(path, asked).public_key,
        bytes.fromhex(vector["signature_hex"]),
        vector["string_to_sign"].encode(),
    )
    with pytest.raises(PinIncorrectError):
        open_key(path, lambda _what: Secret("wrong"))


@pytest.mark.parametrize(("name", "number"), [("mldsa44", 17), ("mldsa65", 18), ("mldsa87", 19)])
@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_mldsa_of_every_size_in_the_both_form(tmp_path, name, number, encrypted, form):
    """Each size, plain and encrypted, as PEM and as DER; the expanded key, which follows from the seed, is not used."""
    key = make_key(name)
    algorithm = tlv(0x30, bytes.fromhex("0609608648016503040300")[:-1] + bytes([number]))
    both = tlv(0x30, octets(key.private_bytes_raw()), octets(bytes(4000)))
    der = tlv(0x30, integer(0), algorithm, octets(both))
    label = "PRIVATE KEY"
    if encrypted:
        der, label = scrypt_encrypted(der), "ENCRYPTED PRIVATE KEY"
    (tmp_path / "key").write_bytes(der if form == "DER" else as_pem(label, der).encode())
    signer = open_key(tmp_path / "key", asked if encrypted else never_asked)
    assert spki(signer.public_key) == spki(key.public_key())


def test_pbkdf2_of_the_both_form():
    """PBES2 with PBKDF2, as cryptography writes it around the seed form, is also read by the code of the both form."""
    key = make_key("mldsa65")
    encrypted = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode()))
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert decrypt(encrypted, PASSPHRASE.encode()) == plain


def test_pkcs12_without_a_password(tmp_path):
    """The key of a PKCS#12 file without a password, of the official helper's kind and of cryptography's."""
    signer = open_key(VECTORS / "helper-rsa-emptypw-3des.p12", never_asked)
    assert isinstance(signer.public_key, rsa.RSAPublicKey)
    leaf = make_root().issue()
    data = pkcs12.serialize_key_and_certificates(b"x", leaf.key, leaf.certificate, None, NoEncryption())
    (tmp_path / "key.p12").write_bytes(data)
    assert spki(open_key(tmp_path / "key.p12", never_asked).public_key) == spki(leaf.key.public_key())


def bad_files():
    p256, p384 = make_key("p256"), make_key("p384")
    other = ec.generate_private_key(ec.SECP256K1())
    certificates_only = pkcs12.serialize_key_and_certificates(
        b"x", None, None, [make_root().certificate], NoEncryption()
    )
    return {
        "missing": (None, KeyNotFoundError, "No such file"),
        "empty": (b"", KeyNotFoundError, "holds no private key"),
        "a certificate": (make_root().pem, KeyNotFoundError, "holds no private key"),
        "two keys": (
            pem(p256, PrivateFormat.PKCS8) + pem(p384, PrivateFormat.TraditionalOpenSSL),
            AmbiguousMatchError,
            "holds 2 private keys",
        ),
        "garbage": (as_pem("PRIVATE KEY", b"garbage").encode(), UnsupportedKeyError, "cannot be read"),
        "no base64": (
            b"-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n",
            UnsupportedKeyError,
            "cannot be",
        ),
        "Ed25519": (
            pem(ed25519.Ed25519PrivateKey.generate(), PrivateFormat.PKCS8),
            UnsupportedKeyError,
            "Ed25519",
        ),
        "TPM key": (as_pem("TSS2 PRIVATE KEY", b"0").encode(), UnsupportedKeyError, "TPM"),
        "p12 without a key": (certificates_only, KeyNotFoundError, "holds no private key"),
        "cut": (pem(other, PrivateFormat.PKCS8)[:60], KeyNotFoundError, "holds no private key"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_files_that_cannot_be_used(tmp_path, name):
    """Each is an error of its own class that names the file and what is wrong with it."""
    content, kind, words = bad_files()[name]
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RolekeyError, match=words) as caught:
        open_key(path, never_asked)
    assert type(caught.value) is kind
    assert str(path) in caught.value.message


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_wrong_passphrase(tmp_path, form):
    """A wrong passphrase is PinIncorrectError, asked for once; neither text nor cause holds it."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem(make_key("p256"), form, BestAvailableEncryption(PASSPHRASE.encode())))
    asked_for = []

    def wrong(_what: str) -> Secret:
        asked_for.append(1)
        return Secret("not-this-one")

    with pytest.raises(PinIncorrectError) as caught:
        open_key(path, wrong)
    assert asked_for == [1]
    assert caught.value.__cause__ is None
    assert "not-this-one" not in f"{caught.value} {caught.value.hint}"


def test_a_passphrase_for_a_plain_key(tmp_path):
    """A passphrase that the key has no use for is said to be one."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem(make_key("p256"), PrivateFormat.PKCS8))
    with pytest.raises(UnsupportedKeyError, match="not encrypted"):
        open_key(path, never_asked, passphrase_given=True)
