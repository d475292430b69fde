"""A program for Windows that puts certificates into the system's certificate stores, and empties these.

    python certificate_store.py clear STORE...
    python certificate_store.py put LIST STORE...    LIST: a JSON file, see Stored in support/windows_store.py

`put` empties them first.

It has its own declarations of crypt32 and advapi32, and none of rolekey's.
"""

import base64
import ctypes
import json
import sys
from contextlib import suppress
from ctypes import byref, c_char_p, c_int32, c_uint32, c_void_p, c_wchar_p
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    import winreg

PLACES = {"CurrentUser": 1 << 16, "LocalMachine": 2 << 16}
SYSTEM_W, ENCODING, ALWAYS, KEY_PROV_INFO = 10, 1, 4, 2


class KeyProvInfo(ctypes.Structure):
    """CRYPT_KEY_PROV_INFO."""

    _fields_ = (
        ("container", c_wchar_p),
        ("provider", c_wchar_p),
        ("provider_type", c_uint32),
        ("flags", c_uint32),
        ("parameter_count", c_uint32),
        ("parameters", c_void_p),
        ("key_spec", c_uint32),
    )


def crypt32() -> Any:
    """The library, with the types of what is called."""
    if sys.platform == "win32":
        library = ctypes.WinDLL("crypt32", use_last_error=True)
        for name, result, arguments in (
            ("CertOpenStore", c_void_p, (c_void_p, c_uint32, c_void_p, c_uint32, c_wchar_p)),
            ("CertCloseStore", c_int32, (c_void_p, c_uint32)),
            ("CertFreeCertificateContext", c_int32, (c_void_p,)),
            (
                "CertAddEncodedCertificateToStore",
                c_int32,
                (c_void_p, c_uint32, c_char_p, c_uint32, c_uint32, c_void_p),
            ),
            ("CertSetCertificateContextProperty", c_int32, (c_void_p, c_uint32, c_uint32, c_void_p)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        return library
    raise NotImplementedError


def checked(outcome: Any, doing: str) -> Any:
    """What a function returned, if that is not nothing."""
    if sys.platform == "win32" and not outcome:
        raise OSError(f"{doing}: {ctypes.get_last_error() & 0xFFFFFFFF:#010x}")
    return outcome


def opened(library: Any, place: str, store: str) -> Any:
    """A system store, which is made if it is not there."""
    return checked(library.CertOpenStore(SYSTEM_W, 0, None, PLACES[place], store), f"open {place} {store}")


def put(library: Any, entry: dict[str, Any]) -> None:
    """Add one certificate, and what the store is to say of its key."""
    store, context = opened(library, entry["place"], entry["store"]), c_void_p()
    der = base64.b64decode(entry["certificate"])
    checked(library.CertAddEncodedCertificateToStore(store, ENCODING, der, len(der), ALWAYS, byref(context)), "add")
    if entry["provider"] is not None:
        info = KeyProvInfo(entry["container"], entry["provider"], entry["provider_type"], 0, 0, None, 2)
        checked(library.CertSetCertificateContextProperty(context, KEY_PROV_INFO, 0, byref(info)), "say of its key")
    library.CertFreeCertificateContext(context)
    checked(library.CertCloseStore(store, 0), "close")


def clear(name: str) -> None:
    """Remove every certificate of a name's stores, out of the registry: Wine's own function forgets it."""
    if sys.platform == "win32":
        for root in (winreg.HKEY_CURRENT_USER, winreg.HKEY_LOCAL_MACHINE):
            with suppress(FileNotFoundError):
                path = rf"Software\Microsoft\SystemCertificates\{name}\Certificates"
                with winreg.OpenKey(root, path, 0, winreg.KEY_ALL_ACCESS) as key:
                    while winreg.QueryInfoKey(key)[0]:
                        winreg.DeleteKey(key, winreg.EnumKey(key, 0))


def main() -> None:
    """As the module says."""
    for name in sys.argv[3 if sys.argv[1] == "put" else 2 :]:
        clear(name)
    if sys.argv[1] == "put":
        library = crypt32()
        for entry in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")):
            put(library, entry)


if __name__ == "__main__":
    main()
