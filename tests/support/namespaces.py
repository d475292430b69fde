"""Commands in a mount namespace of their own, with other file systems than the system's."""

import os
import shutil
import subprocess
from collections.abc import Sequence


def words_for(script: str) -> list[str]:
    """The words to put before a command.

    Args:
        script: a shell's, run by root of the namespace, that sets up mounts and ends with the command, "$@".
    """
    return [*_unshare(), "sh", "-e", "-c", script, "sh"]


def can_run() -> bool:
    """Whether namespaces can be made here."""
    if os.name == "nt" or shutil.which("unshare") is None:
        return False
    return all(
        subprocess.run(trial, capture_output=True, check=False, timeout=30).returncode == 0
        for trial in (
            [*words_for('mount -t tmpfs tmpfs /mnt && "$@"'), "true"],
            [*words_for(f'exec {" ".join(as_user(54321))} "$@"'), "true"],
        )
    )


def as_user(uid: int) -> Sequence[str]:
    """The words that run a command as a user that no list of users has, and that owns what root owns outside.

    Args:
        uid: the user's number.
    """
    return ("unshare", "--user", f"--map-user={uid}")


def _unshare() -> list[str]:
    words = ["unshare", "--mount", "--propagation", "private"]
    return words if os.geteuid() == 0 else [*words, "--user", "--map-root-user"]
