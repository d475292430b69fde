"""Commands in a mount namespace of their own, with a small file system that nobody else sees."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

# A tmpfs over a directory, with what was in the directory, and then the command.
_MOUNT = """
set -e
directory=$1 options=$2 kept=$(mktemp -d)
shift 2
cp -a "$directory/." "$kept"
mount -t tmpfs -o "size=${options%,ro}" tmpfs "$directory"
cp -a "$kept/." "$directory"
rm -r "$kept"
case $options in *,ro) mount -o remount,ro "$directory" ;; esac
"$@"
"""


def on_tmpfs(directory: Path, options: str, command: Sequence[str]) -> list[str]:
    """The words that run a command with a directory on a file system in memory.

    Args:
        directory: what is in it is there, and its changes are lost afterwards.
        options: of the mount, the size first: "64k,nr_inodes=20"; with "ro" at the end it is read-only afterwards.
        command: to be run there.
    """
    words = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        words += ["--user", "--map-root-user"]
    return [*words, "sh", "-c", _MOUNT, "sh", str(directory), options, *command]


def can_mount() -> bool:
    """Whether a file system can be mounted in a namespace."""
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as directory:
        trial = on_tmpfs(Path(directory), "64k", ["true"])
        return subprocess.run(trial, capture_output=True, check=False, timeout=30).returncode == 0
