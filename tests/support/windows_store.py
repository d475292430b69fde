"""Certificates in the certificate stores of support/windows_rig's Windows."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from support.windows_rig import Windows

_PROGRAMS = Path(__file__).parent / "windows_programs"
KEY_STORAGE_PROVIDER = "Microsoft Software Key Storage Provider"
LEGACY_PROVIDER = "Microsoft Enhanced RSA and AES Cryptographic Provider"
_STORES = ("MY", "CA", "Root", "Ours")


@dataclass(frozen=True)
class Stored:
    """A certificate for a store.

    Args:
        issued: the certificate itself.
        place: CurrentUser or LocalMachine.
        store: the store's name.
        provider: of the key that the store speaks of; None is no key. Wine has none of CNG that lasts.
        provider_type: 0 of CNG.
        container: the key's name.
    """

    issued: x509.Certificate
    place: str = "CurrentUser"
    store: str = "MY"
    provider: str | None = KEY_STORAGE_PROVIDER
    provider_type: int = 0
    container: str = "no such key"


@dataclass(frozen=True)
class WindowsStore:
    """The stores.

    Args:
        windows: whose they are.
        directory: for files.
        is_used: whether there is something in them.
    """

    windows: Windows
    directory: Path
    is_used: list[bool] = field(default_factory=list)

    def put(self, *stored: Stored) -> None:
        """Have these certificates in the stores that tests use, and no others; once in a test."""
        entries = [
            {name: value for name, value in asdict(entry).items() if name != "issued"}
            | {"certificate": base64.b64encode(entry.issued.public_bytes(Encoding.DER)).decode()}
            for entry in stored
        ]
        path = self.directory / "entries.json"
        path.write_text(json.dumps(entries))
        self._run("certificate_store.py", "put", path, *_STORES)
        self.is_used.append(True)

    def legacy_key(self, container: str) -> str:
        """Make an RSA key of CryptoAPI; returns its public half as PEM."""
        return self._run("legacy_key.py", container, LEGACY_PROVIDER)

    def with_key(self, ca: tuple[Path, Path], *words: str) -> "subprocess.CompletedProcess[str]":
        """Run rolekey beside a key of CNG, as windows_programs/with_store_key.py says.

        Args:
            ca: the files of the CA's certificate and key.
            words: of the command line.
        """
        return self.windows.run("python", _PROGRAMS / "with_store_key.py", *ca, *words)

    def clear(self) -> None:
        """Empty the stores that tests use."""
        self._run("certificate_store.py", "clear", *_STORES)

    def _run(self, program: str, *words: str | Path) -> str:
        done = self.windows.run("python", _PROGRAMS / program, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def windows_store(windows: Windows, directory: Path) -> Iterator[WindowsStore]:
    """Stores that a test may fill, for the length of a with block; they are empty at its end.

    Args:
        windows: whose.
        directory: for files.
    """
    store = WindowsStore(windows, directory)
    try:
        yield store
    finally:
        if store.is_used:
            store.clear()


def selectors_in(text: str) -> list[str]:
    """The selectors that an error offers."""
    return re.findall(r'"(Key=[^"]+)"', text)
