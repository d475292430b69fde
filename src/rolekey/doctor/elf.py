"""For which processor a program or shared object is built (ELF, the file's header)."""

import struct
from pathlib import Path

_MACHINES = {3: "i386", 8: "MIPS", 20: "PowerPC", 21: "PowerPC", 22: "s390x", 40: "ARM", 62: "x86-64", 183: "AArch64"}
_MACHINES |= {243: "RISC-V", 258: "LoongArch"}
_HEADER = 20


def architecture_of(path: Path) -> str | None:
    """Processor and word size, such as ``x86-64 (64 bit)``; None of what is no ELF file.

    Args:
        path: of the file.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError:
        return None
    if len(header) < _HEADER or header[:4] != b"\x7fELF":
        return None
    (machine,) = struct.unpack_from("<H" if header[5] == 1 else ">H", header, 18)
    bits = {1: 32, 2: 64}.get(header[4], 0)
    return f"{_MACHINES.get(machine, f'processor {machine}')} ({bits} bit)"
