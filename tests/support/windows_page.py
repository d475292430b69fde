"""A page for Windows: its blocks for cmd are typed under Wine, those for PowerShell are compared with them.

A block that is marked ``bat`` is for cmd. One that is marked ``powershell`` follows it and says the same to PowerShell;
one that is marked ``text`` is what the block for cmd prints (``…`` stands for any characters of one line). A comment
right before a block, which a reader of the page does not see, says what is not typed as it stands::

    <!-- test: skip REASON -->      not run
    <!-- test: file NAME -->        not commands, but what the reader saves under this name
    <!-- test: py REASON -->        the lab's python is called python
    <!-- test: openssl -->          by this machine's programs, not Wine's
    <!-- test: account -->          with an endpoint of its own for Roles Anywhere's own API
    <!-- test: start URL -->        goes on in a window of its own, and says that it listens there
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from botocore.compat import compat_shell_split

from support.windows_rig import Windows

_PART = re.compile(
    r"^#+ (?P<heading>[^\n]+)$"
    r"|(?:^<!-- test: (?P<how>\w+) ?(?P<argument>[^\n]*?) -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_HOW = ("", "skip", "file", "py", "openssl", "account", "start")
#: What PowerShell reads otherwise: variables, `set`, continued lines, output into files, programs of this folder.
_CMD_ONLY = re.compile(r"%|\^$|^set |^cd /d |>|^\w+\.exe", re.MULTILINE)
_SECRET = re.compile(r"^(Secret Key|Session Token): .+$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """What a reader types or saves at once.

    Args:
        heading: what it stands below.
        body: its text.
        how: the first word of its comment, or nothing.
        argument: the rest of its comment.
        powershell: the same for PowerShell, where it is not the same text.
        output: what it prints, as the page shows it.
    """

    heading: str
    body: str
    how: str = ""
    argument: str = ""
    powershell: str = ""
    output: str = ""

    @property
    def commands(self) -> list[str]:
        """The commands, each on one line."""
        return _joined(self.body, "^")

    @property
    def commands_by_powershell(self) -> list[list[str]]:
        """The words of PowerShell's block, as cmd would have them."""
        return [_words_of_powershell(line) for line in _joined(self.powershell, "`")]

    @property
    def commands_by_words(self) -> list[list[str]]:
        """The words of cmd's block."""
        return [_words(re.sub("^cd /d ", "cd ", line)) for line in self.commands]

    @property
    def wants_powershell(self) -> bool:
        """Whether PowerShell would read the text otherwise."""
        return self.how != "file" and _CMD_ONLY.search(self.body) is not None

    def matches(self, printed: str) -> bool:
        """Whether the page shows what was printed.

        Args:
            printed: the output.
        """
        pattern = ".+".join(re.escape(part) for part in self.output.split("…"))
        return re.fullmatch(pattern, printed) is not None


def read_blocks(page: str) -> list[Block]:
    """The blocks of a page, in its order.

    Args:
        page: Markdown.

    Raises:
        ValueError: a block that has no place where it is, or a comment that says nothing of this kind.
    """
    blocks: list[Block] = []
    heading, count = "", 0
    for found in _PART.finditer(page):
        if found["heading"]:
            heading = found["heading"]
            continue
        count += 1
        kind, body, how, last = found["kind"], found["body"], found["how"] or "", blocks[-1:]
        of_last = bool(last) and last[0].heading == heading and last[0].how != "file" and not how
        if how not in _HOW or (how == "file") != (kind not in ("bat", "powershell", "text")):
            raise ValueError(f"{heading}: a block of {kind} cannot be read")
        if kind in ("powershell", "text"):
            if not of_last or last[0].output or (kind == "powershell" and last[0].powershell):
                raise ValueError(f"{heading}: a block of {kind} has no place here")
            blocks[-1] = replace(last[0], **{"output" if kind == "text" else kind: body})
        else:
            blocks.append(Block(heading, body, how, found["argument"] or ""))
    if page.count("```") != 2 * count or page.count("<!-- test: ") != sum(bool(block.how) for block in blocks):
        raise ValueError("a block has no kind or no end, or a comment no block")
    return blocks


