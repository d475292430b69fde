"""The functions of crypt32.dll and ncrypt.dll that are called, with the types of wincrypt.h and ncrypt.h.

The module loads everywhere; its functions need Windows.
"""

import ctypes
import sys
from ctypes import POINTER, c_char_p, c_int32, c_uint8, c_uint32, c_void_p, c_wchar_p
from functools import cache
from typing import Any

DWORD, HANDLE, BOOL = c_uint32, c_void_p, c_int32

# CertOpenStore
CERT_STORE_PROV_SYSTEM_W = 10
CERT_SYSTEM_STORE_CURRENT_USER = 1 << 16
CERT_SYSTEM_STORE_LOCAL_MACHINE = 2 << 16
CERT_STORE_OPEN_EXISTING_FLAG = 0x4000
CERT_STORE_READONLY_FLAG = 0x8000
# CertFindCertificateInStore
X509_ASN_ENCODING = 1
CERT_FIND_SUBJECT_NAME = 0x20007
# What a store says of a certificate's key.
CERT_KEY_PROV_INFO_PROP_ID = 2
CERT_KEY_CONTEXT_PROP_ID = 5
CERT_NCRYPT_KEY_HANDLE_PROP_ID = 78
KEY_PROPERTIES = (CERT_KEY_PROV_INFO_PROP_ID, CERT_KEY_CONTEXT_PROP_ID, CERT_NCRYPT_KEY_HANDLE_PROP_ID)
# CryptAcquireCertificatePrivateKey
CRYPT_ACQUIRE_CACHE_FLAG = 0x1
CRYPT_ACQUIRE_COMPARE_KEY_FLAG = 0x4
CRYPT_ACQUIRE_SILENT_FLAG = 0x40
CRYPT_ACQUIRE_ONLY_NCRYPT_KEY_FLAG = 0x40000
CERT_NCRYPT_KEY_SPEC = 0xFFFFFFFF
# NCryptSignHash
BCRYPT_PAD_PKCS1 = 0x2
NCRYPT_SILENT_FLAG = 0x40
# NCryptGetProperty
NCRYPT_EXPORT_POLICY_PROPERTY = "Export Policy"
NCRYPT_IMPL_TYPE_PROPERTY = "Impl Type"
NCRYPT_NAME_PROPERTY = "Name"
NCRYPT_PROVIDER_HANDLE_PROPERTY = "Provider Handle"


class DataBlob(ctypes.Structure):
    """CRYPTOAPI_BLOB."""

    _fields_ = (("size", DWORD), ("data", c_void_p))


class CertInfo(ctypes.Structure):
    """CERT_INFO, up to the issuer's name."""

    _fields_ = (
        ("version", DWORD),
        ("serial", DataBlob),
        ("algorithm", c_void_p),
        ("algorithm_parameters", DataBlob),
        ("issuer", DataBlob),
    )


class CertContext(ctypes.Structure):
    """CERT_CONTEXT."""

    _fields_ = (
        ("encoding", DWORD),
        ("encoded", POINTER(c_uint8)),
        ("size", DWORD),
        ("info", c_void_p),
        ("store", c_void_p),
    )


class KeyProvInfo(ctypes.Structure):
    """CRYPT_KEY_PROV_INFO. A provider type of 0 is a key of CNG, any other one of CryptoAPI."""

    _fields_ = (
        ("container", c_wchar_p),
        ("provider", c_wchar_p),
        ("provider_type", DWORD),
        ("flags", DWORD),
        ("parameter_count", DWORD),
        ("parameters", c_void_p),
        ("key_spec", DWORD),
    )


class PKCS1PaddingInfo(ctypes.Structure):
    """BCRYPT_PKCS1_PADDING_INFO."""

    _fields_ = (("algorithm", c_wchar_p),)


class UserObjectFlags(ctypes.Structure):
    """USEROBJECTFLAGS."""

    _fields_ = (("inherit", BOOL), ("reserved", BOOL), ("flags", DWORD))


# Of each function what it returns and what it takes.
_CRYPT32: dict[str, tuple[Any, ...]] = {
    "CertOpenStore": (HANDLE, c_void_p, DWORD, c_void_p, DWORD, c_wchar_p),
    "CertCloseStore": (BOOL, HANDLE, DWORD),
    "CertEnumCertificatesInStore": (c_void_p, HANDLE, c_void_p),
    "CertFindCertificateInStore": (c_void_p, HANDLE, DWORD, DWORD, DWORD, c_void_p, c_void_p),
    "CertDuplicateCertificateContext": (c_void_p, c_void_p),
    "CertFreeCertificateContext": (BOOL, c_void_p),
    "CertGetCertificateContextProperty": (BOOL, c_void_p, DWORD, c_void_p, POINTER(DWORD)),
    "CryptAcquireCertificatePrivateKey": (
        *(BOOL, c_void_p, DWORD, c_void_p),
        *(POINTER(HANDLE), POINTER(DWORD), POINTER(BOOL)),
    ),
}
_NCRYPT: dict[str, tuple[Any, ...]] = {
    "NCryptSignHash": (DWORD, HANDLE, c_void_p, c_char_p, DWORD, c_void_p, DWORD, POINTER(DWORD), DWORD),
    "NCryptGetProperty": (DWORD, HANDLE, c_wchar_p, c_void_p, DWORD, POINTER(DWORD), DWORD),
    "NCryptFreeObject": (DWORD, HANDLE),
}
_ADVAPI32: dict[str, tuple[Any, ...]] = {"CryptReleaseContext": (BOOL, HANDLE, DWORD)}
_USER32: dict[str, tuple[Any, ...]] = {
    "GetProcessWindowStation": (HANDLE,),
    "GetUserObjectInformationW": (BOOL, HANDLE, c_int32, c_void_p, DWORD, POINTER(DWORD)),
}
_UOI_FLAGS = 1
_WSF_VISIBLE = 1


@cache
def crypt32() -> Any:
    """The functions for stores, certificates, and the way from one to its key."""
    return _loaded("crypt32", _CRYPT32)


@cache
def ncrypt() -> Any:
    """The functions for keys of CNG."""
    return _loaded("ncrypt", _NCRYPT)


@cache
def advapi32() -> Any:
    """What frees a key of CryptoAPI."""
    return _loaded("advapi32", _ADVAPI32)


def last_error() -> int:
    """Why the last function of crypt32 failed, as an HRESULT or a number of winerror.h."""
    if sys.platform == "win32":
        return ctypes.get_last_error() & 0xFFFFFFFF
    raise NotImplementedError


def shows_windows() -> bool:
    """Whether what this process shows is seen: not in a service, say, where a window waits for ever."""
    user32 = _loaded("user32", _USER32)
    flags, size = UserObjectFlags(), DWORD()
    station = user32.GetProcessWindowStation()
    known = user32.GetUserObjectInformationW(
        station, _UOI_FLAGS, ctypes.byref(flags), ctypes.sizeof(flags), ctypes.byref(size)
    )
    return bool(known and flags.flags & _WSF_VISIBLE)


def _loaded(name: str, functions: dict[str, tuple[Any, ...]]) -> Any:
    if sys.platform == "win32":
        # From the system's directory, wherever the process stands.
        library = ctypes.WinDLL(f"{name}.dll", use_last_error=True, winmode=0x800)
        for function, (result, *arguments) in functions.items():
            bound = getattr(library, function)
            bound.restype, bound.argtypes = result, arguments
        return library
    raise NotImplementedError
