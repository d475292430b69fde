r"""A program for Windows that runs rolekey with a key of CNG in a certificate store, all in its own process.

    python with_store_key.py CA_CERTIFICATE CA_KEY WORDS...    rolekey's command line
    python with_store_key.py CA_CERTIFICATE CA_KEY check       prints what was seen, as JSON
    python with_store_key.py CA_CERTIFICATE CA_KEY boto3 OPTIONS    OPTIONS: a JSON object

Wine keeps no key of CNG beyond the process that made it. So the key is made here, a certificate of it is issued here,
and CertOpenStore() answers for CurrentUser\MY with a store in memory in which the certificate has the key's handle.
Everything else is Windows' own, as far as Wine has it.
"""

import ctypes
import json
import os
import struct
import sys
from collections import Counter
from ctypes import byref, c_uint32, c_void_p
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from rolekey.certstore import native

PROVIDER = "Microsoft Software Key Storage Provider"
MEMORY, ALWAYS, CLOSE_CHECK, NO_PERSIST = 2, 4, 2, 1
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


class KeyContext(ctypes.Structure):
    """CERT_KEY_CONTEXT."""

    _fields_ = (("size", c_uint32), ("handle", c_void_p), ("spec", c_uint32))


def library(name: str) -> Any:
    """A library of the system; pointers go in as c_void_p."""
    if sys.platform == "win32":
        return ctypes.WinDLL(name)
    raise NotImplementedError


def created(algorithm: str) -> tuple[int, c_void_p]:
    """What NCryptCreatePersistedKey answers, and the key."""
    ncrypt, provider, key = library("ncrypt"), c_void_p(), c_void_p()
    assert ncrypt.NCryptOpenStorageProvider(byref(provider), ctypes.c_wchar_p(PROVIDER), 0) == 0
    name, kind = ctypes.c_wchar_p("rolekey-test"), ctypes.c_wchar_p(algorithm)
    return ncrypt.NCryptCreatePersistedKey(provider, byref(key), kind, name, 0, 0) & 0xFFFFFFFF, key


def rsa_key() -> tuple[c_void_p, rsa.RSAPublicKey]:
    """An RSA key of CNG, and its public half."""
    ncrypt, (status, key), bits = library("ncrypt"), created("RSA"), c_uint32(2048)
    assert status == 0
    assert ncrypt.NCryptSetProperty(key, ctypes.c_wchar_p("Length"), byref(bits), 4, 0) == 0
    assert ncrypt.NCryptFinalizeKey(key, 0) == 0
    blob, size = ctypes.create_string_buffer(2048), c_uint32()
    kind = ctypes.c_wchar_p("RSAPUBLICBLOB")
    assert ncrypt.NCryptExportKey(key, None, kind, None, blob, len(blob), byref(size), 0) == 0
    # BCRYPT_RSAKEY_BLOB, exponent, modulus
    exponent_size, modulus_size = struct.unpack("<II", blob.raw[8:16])
    exponent, modulus = blob.raw[24:][:exponent_size], blob.raw[24 + exponent_size :][:modulus_size]
    return key, rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus)).public_key()


