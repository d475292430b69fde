"""python-pkcs11's module object with what it lacks: threads, C_Finalize, and a slot list that survives a bad slot.

Function numbers are those of PKCS#11 v2.40 (CK_FUNCTION_LIST).
"""

import ctypes
import logging
from contextlib import suppress
from typing import Any, Self

import pkcs11
from pkcs11 import _pkcs11

from rolekey.tokens.return_codes import name_of
from rolekey.tokens.structures import FunctionList, InitializeArguments, SlotInfo

log = logging.getLogger(__name__)

CKF_OS_LOCKING_OK = 0x2
CKR_OK = 0x0
CKR_CANT_LOCK = 0xA
CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191

# Places in CK_FUNCTION_LIST, counted from 1.
_C_INITIALIZE, _C_FINALIZE, _C_GET_SLOT_INFO = 1, 2, 6
# How far into python-pkcs11's object its pointer to the function list is looked for.
_OBJECT_WORDS = 12

_GetSlotInfo = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p)


class InitializeFailedError(pkcs11.PKCS11Error):
    """C_Initialize answered something else than success; the text has the code in hex."""


class Library(_pkcs11.lib):
    """A loaded module, initialised with CKF_OS_LOCKING_OK.

    python-pkcs11 calls C_Initialize(NULL), which promises that there is one thread only, and then releases the GIL
    around every call: SoftHSM crashes under two threads.

    Args:
        so: path, with which the module was loaded.
        reserved: the string that NSS takes in pReserved, or None.
        handle: the module.
    """

    def __new__(cls, so: str, reserved: str | None, handle: ctypes.CDLL) -> Self:  # noqa: ARG004, D102 - __init__ has a use
        return _pkcs11.lib.__new__(cls, so)  # type: ignore[call-arg]  # a Cython __cinit__ takes the arguments

    def __init__(self, so: str, reserved: str | None, handle: ctypes.CDLL) -> None:
        self._reserved = reserved.encode() if reserved is not None else None
        self._handle = handle
        self._list = self._function_list()
        # p11-kit's client makes a new connection, with a list of its own, each time it is asked for one: what is done
        # through our list does not reach python-pkcs11's.
        self._one_list = ctypes.addressof(self._function_list()) == ctypes.addressof(self._list)
        self._tolerant: tuple[Any, ...] = ()
        super().__init__(so)

    def _function_list(self) -> FunctionList:
        functions = ctypes.POINTER(FunctionList)()
        self._handle.C_GetFunctionList.restype = ctypes.c_ulong
        result = self._handle.C_GetFunctionList(ctypes.byref(functions))
        if result != CKR_OK or not functions:
            raise InitializeFailedError(f"C_GetFunctionList answered {name_of(result)}")
        return functions.contents

    @property
    def has_one_list(self) -> bool:
        """Whether call() reaches the sessions and objects of python-pkcs11."""
        return self._one_list

    def call(self, place: int, *arguments: Any) -> int:
        """Call a function of the module.

        Args:
            place: in CK_FUNCTION_LIST, counted from 1.
            arguments: values of ctypes, of the function's own types.

        Returns:
            The return code.
        """
        prototype = ctypes.CFUNCTYPE(ctypes.c_ulong, *map(type, arguments))
        result: int = prototype(self._list.functions[place - 1])(*arguments)
        return result

    def initialize(self) -> None:
        """Call C_Initialize; a module that another part of the process has initialised is taken as it is."""
        if not self._one_list:
            super().initialize()
            return
        arguments = InitializeArguments(flags=CKF_OS_LOCKING_OK, reserved=self._reserved)
        result = self.call(_C_INITIALIZE, ctypes.c_void_p(ctypes.addressof(arguments)))
        if result == CKR_CANT_LOCK and self._reserved is None:
            # Callers use one session from one thread at a time, so that a module without locks serves as well.
            result = self.call(_C_INITIALIZE, ctypes.c_void_p())
        if result not in (CKR_OK, CKR_CRYPTOKI_ALREADY_INITIALIZED):
            raise InitializeFailedError(f"C_Initialize answered {name_of(result)}")

    def restart(self) -> None:
        """C_Finalize, whatever it answers, and C_Initialize: every session and login of this process is gone."""
        if not self._one_list:
            with suppress(pkcs11.PKCS11Error):
                self.finalize()
            super().initialize()
            return
        result = self.call(_C_FINALIZE, ctypes.c_void_p())
        log.debug("C_Finalize answered %s", name_of(result) if result else "CKR_OK")
        self.initialize()

    def slots(self) -> list[Any]:
        """python-pkcs11's slots with a token. One whose C_GetSlotInfo fails hides no other.

        Raises:
            pkcs11.PKCS11Error: the list itself cannot be had.
        """
        try:
            return self.get_slots(token_present=True)
        except pkcs11.PKCS11Error:
            if self._tolerant or not self._tolerate_slots():
                raise
            return self.get_slots(token_present=True)

    def _tolerate_slots(self) -> bool:
        """Give python-pkcs11 a function list whose C_GetSlotInfo does not fail: it stops at the first that does.

        A failed slot then has an empty description, and its token answers for itself. The pointer in python-pkcs11's
        object is replaced only where it is found to be the module's function list, whose memory is left as it is.
        """
        words = (ctypes.c_size_t * _OBJECT_WORDS).from_address(id(self))
        original = ctypes.addressof(self._list)
        places = [index for index, word in enumerate(words) if word == original]
        if len(places) != 1:
            return False
        ask = _GetSlotInfo(self._list.functions[_C_GET_SLOT_INFO - 1])

        def slot_info(slot_id: int, info: int) -> int:
            result = ask(slot_id, info)
            if result != CKR_OK:
                log.debug("slot %d: C_GetSlotInfo answered %s", slot_id, name_of(result))
                ctypes.memset(info, 0, ctypes.sizeof(SlotInfo))
            return CKR_OK

        replacement = _GetSlotInfo(slot_info)
        copy = FunctionList.from_buffer_copy(self._list)
        copy.functions[_C_GET_SLOT_INFO - 1] = ctypes.cast(replacement, ctypes.c_void_p).value
        self._tolerant = (copy, replacement)  # alive as long as this object, which points to them
        words[places[0]] = ctypes.addressof(copy)
        return True


# python-pkcs11's object calls unload() when it ends. At the end of the process the class would go first, depending on
# what was imported when: it stays.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(Library))
