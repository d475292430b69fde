r"""A credential_process line: how SDKs take it apart, and how one is written that all of them read alike.

On POSIX they read it as a shell does, or have one read it. On Windows some start it by itself (botocore), by the rules
of Microsoft's C runtime ("Parsing C command-line arguments"): only double quotes quote, and a backslash is one unless
it stands before a quote. Others (Go, .NET) hand it to cmd, which puts variables (``%NAME%``) in before.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PureWindowsPath

COMMAND = "credential-process"
_WINDOWS = sys.platform == "win32"
# In a pkcs11: URI a % stands before two hexadecimal digits.
_NAME = re.compile("(?![0-9A-Fa-f]{2}$)[A-Za-z_][A-Za-z0-9_()]*")
_PIECE = re.compile(r'(\\*)"|([ \t]+)|(\\+|[^\\" \t]+)')
_INTERPRETER = re.compile(r"(py|pyw|pypy|python)[0-9.]*w?")
# cmd takes the quotes of a line's first word away where one of &<>()@^| stands between them.
# A character with which the line is read by one shell and not by another.
_ODD = {False: re.compile(r"""[\s"'\\$`&|;<>()*?\[\]#~!]"""), True: re.compile(r"""[\s"&|<>^()%!,;=@]""")}
_UNQUOTABLE = {False: re.compile(r'["\\$`!]'), True: re.compile(r'["%&<>()@^|]|\\$')}


def words_of(line: str, *, windows: bool = _WINDOWS) -> list[str]:
    """The words of a line, as the SDKs of this system take it apart.

    Args:
        line: as the config file has it.
        windows: by the rules of Windows.

    Raises:
        ValueError: a quote is open.
    """
    return list(_windows_words(line)) if windows else shlex.split(line)


def _windows_words(line: str) -> Iterator[str]:
    word: list[str] = []
    is_quoted = False
    for backslashes, blanks, plain in _PIECE.findall(line):
        if plain:
            word.append(plain)
        elif not blanks:  # a quote; the backslashes before it count by twos
            word.append("\\" * (len(backslashes) // 2))
            if len(backslashes) % 2:
                word.append('"')
            else:
                is_quoted = not is_quoted
        elif is_quoted:
            word.append(blanks)
        elif word:
            yield "".join(word)
            word = []
    if is_quoted:
        raise ValueError("No closing quotation")
    if word:
        yield "".join(word)


def variables_in(line: str, environment: Mapping[str, str], *, windows: bool = _WINDOWS) -> list[str]:
    """What is meant for cmd to put in, or what it does put in although it is not, as it is written; none on POSIX.

    Args:
        line: as the config file has it.
        environment: the process's.
        windows: by the rules of Windows.
    """
    known = {name.upper() for name in environment}
    found = _variables(line) if windows else ()
    return [line[start:end] for start, end, name in found if name.upper() in known or _NAME.fullmatch(name)]


def as_cmd_expands(line: str, environment: Mapping[str, str], *, windows: bool = _WINDOWS) -> str:
    """A line with its variables put in, as cmd does; one that is not set stays as it is written.

    Args:
        line: as the config file has it.
        environment: the process's.
        windows: by the rules of Windows; elsewhere the line is as it is.
    """
    values = {name.upper(): value for name, value in environment.items()}
    text, done = "", 0
    for start, end, name in _variables(line) if windows else ():
        if start >= done and name.upper() in values:
            text += line[done:start] + values[name.upper()]
            done = end
    return text + line[done:]


def _variables(line: str) -> Iterator[tuple[int, int, str]]:
    """Where a variable's name stands between two percent signs, whether or not there is one of that name."""
    places = [index for index, character in enumerate(line) if character == "%"]
    for start, end in pairwise(places):
        if end > start + 1:
            yield start, end + 1, line[start + 1 : end].partition(":")[0]


def arguments_of(words: Sequence[str]) -> list[str] | None:
    """What follows ``credential-process`` in a line of rolekey's or the official helper's.

    Args:
        words: of the line, from its program on: one by itself, or an interpreter with ``-m rolekey``.

    Returns:
        The arguments, or None where the line starts something else.
    """
    start = 1
    if words and _INTERPRETER.fullmatch(_stem(words[0])):
        options = list(words[1 : words.index("-m")]) if "-m" in words else []
        start = 3 + len(options)
        if words[start - 2 : start] != ["-m", "rolekey"] or not all(word.startswith("-") for word in options):
            return None
    return list(words[start + 1 :]) if words[start : start + 1] == [COMMAND] else None


def _stem(program: str) -> str:
    # A backslash is a separator of Windows only, and no interpreter's name has one.
    name = PureWindowsPath(program).name.lower()
    return name.removesuffix(".exe")


def quoted(path: str, *, windows: bool = _WINDOWS) -> str | None:
    """A path as one word of a line, for every SDK of this system.

    Args:
        path: absolute.
        windows: by the rules of Windows.

    Returns:
        The path, in double quotes where it needs them; None where it cannot be written.
    """
    if _ODD[windows].search(path) is None:
        return path
    return None if _UNQUOTABLE[windows].search(path) else f'"{path}"'


def program_of(argument: str, executable: str, standard_path: Sequence[str]) -> str | None:
    """How a line of another terminal, of a service or of an IDE starts this rolekey.

    Args:
        argument: the first of this process's command line.
        executable: of the interpreter.
        standard_path: directories where every program of this machine looks for others, in their order; none on
            Windows, which looks in the working directory first, where anybody may have put a program of that name.

    Returns:
        ``rolekey`` where it is found there; else its whole path, or the interpreter's with ``-m rolekey``; None where
        neither can be written into a line.
    """
    ours = Path(argument).absolute()
    if _WINDOWS and not ours.is_file() and ours.suffix.lower() != ".exe":
        ours = ours.with_name(f"{ours.name}.exe")  # the launcher takes its suffix away
    if _stem(ours.name) != "rolekey" or not ours.is_file():
        interpreter = quoted(_short(executable))
        return None if interpreter is None else f"{interpreter} -m rolekey"
    found = next((path for directory in standard_path if (path := Path(directory, ours.name)).exists()), None)
    if found is not None and _is_same(found, ours):
        return "rolekey"
    return quoted(_short(str(ours)))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _short(path: str) -> str:
    """On Windows the short name (8.3) of a path that would need quotes, which cmd and Go between them lose."""
    if sys.platform != "win32" or quoted(path) == path:
        return path
    import ctypes  # noqa: PLC0415 - for this alone

    buffer = ctypes.create_unicode_buffer(32768)
    length = ctypes.windll.kernel32.GetShortPathNameW(path, buffer, len(buffer))
    return buffer.value if 0 < length < len(buffer) and quoted(buffer.value) == buffer.value else path