def issued(ca_certificate: Path, ca_key: Path, public_key: rsa.RSAPublicKey) -> x509.Certificate:
    """An end-entity certificate of a key."""
    ca = x509.load_pem_x509_certificate(ca_certificate.read_bytes())
    now = datetime.now(UTC)
    usage = x509.KeyUsage(True, *[False] * 8)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "in the store")]))
        .issuer_name(ca.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    key: Any = load_pem_private_key(ca_key.read_bytes(), None)
    return builder.sign(key, hashes.SHA256())


def filled(certificate: x509.Certificate, key: c_void_p) -> c_void_p:
    """A store in memory with a certificate that has a key's handle."""
    crypt32, context = library("crypt32"), c_void_p()
    crypt32.CertOpenStore.restype = c_void_p
    store = c_void_p(crypt32.CertOpenStore(c_void_p(MEMORY), 0, None, 0, None))
    der = certificate.public_bytes(Encoding.DER)
    assert crypt32.CertAddEncodedCertificateToStore(store, 1, der, len(der), ALWAYS, byref(context))
    handle = KeyContext(ctypes.sizeof(KeyContext), key.value, native.CERT_NCRYPT_KEY_SPEC)
    assert crypt32.CertSetCertificateContextProperty(
        context, native.CERT_KEY_CONTEXT_PROP_ID, NO_PERSIST, byref(handle)
    )
    crypt32.CertFreeCertificateContext(context)
    return store


def answer_with(store: c_void_p, calls: Counter[str]) -> None:
    r"""Have rolekey's CertOpenStore open this one for CurrentUser\MY; count what is called of the two libraries."""
    crypt32, ncrypt = native.crypt32(), native.ncrypt()
    real = crypt32.CertOpenStore
    duplicate = library("crypt32").CertDuplicateStore
    duplicate.restype = c_void_p

    def opened(provider: int, encoding: int, nothing: None, flags: int, name: str) -> Any:
        if name == "MY" and flags & native.CERT_SYSTEM_STORE_CURRENT_USER:
            return duplicate(store)
        return real(provider, encoding, nothing, flags, name)

    crypt32.CertOpenStore = opened
    for module, name in [(crypt32, n) for n in native._CRYPT32] + [(ncrypt, n) for n in native._NCRYPT]:
        setattr(module, name, _counted(getattr(module, name), name, calls))


def _counted(function: Any, name: str, calls: Counter[str]) -> Any:
    def counted(*arguments: Any) -> Any:
        answer = function(*arguments)
        calls[f"{name} failed" if answer is None else name] += 1
        return answer

    return counted


def check(public_key: rsa.RSAPublicKey, calls: Counter[str]) -> dict[str, Any]:
    """Sign with the store's key as an identity does, and verify by cryptography alone."""
    from rolekey.deadline import Deadline  # noqa: PLC0415 - after the libraries have been prepared
    from rolekey.identity import open_signer  # noqa: PLC0415 - as above
    from rolekey.interaction import NoInteraction  # noqa: PLC0415 - as above
    from rolekey.key_settings import resolve_key_settings  # noqa: PLC0415 - as above
    from rolekey.options import Options  # noqa: PLC0415 - as above

    sizes: dict[str, int] = {}
    signer = open_signer(resolve_key_settings(Options(cert_selector=""), {}), NoInteraction(), Deadline(30))
    for name, algorithm in HASHES.items():
        for message in (b"", b"message", bytes(100_000)):
            signature = signer.sign(message, hash=name)  # type: ignore[arg-type]  # they are the three names
            public_key.verify(signature, message, padding.PKCS1v15(), algorithm)
            sizes[name] = len(signature)
    signer.close()
    signer.close()
    return {"sizes": sizes, "calls": dict(calls), "ECDSA": created("ECDSA_P256")[0]}


def session_of(options: dict[str, Any]) -> dict[str, Any]:
    """Credentials of a boto3 session that signs with the store's key, opened here."""
    from rolekey import boto3_session  # noqa: PLC0415 - as above
    from rolekey.config import resolve_settings  # noqa: PLC0415 - as above
    from rolekey.deadline import Deadline  # noqa: PLC0415 - as above
    from rolekey.identity import open_identity  # noqa: PLC0415 - as above
    from rolekey.interaction import NoInteraction  # noqa: PLC0415 - as above
    from rolekey.options import Options  # noqa: PLC0415 - as above

    settings = resolve_settings(Options(**options), os.environ)
    with open_identity(settings, NoInteraction(), Deadline(30)) as identity:
        session = boto3_session(settings, identity=identity, region_name="us-east-1")
        return {"access_key_id": session.get_credentials().get_frozen_credentials().access_key}


def main() -> None:
    """As the module says."""
    ca_certificate, ca_key, *words = sys.argv[1:]
    key, public_key = rsa_key()
    store = filled(issued(Path(ca_certificate), Path(ca_key), public_key), key)
    calls: Counter[str] = Counter()
    answer_with(store, calls)
    if words[0] == "check":
        print(json.dumps(check(public_key, calls)))  # noqa: T201 - for the test
    elif words[0] == "boto3":
        print(json.dumps(session_of(json.loads(words[1]))))  # noqa: T201 - as above
    else:
        sys.argv[1:] = words
        from rolekey.__main__ import main as rolekey  # noqa: PLC0415 - as above

        rolekey()


if __name__ == "__main__":
    main()
