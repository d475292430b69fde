"""Secrets that can be recognised wherever they turn up, and the places where one can turn up.

Every secret of a test has `CANARY` at both ends. `found_in` looks for it in bytes, in the encodings in which a program
might have written it; `traces_of_process` runs a program in a private home and gives everything that it left behind;
`shown_by` and `said_by` give everything that a value or an exception shows of itself.
"""

import base64
import contextlib
import copy
import dataclasses
import json
import logging
import os
import pickle
import pprint
import re
import select
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rolekey.secret import Secret

CANARY: Final = "kAnAr1e"


def canary(kind: str) -> str:
    """A secret.

    Args:
        kind: what it is, in a few ASCII characters.
    """
    return f"{CANARY}-{kind}-{CANARY}"


def _base64_cores(data: bytes) -> Iterator[bytes]:
    """What base64 makes of bytes in the middle of others: one form for each of the three alignments."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data)
        first = -(-before * 8 // 6)  # characters that depend on the bytes before
        yield encoded[first : (before + len(data)) * 8 // 6]


_ASCII: Final = CANARY.encode()
_FORMS: Final[Mapping[str, re.Pattern[bytes]]] = {
    "as it is": re.compile(re.escape(_ASCII)),
    "backwards": re.compile(re.escape(_ASCII[::-1])),
    "in another case": re.compile(re.escape(_ASCII), re.IGNORECASE),
    "UTF-16": re.compile(re.escape(CANARY.encode("utf-16-be")[:-1])),
    "UTF-16LE": re.compile(re.escape(CANARY.encode("utf-16-le")[:-1])),
    "hex": re.compile(rb"[^0-9a-f]{0,4}".join(b"%02x" % byte for byte in _ASCII), re.IGNORECASE),
    "percent-encoded": re.compile(b"".join(b"(?:%c|%%%02x)" % (byte, byte) for byte in _ASCII), re.IGNORECASE),
    "escaped": re.compile(rb"\\u00".join(b"%02x" % byte for byte in _ASCII), re.IGNORECASE),
    "numbers": re.compile(rb", ?".join(b"%d" % byte for byte in _ASCII)),
    "base64": re.compile(b"|".join(re.escape(core) for core in _base64_cores(_ASCII))),
}


def found_in(data: bytes | str) -> list[str]:
    """The forms in which a canary is in data; empty where there is none.

    Args:
        data: anything.
    """
    octets = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return [form for form, pattern in _FORMS.items() if pattern.search(octets)]


# A process

# Runs before the first line of the program, and of each Python that it starts: every event that starts a process,
# writes a file or changes the environment.
_AUDIT = """
import os, sys
report = os.open(os.environ["CANARY_REPORT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
events = {"os.rename", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.putenv", "os.setxattr", "syslog.syslog",
          "tempfile.mkstemp", "sqlite3.connect", "subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty",
          "os.exec", "os.system", "os.spawn"}
def hook(event, arguments):
    if event in events or event == "open" and arguments[2] & writing:
        os.write(report, (event + " " + ascii(arguments) + "\\n").encode())
sys.addaudithook(hook)
"""
_CHILD_EVENTS: Final = re.compile(
    r"^(?:subprocess\.Popen|os\.(?:posix_spawn|fork|forkpty|exec|system|spawn)) ", re.MULTILINE
)
# Takes a terminal as its controlling one, and becomes the program.
ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR), termios.TIOCSCTTY, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""


# The place of what a process was told, among Traces.places().
EVENTS: Final = "names of files, arguments of processes, the environment"


@dataclass(frozen=True)
class Traces:
    """What a process left behind.

    Args:
        code: its exit code.
        stdout, stderr: as bytes.
        terminal: what its terminal showed.
        files: names and contents of everything in its private directories.
        modes: permissions of the same.
        events: the processes that it started, the files that it wrote, the variables that it set; a line for each.
    """

    code: int
    stdout: bytes
    stderr: bytes
    terminal: bytes
    files: Mapping[str, bytes]
    modes: Mapping[str, int]
    events: str

    @property
    def children(self) -> list[str]:
        """What it did to start a process."""
        return _CHILD_EVENTS.findall(self.events)

    def places(self) -> Iterator[tuple[str, bytes]]:
        """Every place in which something can be found, with its contents; stdout is not among them."""
        yield "stderr", self.stderr
        yield "the terminal", self.terminal
        yield EVENTS, self.events.encode()
        for name, contents in self.files.items():
            yield f"the name of {name}", name.encode()
            yield f"the contents of {name}", contents


def traces_of_process(
    directory: Path, arguments: Sequence[str], environment: Mapping[str, str], typed: str | None = None
) -> Traces:
    """Run Python in a private home.

    Args:
        directory: an existing, empty directory.
        arguments: of the interpreter.
        environment: what it has besides private directories; nothing is inherited but PATH.
        typed: the answer to the first question on its terminal; None for a process without a terminal.
    """
    home, hook, report = directory / "home", directory / "hook", directory / "report"
    (home / "tmp").mkdir(parents=True)
    (home / "runtime_dir").mkdir(mode=0o700)
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(_AUDIT)
    variables = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "PATH": os.environ["PATH"]}
    for name in ("CONFIG_HOME", "CACHE_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR"):
        variables[f"XDG_{name}"] = str(home / name.lower())
    variables |= {"PYTHONPATH": str(hook), "PYTHONDONTWRITEBYTECODE": "1", "CANARY_REPORT": str(report)}
    command = [sys.executable, *arguments]
    code, stdout, stderr, terminal = _run(command, home, variables | dict(environment), typed)
    paths = {str(path.relative_to(home)): path for path in sorted(home.rglob("*"))}
    files = {name: path.read_bytes() if path.is_file() else b"" for name, path in paths.items()}
    modes = {name: stat.S_IMODE(path.lstat().st_mode) for name, path in paths.items()}
    return Traces(code, stdout, stderr, terminal, files, modes, report.read_text())


def _run(
    command: Sequence[str], directory: Path, environment: Mapping[str, str], typed: str | None
) -> tuple[int, bytes, bytes, bytes]:
    with contextlib.ExitStack() as stack:
        master = None
        if typed is not None:
            master, slave = os.openpty()
            stack.callback(os.close, master)
            stack.callback(os.close, slave)
            command = [sys.executable, "-I", "-S", "-c", ON_TERMINAL, os.ttyname(slave), *command]
        process = stack.enter_context(
            subprocess.Popen(
                command,
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )
        stack.callback(process.kill)
        shown = _read(master, until=b": ", seconds=60) if master is not None else b""
        if master is not None:
            os.write(master, f"{typed}\n".encode())
        stdout, stderr = process.communicate(timeout=60)
        if master is not None:
            shown += _read(master, until=b"", seconds=0.1)
        return process.returncode, stdout, stderr, shown


def _read(terminal: int, *, until: bytes, seconds: float) -> bytes:
    shown = b""
    while not (until and until in shown) and select.select([terminal], [], [], seconds)[0]:
        shown += os.read(terminal, 4096)
    return shown


# A value, an exception, a log


def shown_by(value: object) -> Iterator[tuple[str, str | bytes]]:
    """Everything that a value shows of itself without being asked for a secret: the way, and what came of it."""
    ways: dict[str, Callable[[], str | bytes]] = {
        "repr": lambda: repr(value),
        "str": lambda: str(value),
        "format": lambda: f"{value} {value!r:>300} {value!s}",
        "pprint": lambda: pprint.pformat(value),
        "in a list": lambda: repr([value, {"key": value}]),
        "walk": lambda: "\n".join(_walk(value, set())),
        "json": lambda: json.dumps(
            value, default=lambda other: getattr(other, "__dict__", None) or repr(other), skipkeys=True
        ),
        "asdict": lambda: repr(_refusable(lambda: dataclasses.asdict(value))),  # type: ignore[call-overload]
        "copy": lambda: repr(_refusable(lambda: copy.deepcopy(value))),
    }
    for way, show in ways.items():
        yield way, show()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        dumped = _refusable(lambda protocol=protocol: pickle.dumps(value, protocol))  # type: ignore[misc]
        yield f"pickle protocol {protocol}", dumped if isinstance(dumped, bytes) else repr(dumped)


def _refusable(function: Callable[[], Any]) -> Any:
    """What a function returns, or how it refused."""
    try:
        return function()
    except (TypeError, pickle.PicklingError, AttributeError, NotImplementedError) as error:
        return "\n".join(text for _, text in said_by(error))


def _walk(value: object, seen: set[int]) -> Iterator[str]:
    """What a serialiser or a debugger sees: attributes, fields and items, and theirs; a Secret is opaque to it."""
    if id(value) in seen or isinstance(value, Secret | type) or callable(value):
        return
    seen.add(id(value))
    if isinstance(value, str | bytes | bytearray | int | float | None):
        yield value if isinstance(value, str) else repr(value)
        return
    inner: list[object] = []
    if isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    else:
        inner = list(getattr(value, "__dict__", {}).values())
        slots = [slot for kind in type(value).__mro__ for slot in getattr(kind, "__slots__", ())]
        inner += [getattr(value, slot, None) for slot in slots if isinstance(slot, str)]
    yield repr(value)
    for part in inner:
        yield from _walk(part, seen)


def said_by(error: BaseException) -> Iterator[tuple[str, str]]:
    """Everything that an exception says, with those that led to it, shown or suppressed."""
    yield "traceback", "".join(traceback.format_exception(error))
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or current in seen:
            continue
        seen.append(current)
        waiting += [current.__cause__, current.__context__]
        name = type(current).__name__
        yield f"{name}: str", str(current)
        yield f"{name}: repr", repr(current)
        yield f"{name}: args", repr(current.args)
        yield f"{name}: attributes", repr(vars(current))
        yield f"{name}: notes", repr(getattr(current, "__notes__", None))
        with contextlib.suppress(TypeError, pickle.PicklingError, AttributeError):
            yield f"{name}: pickle", pickle.dumps(current).decode("latin-1")


class Recorder(logging.Handler):
    """Every record of every logger, at every level."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        #: What was said, and by which logger.
        self.said: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message, its arguments, and the exception that came with it."""
        self.said.append((record.name, f"{record.getMessage()} {record.msg!r} {record.args!r}"))
        if record.exc_info and record.exc_info[1] is not None:
            self.said += [(f"{record.name}: {where}", text) for where, text in said_by(record.exc_info[1])]

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to all loggers for the length of a block."""
        root, level = logging.getLogger(), logging.getLogger().level
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            root.removeHandler(self)
            root.setLevel(level)
