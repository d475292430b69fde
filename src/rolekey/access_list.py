"""Owners and access lists of files on Windows (Win32 authorization functions; [MS-DTYP] 2.4), by ctypes.

A file is closed to others if no entry of its list lets anybody in but this user, the file's owner by that name, the
system and the administrators. A file without a list, as on a file system that has none, is open to everybody.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_uint32, c_void_p, c_wchar_p
from pathlib import Path
from typing import Any

assert sys.platform == "win32"  # noqa: S101 - tells the type checker, too

import msvcrt  # noqa: E402 - below the line that lets nothing else in

_OWNER, _LIST = 0x1, 0x4
_FILE = 1  # SE_FILE_OBJECT
_TOKEN_QUERY, _TOKEN_USER = 0x8, 1
_ACL_SIZE_INFORMATION = 2
_INHERIT_ONLY = 0x8
# Kinds of entries that allow something: plain, for objects, and both with a condition.
_ALLOWING, _OBJECT_ALLOWING = (0x0, 0x9), (0x5, 0xB)
_READ = 0x80000000 | 0x10000000 | 0x1  # GENERIC_READ, GENERIC_ALL, FILE_READ_DATA
# GENERIC_WRITE and _ALL, WRITE_OWNER, WRITE_DAC, DELETE, FILE_DELETE_CHILD, FILE_APPEND_DATA, FILE_WRITE_DATA
_CHANGE = 0x40000000 | 0x10000000 | 0x80000 | 0x40000 | 0x10000 | 0x40 | 0x4 | 0x2
_SYSTEM, _ADMINISTRATORS, _OWNER_RIGHTS, _EVERYONE = "S-1-5-18", "S-1-5-32-544", "S-1-3-4", "S-1-1-0"
_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"  # owns what Windows came with
_SHARED = 0x7  # as a file of os.open(): who finds a lock just made must not be refused it
_GENERIC_WRITE, _CREATE_NEW, _NORMAL = 0x40000000, 1, 0x80
_INVALID_HANDLE = c_void_p(-1).value

_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_SIGNATURES: tuple[tuple[Any, tuple[Any, ...]], ...] = (
    (_advapi32.GetSecurityInfo, (c_void_p, c_uint32, c_uint32, *(5 * [c_void_p]))),
    (_advapi32.GetNamedSecurityInfoW, (c_wchar_p, c_uint32, c_uint32, *(5 * [c_void_p]))),
    (_advapi32.SetFileSecurityW, (c_wchar_p, c_uint32, c_void_p)),
    (_advapi32.GetAclInformation, (c_void_p, c_void_p, c_uint32, c_uint32)),
    (_advapi32.GetAce, (c_void_p, c_uint32, c_void_p)),
    (_advapi32.ConvertSidToStringSidW, (c_void_p, c_void_p)),
    (
        _advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW,
        (c_wchar_p, c_uint32, c_void_p, c_void_p),
    ),
    (_advapi32.LookupAccountSidW, (c_wchar_p, c_void_p, c_wchar_p, c_void_p, c_wchar_p, c_void_p, c_void_p)),
    (_advapi32.OpenProcessToken, (c_void_p, c_uint32, c_void_p)),
    (_advapi32.GetTokenInformation, (c_void_p, c_uint32, c_void_p, c_uint32, c_void_p)),
    (_kernel32.LocalFree, (c_void_p,)),
    (_kernel32.CloseHandle, (c_void_p,)),
    (_kernel32.CreateFileW, (c_wchar_p, c_uint32, c_uint32, c_void_p, c_uint32, c_uint32, c_void_p)),
    (_kernel32.CreateDirectoryW, (c_wchar_p, c_void_p)),
)
for _function, _arguments in _SIGNATURES:
    _function.argtypes = _arguments
_kernel32.LocalFree.restype = _kernel32.CreateFileW.restype = _kernel32.GetCurrentProcess.restype = c_void_p


class _SecurityAttributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES."""

    _fields_ = (("length", c_uint32), ("descriptor", c_void_p), ("inherit", ctypes.c_int))


