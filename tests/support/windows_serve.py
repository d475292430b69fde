"""`rolekey serve` on Windows, which this machine asks as one of its own processes would: Windows knows none of them.

with running_windows_serve(windows, *emulator.arguments, *windows_key) as served:
    served.container()
"""

import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.process import patient
from support.serve_process import NAME, TTL, Reply, ask
from support.windows_rig import Windows

_EXPORT = re.compile(r"\$env:(\w+) = '([^']*)'\r\n")
_LAST = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
_LISTENING = b"rolekey: listening on "


class WindowsServed:
    """A `rolekey serve` that has been started.

    Args:
        windows: where it runs.
        process: the process.
        exports: what --print-env printed.
        started: what it has written to stderr up to its last line of listening.
    """

    def __init__(
        self, windows: Windows, process: "subprocess.Popen[bytes]", exports: Mapping[str, str], started: list[str]
    ) -> None:
        self._windows = windows
        self._process = process
        #: What --print-env printed, as variables.
        self.exports = exports
        #: The lines on stderr, up to the last one of listening.
        self.started = started

    @property
    def urls(self) -> list[str]:
        """What it said that it listens on."""
        start = _LISTENING.decode()
        return [line.removeprefix(start) for line in self.started if line.startswith(start)]

    @property
    def token_file(self) -> Path:
        """The file with the container endpoint's token, as this machine calls it."""
        drive, _, path = self.exports[_LAST].replace("\\", "/").partition(":")
        return Path(path) if drive == "Z" else self._windows.place / "prefix" / "drive_c" / path[1:]

    def container(self, url: str | None = None) -> Reply:
        """Ask the container endpoint with the token that its file has.

        Args:
            url: the first one that is listened on, or another.
        """
        return ask(url or self.urls[0], f"/creds/{NAME}", {"Authorization": self.token_file.read_text()})

    def metadata_token(self, url: str | None = None) -> Reply:
        """Ask the metadata service for a token.

        Args:
            url: as for container().
        """
        return ask(url or self.urls[0], "/latest/api/token", {TTL: "60"}, "PUT")

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C, as Wine takes SIGINT.

        Returns:
            The exit code, and what was on stderr after the lines of listening.
        """
        self._process.send_signal(signal.SIGINT)
        _, errors = self._process.communicate(timeout=60)
        return self._process.returncode, errors.decode()


@contextmanager
def running_windows_serve(windows: Windows, *words: str) -> Iterator[WindowsServed]:
    """Start `rolekey serve` with --print-env, and wait until it listens at both addresses.

    Args:
        windows: where it runs.
        words: further options; --port is 0 unless they have it.
    """
    port = [] if "--port" in words else ["--port", "0"]
    with running_python(windows, "-m", "rolekey", *patient(["serve", *port, "--print-env", *words])) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        exports: dict[str, str] = {}
        while _LAST not in exports:
            line = process.stdout.readline().decode()
            found = _EXPORT.fullmatch(line)
            assert found, (line, process.communicate(timeout=60))
            exports[found[1]] = found[2]
        started: list[str] = []
        while not started or "[::1]" not in started[-1]:  # it is printed before the variables
            started.append(process.stderr.readline().decode().rstrip("\r\n"))
            assert started[-1], "stderr has ended"
        yield WindowsServed(windows, process, exports, started)


def running_python(windows: Windows, *words: str, **more: Any) -> Any:
    """A Python of Windows that gets the signals which are sent to its process.

    Args:
        windows: where it runs.
        words: its arguments.
        more: as for Windows.start().

    Returns:
        A context, as Windows.start() does.
    """
    # By its path: Wine starts a program that it has to look for as somebody else's child.
    return windows.start(windows.place / "python" / "python.exe", *words, **more)
