"""What the system says of this process and of those that others start."""

import os
import sys


def standard_path() -> list[str]:
    """The directories where every program of this machine looks for others, whatever a shell has put before them."""
    if sys.platform == "win32":
        import winreg  # noqa: PLC0415 - Windows only

        found = []
        for root, key in (
            (winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\Session Manager\Environment"),
            (winreg.HKEY_CURRENT_USER, "Environment"),
        ):
            try:
                with winreg.OpenKey(root, key) as opened:
                    value, _ = winreg.QueryValueEx(opened, "Path")
            except OSError:
                continue
            found += [os.path.expandvars(directory) for directory in value.split(";") if directory]
        return found
    return ["/usr/local/bin", "/usr/bin", "/bin", *(["/opt/homebrew/bin"] if sys.platform == "darwin" else [])]
