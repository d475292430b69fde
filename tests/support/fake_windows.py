"""The functions of crypt32.dll and ncrypt.dll that rolekey calls, as wincrypt.h and ncrypt.h describe them, in Python.

They take what ctypes would pass, keep count of what is held, and sign with keys of `cryptography`.

    fake = FakeWindows()
    fake.add("CurrentUser", "MY", certificate, key)
    fake.install(monkeypatch)
    ...
    fake.assert_nothing_held()
"""

import ctypes
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.certstore import native
from support.pki import PrivateKey

HARDWARE, SOFTWARE = 1, 2
_PLACES = {native.CERT_SYSTEM_STORE_CURRENT_USER: "CurrentUser", native.CERT_SYSTEM_STORE_LOCAL_MACHINE: "LocalMachine"}
_HASHES: dict[str, HashAlgorithm] = {"SHA256": SHA256(), "SHA384": SHA384(), "SHA512": SHA512()}
_NTE_INVALID_HANDLE, _NTE_BAD_FLAGS, _NTE_NOT_SUPPORTED = 0x80090026, 0x80090009, 0x80090029
_CRYPT_E_NOT_FOUND = 0x80092004


@dataclass
class Entry:
    """A certificate in a store, and what the store knows of its key.

    Attributes:
        certificate: it.
        key: the private key; None where there is none.
        csp: the name of a provider of CryptoAPI, to which the key belongs.
        acquire_code: what opening the key answers, in place of the key.
        sign_code: what a signature answers, in place of one.
        caller_frees: the key's handle is the caller's to free.
        kind, policy: what the provider and the key say of themselves; None is not answered.
    """

    certificate: x509.Certificate
    key: PrivateKey | None = None
    csp: str | None = None
    acquire_code: int = 0
    sign_code: int = 0
    caller_frees: bool = False
    kind: int | None = SOFTWARE
    policy: int | None = 0
    memory: list[Any] = field(default_factory=list)

    def context(self) -> int:
        """A new CERT_CONTEXT of it."""
        der = self.certificate.public_bytes(Encoding.DER)
        issuer = self.certificate.issuer.public_bytes()
        encoded, name = ctypes.create_string_buffer(der, len(der)), ctypes.create_string_buffer(issuer, len(issuer))
        info = native.CertInfo(issuer=native.DataBlob(len(issuer), ctypes.addressof(name)))
        context = native.CertContext(
            1, ctypes.cast(encoded, ctypes.POINTER(ctypes.c_uint8)), len(der), ctypes.addressof(info), None
        )
        self.memory += [encoded, name, info, context]
        return ctypes.addressof(context)


