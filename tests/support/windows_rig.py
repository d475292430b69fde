"""Programs for Windows, rolekey's among them, under Wine; scripts/windows makes the place where they run.

    done = windows.run("rolekey", "credential-process", "--certificate", windows.path(tmp_path / "leaf.pem"), ...)

Wine is not Windows: docs/compatibility.md says what it cannot show. A program gets nothing of the environment of
pytest; its home (%USERPROFILE%) is empty at the beginning of each test.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "windows"
PLACE = ROOT / ".windows"
#: What rolekey and the SDKs keep in a user's home.
_KEPT = (".aws", "AppData/Local/rolekey", "AppData/Local/rolekey-cache", "AppData/Roaming/rolekey")
# Where libraries lie at random, one start of a program in some hundreds fails.
_WINE = ("setarch", "-R", "wine")
#: What differs from one computer to another of a program's environment.
_PASSED = ("PATH", "HOME", "LANG", "TMPDIR")


@cache
def can_run() -> bool:
    """Whether scripts/windows has made what is needed, or makes it now."""
    if any(shutil.which(program) is None for program in ("wine", "wineserver", "x86_64-w64-mingw32-gcc")):
        return False
    return subprocess.run([SCRIPT], capture_output=True, check=False, timeout=600).returncode == 0


@dataclass(frozen=True)
class Windows:
    """A Windows with a CPython and rolekey.

    Args:
        place: of scripts/windows.
    """

    place: Path = PLACE

    @property
    def home(self) -> Path:
        """The user's home, %USERPROFILE%."""
        return next((self.place / "prefix" / "drive_c" / "users").glob("[!P]*"))

    def path(self, path: Path | str) -> str:
        """What a file of this machine is called there.

        Args:
            path: absolute.
        """
        return "Z:" + os.fspath(path).replace("/", "\\")

    def clear_home(self) -> None:
        """Forget what the programs have kept for the user."""
        for name in _KEPT:
            shutil.rmtree(self.home / name, ignore_errors=True)

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of Wine, for a program of Windows.

        Args:
            more: the program's own variables.
        """
        python = self.path(self.place / "python")
        passed = {name: value for name in _PASSED if (value := os.environ.get(name)) is not None}
        return {
            **passed,
            "WINEPREFIX": str(self.place / "prefix"),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=",
            "WINEPATH": f"{python};{more.get('WINEPATH', '')}",
            "DISPLAY": "",
            "PYTHONPATH": self.path(self.place / "site"),
            "NO_PROXY": "127.0.0.1",
            **{name: value for name, value in more.items() if name != "WINEPATH"},
        }

    def run(
        self,
        *words: str | Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        timeout: float = 120,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program, whose first word is its name or path there; its output is read as UTF-8.

        Args:
            words: the command line; a Path is written as Windows calls it.
            environment: variables beside the usual ones.
            directory: where it runs.
            timeout: seconds.
        """
        with self.start(*words, environment=environment, directory=directory) as process:
            try:
                output, errors = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, *map(_text, (output, errors)))

    def run_lines(self, lines: Sequence[Sequence[str]], place: Path) -> list[tuple[int, str, str]]:
        """Run rolekey's command lines in one process: the exit code, stdout and stderr of each.

        Args:
            lines: their words, after the program's name.
            place: a file, to be written.
        """
        place.write_text(json.dumps([list(words) for words in lines]), "utf-8")
        done = self.run("python", ROOT / "tests/support/windows/run_lines.py", place)
        assert done.returncode == 0, done.stderr
        found = json.loads(place.read_text("utf-8"))
        assert len(found) == len(lines)
        return [(code, output, errors) for code, output, errors in found]

    @contextmanager
    def start(
        self,
        *words: str | Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        streams: tuple[int, int, int] = (subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE),
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """As run(), for as long as a with block lasts; the program is ended then, if it still runs.

        Args:
            words: as for run().
            environment: as for run().
            directory: as for run().
            streams: its stdin, stdout and stderr. CPython does not start with files; with terminals it has a console.
        """
        line = [self.path(word) if isinstance(word, Path) else word for word in words]
        with subprocess.Popen(
            [*_WINE, *line],
            env=self.environment(environment or {}),
            cwd=directory,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def _text(output: bytes) -> str:
    return output.decode("utf-8").replace("\r\n", "\n")


@contextmanager
def running_windows() -> Iterator[Windows]:
    """A Windows that is switched off at the end, with every program that still runs in it."""
    windows = Windows()
    environment = windows.environment({})
    # Wine's services would keep the first program's output open, and end and start again with each program.
    for words in (["wineserver", "-p"], [*_WINE, "cmd", "/c", "exit"]):
        subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
    try:
        yield windows
    finally:
        subprocess.run(["wineserver", "-k"], env=environment, check=False, timeout=60)
        subprocess.run(["wineserver", "-w"], env=environment, check=False, timeout=60)
