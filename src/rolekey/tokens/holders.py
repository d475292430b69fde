"""Who may hold a smart card: programs that take a reader for themselves, so that modules see no card in it."""

from pathlib import Path

# Programs that are known to hold cards, and what makes them let go.
_HOLDERS = {
    "scdaemon": "gpgconf --kill scdaemon",
    "yubikey-agent": "stop yubikey-agent",
    "ykman": "wait until ykman has ended",
    "yubico-piv-tool": "wait until yubico-piv-tool has ended",
    "pkcs11-tool": "wait until pkcs11-tool has ended",
}


def card_holder(processes: Path = Path("/proc")) -> str | None:
    """A running program that may hold the card, in words, with the remedy; None where none is known to run.

    Args:
        processes: Linux's list of processes; elsewhere nobody is found.
    """
    for comm in sorted(processes.glob("[0-9]*/comm")):
        try:
            name = comm.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:  # the process has ended meanwhile
            continue
        if name in _HOLDERS:
            return f"{name} (process {comm.parent.name}) may hold the card: {_HOLDERS[name]}"
    return None
