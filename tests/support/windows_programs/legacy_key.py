"""A program for Windows that makes an RSA key of CryptoAPI, which lasts, and prints its public half as PEM.

python legacy_key.py CONTAINER PROVIDER
"""

import ctypes
import struct
import sys
from ctypes import byref, c_int32, c_uint32, c_void_p, c_wchar_p
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PROV_RSA_AES, NEW_KEYSET, DELETE_KEYSET, AT_SIGNATURE, PUBLICKEYBLOB = 24, 0x8, 0x10, 2, 6


def advapi32() -> Any:
    """The library, with the types of what is called."""
    if sys.platform == "win32":
        library = ctypes.WinDLL("advapi32", use_last_error=True)
        for name, arguments in (
            ("CryptAcquireContextW", (c_void_p, c_wchar_p, c_wchar_p, c_uint32, c_uint32)),
            ("CryptGenKey", (c_void_p, c_uint32, c_uint32, c_void_p)),
            ("CryptExportKey", (c_void_p, c_void_p, c_uint32, c_uint32, c_void_p, c_void_p)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = c_int32, arguments
        return library
    raise NotImplementedError


def main() -> None:
    """As the module says."""
    library, provider, key, size = advapi32(), c_void_p(), c_void_p(), c_uint32(2048)
    container, name = sys.argv[1:]
    library.CryptAcquireContextW(byref(provider), container, name, PROV_RSA_AES, DELETE_KEYSET)
    assert library.CryptAcquireContextW(byref(provider), container, name, PROV_RSA_AES, NEW_KEYSET)
    assert library.CryptGenKey(provider, AT_SIGNATURE, 2048 << 16, byref(key))
    blob = ctypes.create_string_buffer(size.value)
    assert library.CryptExportKey(key, None, PUBLICKEYBLOB, 0, blob, byref(size))
    # BLOBHEADER, RSAPUBKEY and the modulus, its last byte first.
    bits, exponent = struct.unpack("<II", blob.raw[12:20])
    modulus = int.from_bytes(blob.raw[20 : 20 + bits // 8], "little")
    public_key = RSAPublicNumbers(exponent, modulus).public_key()
    sys.stdout.write(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


if __name__ == "__main__":
    main()