class _AclSize(ctypes.Structure):
    """ACL_SIZE_INFORMATION."""

    _fields_ = (("entries", c_uint32), ("used", c_uint32), ("free", c_uint32))


class _Entry(ctypes.Structure):
    """The beginning of every kind of entry: ACE_HEADER and the mask."""

    _fields_ = (("kind", ctypes.c_uint8), ("flags", ctypes.c_uint8), ("size", ctypes.c_uint16), ("mask", c_uint32))


def own_sid() -> str:
    """The security identifier of this process's user."""
    token = c_void_p()
    _check(_advapi32.OpenProcessToken(_kernel32.GetCurrentProcess(), _TOKEN_QUERY, byref(token)))
    try:
        return sid_of_token(token)
    finally:
        _kernel32.CloseHandle(token)


def sid_of_token(token: c_void_p) -> str:
    """The security identifier of an access token's user.

    Args:
        token: a handle with the right to query it.

    Raises:
        OSError: Windows refuses.
    """
    buffer = ctypes.create_string_buffer(512)
    length = c_uint32()
    _check(_advapi32.GetTokenInformation(token, _TOKEN_USER, buffer, len(buffer), byref(length)))
    return _text_of(c_void_p.from_buffer(buffer))


def owner_of(target: int | str | Path, *, root: bool) -> str | None:
    """Whose a file is, where it is neither this user's nor its administrators'.

    Args:
        target: a descriptor or a path.
        root: what belongs to the system is as good.
    """
    owner = c_void_p()
    with _security(target, _OWNER, owner=owner):
        sid = _text_of(owner)
        # What an administrator makes may belong to all of them.
        ours = {own_sid(), _ADMINISTRATORS, *((_SYSTEM, _INSTALLER) if root else ())}
        return None if sid in ours else _name_of(owner, sid)


def others_in(target: int | str | Path, *, change_only: bool) -> tuple[str, str] | None:
    """The first in a file's access list who gets at it and should not, by SID and name; None where nobody does.

    Args:
        target: a descriptor or a path.
        change_only: who can read it does not count.
    """
    listed = c_void_p()
    forbidden = _CHANGE if change_only else _READ | _CHANGE
    with _security(target, _LIST, listed=listed):
        if not listed:
            return _EVERYONE, "everybody"
        trusted = {own_sid(), _SYSTEM, _ADMINISTRATORS, _OWNER_RIGHTS, *((_INSTALLER,) if change_only else ())}
        for mask, sid in _allowed(listed):
            if mask & forbidden and _text_of(sid) not in trusted:
                return _text_of(sid), _name_of(sid, _text_of(sid))
    return None


def is_private(target: int | str) -> bool:
    """Whether a file is this user's and nobody else gets at it; as owner.access_of(), which cannot be imported."""
    try:
        return owner_of(target, root=False) is None and others_in(target, change_only=False) is None
    except OSError:
        return False


def create_file(path: str) -> int:
    """Create a file with a list of its own, and open it for writing; as os.open() with O_EXCL."""
    with _closed_to_others() as attributes:
        handle = _kernel32.CreateFileW(path, _GENERIC_WRITE, _SHARED, byref(attributes), _CREATE_NEW, _NORMAL, None)
        if handle == _INVALID_HANDLE:
            raise _error(path)
    return msvcrt.open_osfhandle(handle, os.O_WRONLY | os.O_BINARY | os.O_NOINHERIT)


def create_directory(path: str) -> None:
    """Create a directory with a list of its own, which what is made in it gets, too; as os.mkdir()."""
    with _closed_to_others() as attributes:
        if not _kernel32.CreateDirectoryW(path, byref(attributes)):
            raise _error(path)


