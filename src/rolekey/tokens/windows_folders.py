"""Where Windows keeps programs: its own answer, which no variable of the environment changes (KNOWNFOLDERID)."""

import ctypes
import sys
import uuid
from pathlib import Path

# FOLDERID_ProgramFiles and FOLDERID_System: of this process's word size, where there are two.
PROGRAMS = uuid.UUID("905e63b6-c1bf-494e-b29c-65b732d3d21a")
SYSTEM = uuid.UUID("1ac14e77-02e7-4e5d-b744-2eb1ae5198b7")


def known_folder(folder: uuid.UUID) -> Path | None:
    """A folder of Windows by its id; None where there is none.

    Args:
        folder: its KNOWNFOLDERID.
    """
    if sys.platform == "win32":
        place = ctypes.c_wchar_p()
        result = ctypes.windll.shell32.SHGetKnownFolderPath(folder.bytes_le, 0, None, ctypes.byref(place))
        path = Path(place.value) if result == 0 and place.value else None
        ctypes.windll.ole32.CoTaskMemFree(place)
        return path
    return None