class FakeWindows:
    """Both libraries in one; install() puts it in their place.

    Attributes:
        calls: how often each function was called.
        flags: of every call that takes flags, by the function.
        last_error: of the last function of crypt32 that failed.
        shows_windows: whether a window would be seen.
        open_error: what opening a store of this computer answers, in place of the store.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.flags: dict[str, list[int]] = {}
        self.last_error = 0
        self.shows_windows = True
        self.open_error = 0
        self.signed: list[bytes] = []
        self._stores: dict[tuple[str, str], list[Entry]] = {}
        self._handles = itertools.count(0x1000)
        self._open_stores: dict[int, list[Entry]] = {}
        self._entries: dict[int, Entry] = {}
        self._held: Counter[int] = Counter()
        self._keys: dict[int, Entry] = {}  # the caller's to free
        self._kept: dict[int, Entry] = {}  # freed with their certificates
        self._providers: dict[int, Entry] = {}

    def install(self, patcher: Any) -> None:
        """Take the libraries' place, on any system.

        Args:
            patcher: pytest's monkeypatch.
        """
        patcher.setattr(native, "crypt32", lambda: self)
        patcher.setattr(native, "ncrypt", lambda: self)
        patcher.setattr(native, "advapi32", lambda: self)
        patcher.setattr(native, "last_error", lambda: self.last_error)
        patcher.setattr("rolekey.certstore.identity.shows_windows", lambda: self.shows_windows)
        patcher.setattr("rolekey.key_settings.check_has_stores", lambda _option: None)

    def add(self, place: str, store: str, certificate: x509.Certificate, key: PrivateKey | None = None) -> Entry:
        """Put a certificate into a store.

        Args:
            place: CurrentUser or LocalMachine.
            store: its name.
            certificate: it.
            key: its private key.
        """
        entry = Entry(certificate, key)
        self._stores.setdefault((place, store.upper()), []).append(entry)
        return entry

    def assert_nothing_held(self) -> None:
        """Every store, certificate, key and provider was given back, and none twice."""
        assert not self._open_stores
        assert not +self._held
        assert not self._keys
        assert not self._providers

    # --- crypt32 ---

    def CertOpenStore(self, provider: int, _encoding: int, _prov: None, flags: int, name: str) -> int | None:  # noqa: N802
        """As wincrypt.h has it."""
        assert provider == native.CERT_STORE_PROV_SYSTEM_W
        assert flags & native.CERT_STORE_READONLY_FLAG
        assert flags & native.CERT_STORE_OPEN_EXISTING_FLAG
        place = _PLACES[flags & 0x30000]
        if self.open_error and place == "LocalMachine":
            self.last_error = self.open_error
            return None
        if (place, name.upper()) not in self._stores:
            self.last_error = 2
            return None
        handle = next(self._handles)
        self._open_stores[handle] = self._stores[place, name.upper()]
        return handle

    def CertCloseStore(self, store: int, flags: int) -> int:  # noqa: N802
        """As wincrypt.h has it."""
        assert flags == 0
        del self._open_stores[store]
        return 1

    def CertEnumCertificatesInStore(self, store: int, previous: int | None) -> int | None:  # noqa: N802
        """As wincrypt.h has it."""
        return self._next(self._open_stores[store], previous)

    def CertFindCertificateInStore(  # noqa: N802
        self, store: int, encoding: int, flags: int, kind: int, name: Any, previous: int | None
    ) -> int | None:
        """As wincrypt.h has it."""
        assert (encoding, flags, kind) == (1, 0, native.CERT_FIND_SUBJECT_NAME)
        blob = name._obj
        wanted = ctypes.string_at(blob.data, blob.size)
        found = [e for e in self._open_stores[store] if e.certificate.subject.public_bytes() == wanted]
        return self._next(found, previous)

    def CertDuplicateCertificateContext(self, context: int) -> int:  # noqa: N802
        """As wincrypt.h has it."""
        assert self._held[context] > 0
        self._held[context] += 1
        return context

    def CertFreeCertificateContext(self, context: int) -> int:  # noqa: N802
        """As wincrypt.h has it."""
        assert self._held[context] > 0, "freed twice"
        self._held[context] -= 1
        return 1

    def CertGetCertificateContextProperty(self, context: int, name: int, data: Any, size: Any) -> int:  # noqa: N802
        """As wincrypt.h has it."""
        assert self._held[context] > 0
        entry = self._entries[context]
        if name != native.CERT_KEY_PROV_INFO_PROP_ID or entry.key is None:
            self.last_error = _CRYPT_E_NOT_FOUND
            return 0
        info = native.KeyProvInfo(provider=entry.csp or "KSP", provider_type=24 if entry.csp else 0)
        entry.memory.append(info)
        size._obj.value = ctypes.sizeof(info)
        if data is not None:
            ctypes.memmove(data, ctypes.addressof(info), ctypes.sizeof(info))
        return 1

    def CryptAcquireCertificatePrivateKey(  # noqa: N802
        self, context: int, flags: int, _parameters: None, handle: Any, spec: Any, caller_frees: Any
    ) -> int:
        """As wincrypt.h has it."""
        self._called("CryptAcquireCertificatePrivateKey", flags)
        assert self._held[context] > 0
        entry = self._entries[context]
        if entry.acquire_code or entry.key is None:
            self.last_error = entry.acquire_code or 0x8009200B
            return 0
        handle._obj.value = next(self._handles)
        caller_frees._obj.value = entry.caller_frees
        spec._obj.value = 1 if entry.csp else native.CERT_NCRYPT_KEY_SPEC
        (self._keys if entry.caller_frees else self._kept)[handle._obj.value] = entry
        return 1

    def CryptReleaseContext(self, handle: Any, flags: int) -> int:  # noqa: N802
        """As wincrypt.h has it."""
        assert flags == 0
        del self._keys[handle.value]
        return 1

    # --- ncrypt ---

    def NCryptSignHash(  # noqa: N802
        self, handle: int | None, info: Any, digest: bytes, length: int, out: Any, room: int, size: Any, flags: int
    ) -> int:
        """As ncrypt.h has it."""
        self._called("NCryptSignHash", flags)
        entry = self._keys.get(handle or 0) or self._kept.get(handle or 0)
        if entry is None:
            return _NTE_INVALID_HANDLE
        if entry.sign_code:
            return entry.sign_code
        assert length == len(digest)
        self.signed.append(digest)
        if isinstance(entry.key, rsa.RSAPrivateKey):
            if not flags & native.BCRYPT_PAD_PKCS1:
                return _NTE_BAD_FLAGS
            name = info._obj.algorithm
            signature = entry.key.sign(digest, padding.PKCS1v15(), utils.Prehashed(_HASHES[name]))
        elif isinstance(entry.key, ec.EllipticCurvePrivateKey):
            width = (entry.key.curve.key_size + 7) // 8
            if info is not None or flags & native.BCRYPT_PAD_PKCS1 or length > width:
                return _NTE_BAD_FLAGS
            signature = _raw(entry.key, digest, width)
        else:
            return _NTE_NOT_SUPPORTED
        assert len(signature) <= room
        ctypes.memmove(out, signature, len(signature))
        size._obj.value = len(signature)
        return 0

    def NCryptGetProperty(self, handle: int, name: str, out: Any, room: int, size: Any, flags: int) -> int:  # noqa: N802
        """As ncrypt.h has it."""
        assert flags == 0
        entry = self._keys.get(handle) or self._kept.get(handle) or self._providers.get(handle)
        if entry is None:
            return _NTE_INVALID_HANDLE
        is_provider = handle in self._providers
        if name == native.NCRYPT_PROVIDER_HANDLE_PROPERTY and not is_provider:
            provider = next(self._handles)
            self._providers[provider] = entry
            return _give(provider.to_bytes(8, "little"), out, room, size)
        if name == native.NCRYPT_NAME_PROPERTY and is_provider:
            return _give("A Provider\0".encode("utf-16-le"), out, room, size)
        number = entry.kind if is_provider else entry.policy
        wanted = native.NCRYPT_IMPL_TYPE_PROPERTY if is_provider else native.NCRYPT_EXPORT_POLICY_PROPERTY
        if name != wanted or number is None:
            return _NTE_NOT_SUPPORTED
        return _give(number.to_bytes(4, "little"), out, room, size)

    def NCryptFreeObject(self, handle: int) -> int:  # noqa: N802
        """As ncrypt.h has it."""
        assert handle in self._keys or handle in self._providers, "freed although it is not the caller's"
        self._keys.pop(handle, None)
        self._providers.pop(handle, None)
        return 0

    def _called(self, name: str, flags: int) -> None:
        self.calls[name] += 1
        self.flags.setdefault(name, []).append(flags)

    def _next(self, entries: list[Entry], previous: int | None) -> int | None:
        place = 0
        if previous is not None:
            place = next(n for n, e in enumerate(entries) if e is self._entries[previous]) + 1
            self.CertFreeCertificateContext(previous)
        if place >= len(entries):
            self.last_error = _CRYPT_E_NOT_FOUND
            return None
        context = entries[place].context()
        self._entries[context] = entries[place]
        self._held[context] += 1
        return context


def _raw(key: ec.EllipticCurvePrivateKey, digest: bytes, width: int) -> bytes:
    by_size: dict[int, HashAlgorithm] = {32: SHA256(), 48: SHA384(), 64: SHA512()}
    r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(by_size[len(digest)]))))
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")


def _give(value: bytes, out: Any, room: int, size: Any) -> int:
    assert len(value) <= room
    ctypes.memmove(out, value, len(value))
    size._obj.value = len(value)
    return 0
