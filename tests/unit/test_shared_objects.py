"""What is wrong with a shared object that cannot be loaded: its header, and what Windows says, in one line."""

import struct

import pytest

from rolekey.tokens.architecture import architecture_of
from rolekey.tokens.shared_objects import windows_refusal


def pe(machine, magic):
    """The beginning of a program for Windows."""
    return b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80) + bytes(0x40) + _pe_header(machine, magic)


def _pe_header(machine, magic):
    return b"PE\0\0" + struct.pack("<H", machine) + bytes(18) + struct.pack("<H", magic)


@pytest.mark.parametrize(
    ("word_size", "order", "machine", "architecture"),
    [
        (2, "<", 62, "x86-64 (64 bit)"),
        (1, "<", 3, "i386 (32 bit)"),
        (2, "<", 183, "AArch64 (64 bit)"),
        (2, ">", 22, "s390x (64 bit)"),
        (2, "<", 4242, "processor 4242 (64 bit)"),
    ],
)
def test_architecture(tmp_path, word_size, order, machine, architecture):
    """Processor and word size are read in either byte order."""
    header = (
        b"\x7fELF" + bytes([word_size, 1 if order == "<" else 2]) + bytes(10) + struct.pack(f"{order}HH", 3, machine)
    )
    (tmp_path / "module.so").write_bytes(header)
    assert architecture_of(tmp_path / "module.so") == architecture


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"a text that is long enough to be a header", b"MZ", pe(1, 1)[:-1]]
)
def test_no_architecture(tmp_path, content):
    """What is no program, or not there, has none."""
    (tmp_path / "module.so").write_bytes(content)
    assert architecture_of(tmp_path / "module.so") is None
    assert architecture_of(tmp_path / "nothing.so") is None


@pytest.mark.parametrize(
    ("machine", "magic", "architecture"),
    [
        (0x8664, 0x20B, "x86-64 (64 bit)"),
        (0x14C, 0x10B, "i386 (32 bit)"),
        (0xAA64, 0x20B, "AArch64 (64 bit)"),
        (4242, 0x20B, "processor 4242 (64 bit)"),
    ],
)
def test_architecture_of_a_dll(tmp_path, machine, magic, architecture):
    """A DLL's processor and word size are read where its old header says that the new one is."""
    (tmp_path / "module.dll").write_bytes(pe(machine, magic))
    assert architecture_of(tmp_path / "module.dll") == architecture


class LoaderError(OSError):
    """An OSError as Windows' Python has it."""

    def __init__(self, winerror, strerror):
        super().__init__(strerror)
        self.winerror = winerror
        self.strerror = strerror


# As ctypes says it of a DLL that is not found, and of one that lacks another.
NOT_FOUND = FileNotFoundError("Could not find module 'module.dll' (or one of its dependencies). Try using ...")
DLL = pe(0x8664, 0x20B)


@pytest.mark.parametrize(
    ("content", "error", "why", "hint"),
    [
        (None, NOT_FOUND, "there is no such file", "--pkcs11-lib"),
        (b"a text", NOT_FOUND, "it is no DLL", "--pkcs11-lib"),
        (DLL, LoaderError(193, "%1 is not a valid Win32 application"), "it is no DLL", "--pkcs11-lib"),
        (DLL, NOT_FOUND, "a DLL that it needs is missing", "in its own folder and in System32, not in PATH"),
        (DLL, LoaderError(126, "..."), "a DLL that it needs is missing", "in its own folder"),
        (DLL, LoaderError(5, "Access is denied"), "Access is denied (Windows error 5)", "--pkcs11-lib"),
        (DLL, LoaderError(1114, "A DllMain failed"), "A DllMain failed (Windows error 1114)", "--pkcs11-lib"),
    ],
)
def test_refused_by_windows(tmp_path, content, error, why, hint):
    """One line of cause and the remedy that belongs to it."""
    path = tmp_path / "module.dll"
    if content is not None:
        path.write_bytes(content)
    refusal = windows_refusal(str(path), error)
    assert refusal.message == f"the PKCS#11 module {path} cannot be loaded: {why}"
    assert hint in refusal.hint
