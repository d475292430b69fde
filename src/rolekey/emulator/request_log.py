"""The requests file: one line of JSON for each request."""

import json
import os
from pathlib import Path
from typing import Any

from rolekey.emulator.model import EmulatorConfigurationError

# On Windows a line would have another end without the last one.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


class RequestLog:
    """Appends to a file, one whole line at a time.

    A line that cannot be written, as on a full disk, does not keep a client from its answer: `close` tells of it.

    Args:
        path: the file; made when it is not there.

    Raises:
        EmulatorConfigurationError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, _FLAGS, 0o600)
        except OSError as error:
            raise EmulatorConfigurationError(f"the requests file {path}: {error.strerror}") from error
        self._path = path
        self._failure: OSError | None = None

    def __call__(self, entry: dict[str, Any]) -> None:
        """Write one line.

        Args:
            entry: JSON types only.
        """
        try:
            os.write(self._descriptor, json.dumps(entry).encode() + b"\n")
        except OSError as error:
            self._failure = error

    def close(self) -> None:
        """Close the file.

        Raises:
            EmulatorConfigurationError: not every line could be written.
        """
        os.close(self._descriptor)
        if self._failure is not None:
            text = f"the requests file {self._path} is not complete: {self._failure.strerror}"
            raise EmulatorConfigurationError(text) from self._failure
