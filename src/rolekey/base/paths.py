"""What is no path although it stands where one belongs, and why a path leads nowhere."""

import re
import sys
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:(?![\\/])")
_URL_OF_DRIVE = re.compile(r"/{1,3}(?=[A-Za-z]:[\\/])")
_UNEXPANDED = re.compile(r"~|\$|.*%[A-Za-z_][A-Za-z0-9_()]*%")
_WINDOWS = sys.platform == "win32"


def path_fault(text: str) -> tuple[str, str] | None:
    """What is wrong with a path before anything is looked for: what it is, after "is", and a remedy; None if nothing.

    Args:
        text: as the user wrote it.
    """
    if _WINDOWS and len(text) > 1 and text[0] == text[-1] == "'":
        return "in single quotes, which are a part of it on Windows", "write it in double quotes, or without any"
    if len(text) < 3 or not _DRIVE.match(text):
        return None
    if _WINDOWS:
        return (
            "a Windows path without a directory after its drive",
            "write the whole path, C:/..., with / or \\: without it a path begins in the drive's current directory",
        )
    return (
        "a Windows path without its backslashes",
        "SDKs take single backslashes away: write / in their place, or put the value in single quotes",
    )


def path_of_url(path: str) -> str:
    """What follows ``file:`` or ``file://`` as a path; on Windows a drive may stand after slashes (RFC 8089, E.2)."""
    return _URL_OF_DRIVE.sub("", path, count=1) if _WINDOWS else path


def unreadable_reason(path: Path, error: OSError) -> tuple[str, str]:
    """Why a file that the user named cannot be read, and a remedy.

    Args:
        path: the file.
        error: of opening or reading it.
    """
    # Windows says of a directory that it may not be read.
    reason = "Is a directory" if _WINDOWS and path.is_dir() else str(error.strerror)
    if isinstance(error, FileNotFoundError) and _UNEXPANDED.match(str(path)):
        return reason, "write the whole path: rolekey puts in neither variables nor ~"
    return reason, "check the path and the permissions of the file and its directories"
