"""Loading a PKCS#11 module, once in a process, and initialising it for threads."""

import ctypes
import logging
import os
import threading
from collections.abc import Iterator
from typing import Self

import pkcs11
from pkcs11 import _pkcs11

from rolekey.errors import ModuleError
from rolekey.tokens.failures import code_name
from rolekey.tokens.token import Token

log = logging.getLogger(__name__)

CKF_OS_LOCKING_OK = 0x2
CKR_OK = 0x0
CKR_CANT_LOCK = 0xA
CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191
# C_Initialize is the first entry of CK_FUNCTION_LIST, after CK_VERSION and its padding.
_C_INITIALIZE = 1


class _InitializeArguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class _Library(_pkcs11.lib):
    """python-pkcs11's module, initialised with CKF_OS_LOCKING_OK.

    python-pkcs11 calls C_Initialize(NULL), which promises that there is one thread only, and then releases the GIL
    around every call: SoftHSM crashes under two threads.
    """

    def __new__(cls, so: str) -> Self:
        return _pkcs11.lib.__new__(cls, so)  # type: ignore[call-arg]  # a Cython __cinit__ takes the arguments

    def initialize(self) -> None:
        """Call C_Initialize; a module that another part of the process has initialised is taken as it is."""
        library = ctypes.CDLL(self.path)  # the handle that dlopen() gave python-pkcs11, counted once more
        functions = ctypes.POINTER(ctypes.c_void_p)()
        library.C_GetFunctionList.restype = ctypes.c_ulong
        result = library.C_GetFunctionList(ctypes.byref(functions))
        if result == CKR_OK:
            address = functions[_C_INITIALIZE]
            assert address is not None  # noqa: S101 - the standard: a function list has no holes
            initialize = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(address)
            arguments = _InitializeArguments(flags=CKF_OS_LOCKING_OK)
            result = initialize(ctypes.addressof(arguments))
            if result == CKR_CANT_LOCK:
                # Callers use one session from one thread at a time, so that a module without locks serves as well.
                result = initialize(None)
        if result not in (CKR_OK, CKR_CRYPTOKI_ALREADY_INITIALIZED):
            raise _InitializeFailedError(f"C_Initialize answered 0x{result:08X}")

    def __init__(self, so: str) -> None:
        self.path = so
        super().__init__(so)


class _InitializeFailedError(pkcs11.PKCS11Error):
    pass


class Module:
    """A loaded and initialised PKCS#11 module.

    Args:
        path: as it was named, for messages.
        library: python-pkcs11's object.
    """

    def __init__(self, path: str, library: _Library) -> None:
        self.path = path
        self._library = library

    def tokens(self) -> Iterator[Token]:
        """Every token that answers. A slot that does not answer hides no other."""
        try:
            slots = self._library.get_slots(token_present=True)
        except pkcs11.PKCS11Error as error:
            raise ModuleError(
                f"the PKCS#11 module {self.path} cannot list its slots: {code_name(error)}",
                hint="is the service behind it running (pcscd for smart cards, the HSM's client daemon)?",
            ) from error
        for slot in slots:
            try:
                yield Token(slot.get_token(), self._library)
            except pkcs11.PKCS11Error as error:
                log.debug("slot %d of %s is left out: %s", slot.slot_id, self.path, code_name(error))


_registry: dict[tuple[str, int], Module] = {}
_registry_lock = threading.Lock()


def load_module(path: str) -> Module:
    """Load and initialise a module, or give the one that this process has loaded already.

    Args:
        path: a shared object; a bare file name is looked up as dlopen() does.

    Raises:
        ModuleError: it cannot be loaded (with the loader's own text) or initialised.
    """
    # A symbolic link is the same module; after a fork the child's state is not the parent's.
    key = (os.path.realpath(path) if os.sep in path else path, os.getpid())
    with _registry_lock:
        if key not in _registry:
            _registry[key] = _load(path)
        return _registry[key]


def _load(path: str) -> Module:
    try:
        library = _Library(path)
    except _InitializeFailedError as error:
        raise ModuleError(
            f"the PKCS#11 module {path} cannot be initialised: {error}",
            hint="check the module's configuration" + _softhsm_hint(path),
        ) from error
    except (pkcs11.PKCS11Error, OSError) as error:
        raise ModuleError(
            f"the PKCS#11 module {path} cannot be loaded: {_loader_text(path, error)}",
            hint="name the module's shared object with --pkcs11-lib PATH",
        ) from error
    log.debug("module %s: %s %s", path, library.manufacturer_id, library.library_description)
    return Module(path, library)


def _loader_text(path: str, error: Exception) -> str:
    text = str(error).rpartition("OS exception while loading ")[2]
    # dlopen() and python-pkcs11 both put the path in front, which our text has already.
    return text.rpartition(f"{path}: ")[2]


def _softhsm_hint(path: str) -> str:
    return "; SoftHSM reads the file that SOFTHSM2_CONF names" if "softhsm" in path.lower() else ""
