"""What is no path although it stands where one belongs, and why a path leads nowhere."""

import sys
from pathlib import Path

_WINDOWS = sys.platform == "win32"


def path_fault(text: str) -> tuple[str, str] | None:
    """What is wrong with a path before anything is looked for: what it is, after "is", and a remedy; None if nothing.

    Args:
        text: as the user wrote it.
    """
    if _WINDOWS and len(text) > 1 and text[0] == text[-1] == "'":
        return "in single quotes, which are a part of it on Windows", "write it in double quotes, or without any"
    if not _has_drive(text) or text[2] in "\\/":
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


def _has_drive(text: str) -> bool:
    return len(text) > 2 and text[1] == ":" and text[0].isascii() and text[0].isalpha()


def path_of_url(path: str) -> str:
    """What follows ``file:`` or ``file://`` as a path; on Windows a drive may stand after slashes (RFC 8089, E.2)."""
    rest = path.lstrip("/")
    is_url = _WINDOWS and len(path) - len(rest) <= 3 and _has_drive(rest) and rest[2] in "\\/"
    return rest if is_url else path


def unreadable_reason(path: Path, error: OSError) -> tuple[str, str]:
    """Why a file that the user named cannot be read, and a remedy.

    Args:
        path: the file.
        error: of opening or reading it.
    """
    # Windows says of a directory that it may not be read.
    reason = "Is a directory" if _WINDOWS and path.is_dir() else str(error.strerror)
    if isinstance(error, FileNotFoundError) and (str(path)[:1] in "~$" or str(path).count("%") > 1):
        return reason, "write the whole path: rolekey puts in neither variables nor ~"
    return reason, "check the path and the permissions of the file and its directories"
