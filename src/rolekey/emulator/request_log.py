"""The requests file: one line of JSON for each request."""

import json
import os
from pathlib import Path
from typing import Any

from rolekey.emulator.model import EmulatorConfigurationError


class RequestLog:
    """Appends to a file, one whole line at a time.

    Args:
        path: the file; made when it is not there.

    Raises:
        EmulatorConfigurationError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmulatorConfigurationError(f"the requests file {path}: {error.strerror}") from error

    def __call__(self, entry: dict[str, Any]) -> None:
        """Write one line.

        Args:
            entry: JSON types only.
        """
        os.write(self._descriptor, json.dumps(entry).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