def restrict(path: str) -> None:
    """Give a file or directory a list that lets nobody else in.

    Raises:
        OSError: Windows refuses.
    """
    with _closed_to_others() as attributes:
        _check(_advapi32.SetFileSecurityW(path, _LIST, attributes.descriptor))


def copy_access(old: str, new: str) -> None:
    """Give a file the access list of another one.

    Raises:
        OSError: Windows refuses.
    """
    with _security(old, _LIST) as descriptor:
        _check(_advapi32.SetFileSecurityW(new, _LIST, descriptor))


@contextmanager
def _closed_to_others() -> Iterator[_SecurityAttributes]:
    """What makes a file this user's, the system's and the administrators', and so everything in a directory."""
    entries = "".join(f"(A;OICI;FA;;;{who})" for who in (own_sid(), "SY", "BA"))
    descriptor = c_void_p()
    _check(_advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(f"D:P{entries}", 1, byref(descriptor), None))
    try:
        yield _SecurityAttributes(ctypes.sizeof(_SecurityAttributes), descriptor, 0)
    finally:
        _kernel32.LocalFree(descriptor)


@contextmanager
def _security(
    target: int | str | Path, what: int, *, owner: c_void_p | None = None, listed: c_void_p | None = None
) -> Iterator[c_void_p]:
    """A file's security descriptor, to whose owner or list the arguments point, for a with block."""
    descriptor = c_void_p()
    places = [byref(place) if place is not None else None for place in (owner, None, listed, None)]
    if isinstance(target, int):
        result = _advapi32.GetSecurityInfo(msvcrt.get_osfhandle(target), _FILE, what, *places, byref(descriptor))
    else:
        result = _advapi32.GetNamedSecurityInfoW(str(target), _FILE, what, *places, byref(descriptor))
    if result:
        raise ctypes.WinError(result)
    try:
        yield descriptor
    finally:
        _kernel32.LocalFree(descriptor)


def _allowed(listed: c_void_p) -> Iterator[tuple[int, c_void_p]]:
    """What each entry of a list that allows something allows to whom."""
    size = _AclSize()
    _check(_advapi32.GetAclInformation(listed, byref(size), ctypes.sizeof(size), _ACL_SIZE_INFORMATION))
    for number in range(size.entries):
        place = c_void_p()
        _check(_advapi32.GetAce(listed, number, byref(place)))
        assert place.value is not None  # noqa: S101 - _check() saw to it
        entry = _Entry.from_address(place.value)
        if entry.flags & _INHERIT_ONLY:
            continue
        if entry.kind in _ALLOWING:
            yield entry.mask, c_void_p(place.value + ctypes.sizeof(_Entry))
        elif entry.kind in _OBJECT_ALLOWING:
            present = c_uint32.from_address(place.value + ctypes.sizeof(_Entry)).value
            yield entry.mask, c_void_p(place.value + ctypes.sizeof(_Entry) + 4 + 16 * (present & 3).bit_count())


def _text_of(sid: c_void_p) -> str:
    text = c_wchar_p()
    _check(_advapi32.ConvertSidToStringSidW(sid, byref(text)))
    try:
        return text.value or ""
    finally:
        _kernel32.LocalFree(ctypes.cast(text, c_void_p))


def _name_of(sid: c_void_p, otherwise: str) -> str:
    name, domain = ctypes.create_unicode_buffer(256), ctypes.create_unicode_buffer(256)
    sizes, kind = (c_uint32(256), c_uint32(256)), c_uint32()
    found = _advapi32.LookupAccountSidW(None, sid, name, byref(sizes[0]), domain, byref(sizes[1]), byref(kind))
    return "\\".join(part for part in (domain.value, name.value) if part) if found and name.value else otherwise


def _check(result: Any) -> None:
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())


def _error(path: str) -> OSError:
    """The error of the call before, of the class that it has elsewhere."""
    code = ctypes.get_last_error()
    return OSError(0, ctypes.FormatError(code).strip(), path, code)
