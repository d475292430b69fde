"""PKCS#11's structures for ctypes (v2.40, 3.2 to 3.7): unpadded on Windows, as the C compiler has them elsewhere.

CK_ULONG is C's ``unsigned long``: 32 bits on Windows, as wide as a pointer elsewhere.
"""

import ctypes
import os

#: How many functions CK_FUNCTION_LIST of v2.40 has.
FUNCTIONS = 68


class CKStructure(ctypes.Structure):
    """A structure of the standard."""

    if os.name == "nt":
        _pack_ = 1


class FunctionList(CKStructure):
    """CK_FUNCTION_LIST."""

    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * FUNCTIONS))


class InitializeArguments(CKStructure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_char_p),
    )


class SlotInfo(CKStructure):
    """CK_SLOT_INFO."""

    _fields_ = (
        ("texts", ctypes.c_char * (64 + 32)),
        ("flags", ctypes.c_ulong),
        ("versions", ctypes.c_ubyte * 4),
    )


class TokenInfo(CKStructure):
    """CK_TOKEN_INFO."""

    _fields_ = (
        ("texts", ctypes.c_char * (32 + 32 + 16 + 16)),
        ("flags", ctypes.c_ulong),
        ("sessions", ctypes.c_ulong * 4),
        ("max_pin_length", ctypes.c_ulong),
        ("min_pin_length", ctypes.c_ulong),
        ("memory", ctypes.c_ulong * 4),
        ("versions", ctypes.c_ubyte * 4),
        ("time", ctypes.c_char * 16),
    )


class Mechanism(CKStructure):
    """CK_MECHANISM."""

    _fields_ = (("type", ctypes.c_ulong), ("parameter", ctypes.c_void_p), ("length", ctypes.c_ulong))
