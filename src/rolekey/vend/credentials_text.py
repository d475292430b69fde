"""The text of a shared credentials or config file: what its lines are, and new keys for one of its sections.

Lines are understood as Python's configparser understands them, since the AWS CLI and boto3 read these files with it.
Nothing is rendered anew: a line that is not one of the keys in the profile's section stays as it is.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from typing import Literal

from rolekey.value import Value

KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
# Its keys are every other profile's, too.
DEFAULTS_SECTION = "DEFAULT"
_HEADER = re.compile(r"\[(.+)\]")
_DELIMITER = re.compile("[=:]")


class Line(Value):
    """One line.

    Args:
        text: with its line end.
        kind: "blank" is a comment too; "continuation" goes on with the value of the option above; "junk" is what
            configparser refuses, and what stands before the first section.
        name: a header's, as it is written; an option's, in lower case; else empty.
    """

    text: str
    kind: Literal["blank", "header", "option", "continuation", "junk"]
    name: str = ""

    @property
    def indentation(self) -> str:
        """What stands before the first letter."""
        return self.text[: _indent(self.text)]

    @property
    def end(self) -> str:
        """Its line end; empty where it is the last one and has none."""
        return self.text[len(self.text.rstrip("\r\n")) :]


def parse(text: str) -> Iterator[Line]:
    """The lines of a file, which end with LF, CRLF or CR.

    Args:
        text: the file; every line of it is in the result, unchanged.
    """
    in_section, option, level = False, "", 0
    for raw in StringIO(text, newline=""):
        value = raw.strip()
        if not value or value[0] in "#;":
            yield Line(raw, "blank")
            continue
        if option and _indent(raw) > level:
            yield Line(raw, "continuation")
            continue
        level = _indent(raw)
        delimiter = _DELIMITER.search(value)
        if header := _HEADER.match(value):
            in_section, option = True, ""
            yield Line(raw, "header", header[1])
        elif in_section and delimiter:
            option = _option(value)
            yield Line(raw, "option", option)
        else:
            yield Line(raw, "junk")


def edited(text: str, header: str, values: Mapping[str, str], is_section: Callable[[str], bool] | None = None) -> str:
    """The file with new keys in a section.

    Keys that are there get their values where they stand; of the same key again, which configparser refuses, the first
    is kept. A missing key comes before the ones that follow it in `values`, else at the section's end. Of several
    sections of one name the first is changed. A section that is not there comes at the end, with an empty line. A last
    line without line end gets one.

    Args:
        text: the file.
        header: the section's, without brackets.
        values: of the keys, which are in lower case.
        is_section: whether a header is the section's, if there is more than one way to write it.

    Raises:
        ValueError: a line that is none of the keys continues the value of one; its text says which.
    """
    lines = list(parse(text))
    end = next((line.end for line in lines if line.end), "\n")
    if lines and not lines[-1].end:
        lines[-1] = Line(lines[-1].text + end, lines[-1].kind, lines[-1].name)
    headers = [number for number, line in enumerate(lines) if line.kind == "header"]
    is_section = is_section or header.__eq__
    start = next((number for number in headers if is_section(lines[number].name)), None)
    if start is None:
        new = [f"[{header}]", *(_assignment(key, values) for key in values), ""]
        return "".join(line.text for line in lines) + "".join(line + end for line in new)
    stop = next((number for number in headers if number > start), len(lines))
    section = _kept(lines, start, stop, values)
    missing = [key for key in values if key not in {line.name for line in section if line.kind == "option"}]
    last = max(number for number, line in enumerate(section) if line.kind != "blank")
    indentation = _indentation_of_next(section, lines[stop] if stop < len(lines) else None)
    section[last + 1 : last + 1] = [
        Line(indentation + _assignment(key, values) + section[last].end, "option", key) for key in missing
    ]
    return "".join(line.text for line in (*lines[:start], *section, *lines[stop:]))


def has_key(text: str, key: str, is_section: Callable[[str], bool]) -> bool:
    """Whether a file has a key in a section.

    Args:
        text: the file.
        key: in lower case.
        is_section: whether a header's name is the section's.
    """
    looking = False
    for line in parse(text):
        if line.kind == "header":
            looking = is_section(line.name)
        elif looking and line.kind == "option" and line.name == key:
            return True
    return False


def value_of(text: str, key: str, is_section: Callable[[str], bool]) -> str | None:
    """The value of a key in a section, as configparser gives it; None where it is not there.

    Args:
        text: the file.
        key: in lower case.
        is_section: as for has_key().

    Returns:
        The value, without the blanks around it; lines that go on with it come after line ends.
    """
    looking, found = False, list[str]()
    for line in parse(text):
        if line.kind == "continuation" and found:
            found.append(line.text.strip())
        elif line.kind != "blank" and found:
            break
        elif line.kind == "header":
            looking = is_section(line.name)
        elif looking and line.kind == "option" and line.name == key:
            found.append(_DELIMITER.split(line.text, maxsplit=1)[1].strip())
    return "\n".join(found) if found else None


def is_config_section(header: str, aws_profile: str) -> bool:
    """Whether a header of the config file, which is written ``[profile NAME]`` there, is a profile's.

    Args:
        header: as it is written; a name with blanks is in quotes, and not all programs want them.
        aws_profile: the profile.
    """
    try:
        words = shlex.split(header)
    except ValueError:
        words = []
    if header == DEFAULTS_SECTION or header == aws_profile == "default" or words == ["profile", aws_profile]:
        return True
    return header[:7] == "profile" and header[7:8].isspace() and header[7:].strip() == aws_profile


def _kept(lines: list[Line], start: int, stop: int, values: Mapping[str, str]) -> list[Line]:
    """A section with new values for the keys that are there, and with the missing ones that belong before them."""
    keys = list(values)
    section: list[Line] = []
    present = {line.name for line in lines[start:stop] if line.kind == "option"}
    seen: set[str] = set()
    owner = ""
    for number in range(start, stop):
        line = lines[number]
        if line.kind == "option":
            owner = line.name if line.name in values else ""
        if line.kind == "continuation" and owner:
            if _option(line.text.strip()) not in values:
                raise ValueError(f"line {number + 1} is indented, and so goes on with the value of {owner} above it")
        elif line.kind != "option" or not owner:
            section.append(line)
        elif owner not in seen:
            missing = [key for key in keys[: keys.index(owner)] if key not in present | seen]
            seen |= {*missing, owner}
            section += [
                Line(line.indentation + _assignment(key, values) + line.end, "option", key) for key in (*missing, owner)
            ]
    return section


def _indentation_of_next(section: list[Line], following: Line | None) -> str:
    """What a new option at a section's end must begin with, not to go on with a value nor to be gone on with."""
    begun = [line for line in section if line.kind not in ("blank", "continuation")]
    above = next(line for line in reversed(begun) if line.kind != "junk")
    before, after = begun[-1].indentation, following.indentation if following else ""
    has_option = above.kind == "option" and above.name
    # An option takes what is indented more for its value's next line, a header does not.
    return before if has_option or len(after) <= len(before) else after


def _assignment(key: str, values: Mapping[str, str]) -> str:
    return f"{key} = {values[key]}"


def _option(value: str) -> str:
    return _DELIMITER.split(value, maxsplit=1)[0].rstrip().lower()


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())