@dataclass
class Reader:
    """Somebody who types a page into one window of cmd, and sees what it prints.

    Args:
        windows: where.
        folder: the page's, where files without a path are saved and openssl runs.
        account: the endpoint for the blocks of Roles Anywhere's own API.
    """

    windows: Windows
    folder: Path
    account: str
    _state: list[str] = field(default_factory=list)

    def type_in(self, block: Block) -> str:
        """Run a block, or save it.

        Args:
            block: of the page.

        Returns:
            What it prints, with secrets replaced by asterisks.

        Raises:
            AssertionError: a command failed.
        """
        if block.how == "file":
            self._save(block)
            return ""
        if block.how == "openssl":
            return "".join(self._run_here(command) for command in block.commands)
        more = {"AWS_ENDPOINT_URL_ROLESANYWHERE": self.account} if block.how == "account" else {}
        with self._batch(block) as batch:
            done = masked(self.windows.run("cmd", "/c", batch, environment=more))
        self._state += [line for line in block.commands if line.startswith(("set ", "cd "))]
        assert (done.returncode, done.stderr) == (0, ""), f"{block.heading}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def start(self, block: Block) -> Iterator[None]:
        """Run a block that goes on and on, in a window of its own, for the length of a with block."""
        with self._batch(block) as batch, self.windows.start("cmd", "/c", batch) as process:
            assert process.stdout is not None
            assert process.stdout.readline().split() == [b"listening", b"on", block.argument.encode()]
            yield

    @contextmanager
    def _batch(self, block: Block) -> Iterator[Path]:
        # A window remembers; each block is a process of its own, and is told again. Another window knows nothing.
        is_started = block.how == "start"
        known = [f"cd /d {self.windows.path(self.folder)}"] if is_started else self._state
        commands = [re.sub("^py ", "python ", line) if block.how == "py" else line for line in block.commands]
        lines = [text for line in (*known, *commands) for text in (line, "if errorlevel 1 exit /b 1")]
        batch = self.windows.home / ("started.bat" if is_started else "typed.bat")
        batch.write_bytes("\r\n".join(["@echo off", *lines, ""]).encode("cp1252"))
        try:
            yield batch
        finally:
            batch.unlink()

    def _save(self, block: Block) -> None:
        name = block.argument
        path = self.windows.home / name[2:] if name.startswith("~/") else self.folder / name
        path.parent.mkdir(exist_ok=True)
        # As Notepad does it.
        path.write_bytes(block.body.replace("\n", "\r\n").encode())

    def _run_here(self, command: str) -> str:
        words = compat_shell_split(command, "win32")
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


def masked(done: "subprocess.CompletedProcess[str]") -> "subprocess.CompletedProcess[str]":
    """What a program left behind, with asterisks for what tests/interop/go/walkthrough prints of secrets.

    Args:
        done: the program.
    """
    return subprocess.CompletedProcess(done.args, done.returncode, _SECRET.sub(r"\1: ***", done.stdout), done.stderr)


def substituted(page: str, what: Mapping[str, str]) -> str:
    """The page with this machine's addresses and paths.

    Args:
        page: Markdown.
        what: text by the text that the page has.

    Raises:
        AssertionError: the page has it not.
    """
    for old, new in what.items():
        assert old in page, old
        page = page.replace(old, new)
    return page


def _joined(body: str, continues: str) -> list[str]:
    return re.sub(rf"{re.escape(continues)}\n\s*", "", body).splitlines()


def _words(line: str) -> list[str]:
    line = re.sub(r"%(\w+)%", r"$env:\1", line)
    if line.startswith("set "):
        return ["set", *line.removeprefix("set ").split("=", 1)]
    return list(compat_shell_split(line, "win32"))


def _words_of_powershell(line: str) -> list[str]:
    variable = re.fullmatch(r'\$env:(\w+) = "(.*)"', line)
    if variable:
        return ["set", variable[1], variable[2]]
    line = re.sub(r"\| Set-Content -Encoding ascii (\S+)$", r"> \1", line)
    return _words(line.removeprefix(".\\"))
