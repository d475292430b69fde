"""What windows_peers.py asks of Windows: its tables of connections, and whose a process is."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import wintypes

from rolekey.vend.windows_peers import Process

assert sys.platform == "win32"  # noqa: S101 - for the type checker: what follows is nowhere else

_NO_ERROR = 0
_ERROR_INSUFFICIENT_BUFFER = 122
_TCP_TABLE_OWNER_MODULE_CONNECTIONS = 7
_PROCESS_QUERY_LIMITED_INFORMATION = 0x1000
_TOKEN_QUERY = 8
_TOKEN_USER = 1  # of TOKEN_INFORMATION_CLASS
_TOKEN_USER_BYTES = 128  # a pointer, attributes, and a SID, which has 68 bytes at most
_LOAD_LIBRARY_SEARCH_SYSTEM32 = 0x800
_TRIES = 8  # for a table that grows while it is asked for
_SPARE_BYTES = 4096  # for rows that come meanwhile


class WindowsSystem:
    """A windows_peers.System."""

    def __init__(self) -> None:
        self._iphlpapi, self._kernel32, self._advapi32 = (
            ctypes.WinDLL(name, use_last_error=True, winmode=_LOAD_LIBRARY_SEARCH_SYSTEM32)
            for name in ("iphlpapi", "kernel32", "advapi32")
        )
        pointer, handle, number = ctypes.c_void_p, wintypes.HANDLE, wintypes.DWORD
        self._iphlpapi.GetExtendedTcpTable.argtypes = (pointer, pointer, wintypes.BOOL, number, ctypes.c_int, number)
        self._kernel32.OpenProcess.argtypes = (number, wintypes.BOOL, number)
        self._kernel32.OpenProcess.restype = handle
        self._kernel32.GetCurrentProcess.restype = handle
        self._kernel32.GetProcessTimes.argtypes = (handle, pointer, pointer, pointer, pointer)
        self._kernel32.CloseHandle.argtypes = (handle,)
        self._advapi32.OpenProcessToken.argtypes = (handle, number, pointer)
        self._advapi32.GetTokenInformation.argtypes = (handle, ctypes.c_int, pointer, number, pointer)
        self._advapi32.GetLengthSid.argtypes = (pointer,)

    def table(self, family: int) -> bytes:
        """As System.table()."""
        size = wintypes.DWORD(0)
        for _ in range(_TRIES):
            table = ctypes.create_string_buffer(size.value)
            kind = _TCP_TABLE_OWNER_MODULE_CONNECTIONS
            code = self._iphlpapi.GetExtendedTcpTable(table, ctypes.byref(size), False, family, kind, 0)
            if code == _NO_ERROR:
                return table.raw
            if code != _ERROR_INSUFFICIENT_BUFFER:
                break
            size.value += _SPARE_BYTES
        return b""

    @contextmanager
    def process(self, number: int) -> Iterator[Process | None]:
        """As System.process()."""
        handle = self._kernel32.OpenProcess(_PROCESS_QUERY_LIMITED_INFORMATION, False, number)
        if not handle:
            yield None
            return
        try:
            user, started = self._user(handle), self._started(handle)
            yield None if user is None or started is None else Process(user, started)
        finally:
            self._kernel32.CloseHandle(handle)

    def own_user(self) -> bytes | None:
        """The bytes of the SID of this process's user."""
        return self._user(self._kernel32.GetCurrentProcess())

    def _user(self, process: int) -> bytes | None:
        token = wintypes.HANDLE()
        if not self._advapi32.OpenProcessToken(process, _TOKEN_QUERY, ctypes.byref(token)):
            return None
        try:
            buffer = ctypes.create_string_buffer(_TOKEN_USER_BYTES)
            used = wintypes.DWORD()
            if not self._advapi32.GetTokenInformation(
                token, _TOKEN_USER, buffer, _TOKEN_USER_BYTES, ctypes.byref(used)
            ):
                return None
            sid = ctypes.c_void_p.from_buffer(buffer)  # the first field of TOKEN_USER
            return ctypes.string_at(sid.value or 0, self._advapi32.GetLengthSid(sid))
        finally:
            self._kernel32.CloseHandle(token)

    def _started(self, process: int) -> int | None:
        times = [wintypes.FILETIME() for _ in range(4)]  # of creation, end, and work
        if not self._kernel32.GetProcessTimes(process, *(ctypes.byref(one) for one in times)):
            return None
        return int(times[0].dwHighDateTime) << 32 | int(times[0].dwLowDateTime)
