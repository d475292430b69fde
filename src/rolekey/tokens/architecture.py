"""For which processor a program or shared object is built: the file's header, in ELF (Linux) and PE (Windows)."""

import struct
from pathlib import Path
from typing import BinaryIO

_ELF = {3: "i386", 8: "MIPS", 20: "PowerPC", 21: "PowerPC", 22: "s390x", 40: "ARM", 62: "x86-64", 183: "AArch64"}
_ELF |= {243: "RISC-V", 258: "LoongArch"}
_ELF_HEADER = 20

_PE = {0x14C: "i386", 0x1C4: "ARM", 0x8664: "x86-64", 0xAA64: "AArch64"}
# Where a program for DOS says at which offset the header for Windows begins.
_PE_OFFSET, _DOS_HEADER = 0x3C, 0x40
# Signature, machine, five fields, and the first of the optional header: 0x10B for 32 bits, 0x20B for 64.
_PE_HEADER = struct.Struct("<4sH18xH")


def architecture_of(path: Path) -> str | None:
    """Processor and word size, such as ``x86-64 (64 bit)``; None of what is neither an ELF nor a PE file.

    Args:
        path: of the file.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_DOS_HEADER)
            if header[:4] == b"\x7fELF":
                return _of_elf(header)
            return _of_pe(header, file) if header[:2] == b"MZ" else None
    except OSError:
        return None


def _of_elf(header: bytes) -> str | None:
    if len(header) < _ELF_HEADER:
        return None
    (machine,) = struct.unpack_from("<H" if header[5] == 1 else ">H", header, 18)
    return _named(_ELF, machine, {1: 32, 2: 64}.get(header[4], 0))


def _of_pe(header: bytes, file: BinaryIO) -> str | None:
    if len(header) < _DOS_HEADER:
        return None
    (offset,) = struct.unpack_from("<I", header, _PE_OFFSET)
    file.seek(offset)
    content = file.read(_PE_HEADER.size)
    if len(content) < _PE_HEADER.size:
        return None
    signature, machine, magic = _PE_HEADER.unpack(content)
    return _named(_PE, machine, {0x10B: 32, 0x20B: 64}.get(magic, 0)) if signature == b"PE\0\0" else None


def _named(names: dict[int, str], machine: int, bits: int) -> str:
    return f"{names.get(machine, f'processor {machine}')} ({bits} bit)"
