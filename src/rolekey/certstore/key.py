"""The private key of a certificate in a store, as Cryptography API: Next Generation (CNG) has it."""

import ctypes
from typing import Self

from rolekey.certstore import native
from rolekey.certstore.codes import NOT_FOR_CNG, error_of, legacy_error
from rolekey.certstore.store import StoredCertificate
from rolekey.exportability import KeyAttributes

# More than any signature of RSA or ECDSA has.
_MAX_SIGNATURE = 4096
_IMPL_FLAGS = {"NCRYPT_IMPL_HARDWARE_FLAG": 1, "NCRYPT_IMPL_SOFTWARE_FLAG": 2}
_EXPORT_FLAGS = {
    "NCRYPT_ALLOW_EXPORT_FLAG": 1,
    "NCRYPT_ALLOW_PLAINTEXT_EXPORT_FLAG": 2,
    "NCRYPT_ALLOW_ARCHIVING_FLAG": 4,
    "NCRYPT_ALLOW_PLAINTEXT_ARCHIVING_FLAG": 8,
}


class StoreKey:
    """A key that is open. Close it; its certificate is closed with it.

    Args:
        stored: its certificate.
        handle: NCRYPT_KEY_HANDLE.
        is_ours: the handle is to be freed here: Windows says so, or frees it with the certificate.
        quiet: nobody may be asked.
    """

    def __init__(self, stored: StoredCertificate, handle: int | None, *, is_ours: bool, quiet: bool) -> None:
        self._stored = stored
        self._handle = handle
        self._is_ours = is_ours
        self._quiet = quiet
        self.text = stored.key_text

    @classmethod
    def acquire(cls, stored: StoredCertificate, *, quiet: bool) -> Self:
        """Open the key of a certificate; no PIN is needed yet, as a rule.

        Args:
            stored: the certificate.
            quiet: nobody may be asked.

        Raises:
            SignerError: it is not there, or CNG cannot open it.
            CertificateError: it is another certificate's.
        """
        handle, spec, is_ours = native.HANDLE(), native.DWORD(), native.BOOL()
        # Kept with the certificate, the handle is found again where a program has put it there.
        flags = native.CRYPT_ACQUIRE_ONLY_NCRYPT_KEY_FLAG | native.CRYPT_ACQUIRE_CACHE_FLAG
        flags |= native.CRYPT_ACQUIRE_COMPARE_KEY_FLAG | (native.CRYPT_ACQUIRE_SILENT_FLAG if quiet else 0)
        doing = f"open {stored.key_text}"
        if not native.crypt32().CryptAcquireCertificatePrivateKey(
            stored.context, flags, None, ctypes.byref(handle), ctypes.byref(spec), ctypes.byref(is_ours)
        ):
            code = native.last_error()
            csp = stored.csp if code in NOT_FOR_CNG else None
            raise error_of(code, doing) if csp is None else legacy_error(doing, csp)
        if spec.value != native.CERT_NCRYPT_KEY_SPEC:  # Wine takes no notice of the flag
            if is_ours.value:
                native.advapi32().CryptReleaseContext(handle, 0)
            raise legacy_error(doing, stored.csp or "a provider without a name")
        return cls(stored, handle.value, is_ours=bool(is_ours.value), quiet=quiet)

    def sign(self, digest: bytes, algorithm: str | None) -> bytes:
        """One NCryptSignHash.

        Args:
            digest: what is signed.
            algorithm: its hash, such as ``SHA256``, for PKCS#1 v1.5; None of an EC key, which knows no padding.

        Returns:
            RSASSA-PKCS1-v1_5; of ECDSA r and s, each as long as the curve's order.

        Raises:
            SignerError: as error_of() says.
        """
        padding = None if algorithm is None else ctypes.byref(native.PKCS1PaddingInfo(algorithm))
        flags = (0 if algorithm is None else native.BCRYPT_PAD_PKCS1) | (
            native.NCRYPT_SILENT_FLAG if self._quiet else 0
        )
        # Not asked for its length first: there are providers for which that is a signature.
        buffer, size = ctypes.create_string_buffer(_MAX_SIGNATURE), native.DWORD()
        status = native.ncrypt().NCryptSignHash(
            self._handle, padding, digest, len(digest), buffer, len(buffer), ctypes.byref(size), flags
        )
        if status:
            raise error_of(status, f"sign with {self.text}")
        return buffer.raw[: size.value]

    @property
    def provider(self) -> str:
        """The name of the key's provider, or what it is called where it does not tell."""
        with _Provider(self._handle) as provider:
            text = _property(provider, native.NCRYPT_NAME_PROPERTY)
        return (text or b"").decode("utf-16-le", "replace").rstrip("\0") or "a provider without a name"

    @property
    def attributes(self) -> KeyAttributes:
        """What the provider says of itself, and of what may be done with the key."""
        policy = _number(_property(self._handle, native.NCRYPT_EXPORT_POLICY_PROPERTY))
        with _Provider(self._handle) as provider:
            kind = _number(_property(provider, native.NCRYPT_IMPL_TYPE_PROPERTY))
        return attributes_of(kind, policy)

    def close(self) -> None:
        """Give up the key and the certificate; safe to call again."""
        handle, self._handle = self._handle, None
        if handle is not None and self._is_ours:
            native.ncrypt().NCryptFreeObject(handle)
        self._stored.close()


def attributes_of(kind: int | None, policy: int | None) -> KeyAttributes:
    """What two numbers of CNG say of a key.

    Args:
        kind: the provider's NCRYPT_IMPL_TYPE_PROPERTY; None where it is not given.
        policy: the key's NCRYPT_EXPORT_POLICY_PROPERTY, likewise.
    """
    said = [(name, None if kind is None else bool(kind & bit)) for name, bit in _IMPL_FLAGS.items()]
    said += [(name, None if policy is None else bool(policy & bit)) for name, bit in _EXPORT_FLAGS.items()]
    return KeyAttributes("hardware of its provider", tuple(said))


class _Provider:
    """The provider's handle, for as long as a block lasts; None where it is not given."""

    def __init__(self, key: int | None) -> None:
        raw = _property(key, native.NCRYPT_PROVIDER_HANDLE_PROPERTY)
        self._handle = int.from_bytes(raw, "little") if raw else None

    def __enter__(self) -> int | None:
        return self._handle

    def __exit__(self, *_: object) -> None:
        if self._handle:
            native.ncrypt().NCryptFreeObject(self._handle)


def _property(handle: int | None, name: str) -> bytes | None:
    if handle is None:
        return None
    buffer, size = ctypes.create_string_buffer(1024), native.DWORD()
    if native.ncrypt().NCryptGetProperty(handle, name, buffer, len(buffer), ctypes.byref(size), 0):
        return None
    return buffer.raw[: size.value]


def _number(raw: bytes | None) -> int | None:
    return int.from_bytes(raw, "little") if raw is not None and len(raw) == ctypes.sizeof(native.DWORD) else None
