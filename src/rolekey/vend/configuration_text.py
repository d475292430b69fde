"""The text of rolekey's configuration file: new values in one of its sections, and nothing else changed."""

from collections.abc import Mapping

import tomlkit
from tomlkit.items import Item, Table


def with_section(text: str, name: str, values: Mapping[str, str | int | float | bool]) -> str:
    """The file with new values in a section.

    Keys that are there get their values where they stand, comment and all; the others come after the section's last
    one. A section that is not there comes at the end, after an empty line.

    Args:
        text: the file, which is TOML.
        name: of the section: letters, digits, ``_`` and ``-``.
        values: of the section's keys.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    if text and not text.endswith("\n"):
        text += end
    document = tomlkit.parse(text)
    if name not in document:
        gap = end if text.strip() and not text.endswith(end * 2) else ""
        lines = [f"[{name}]", *(f"{key} = {_item(value, end).as_string()}" for key, value in values.items()), ""]
        return text + gap + end.join(lines)
    section = document[name]
    # A comment above the next section is no part of this one, and stays there.
    body = section.value.body if isinstance(section, Table) else []
    tail = []
    while body and body[-1][0] is None:
        tail.append(body.pop())
    for key, value in values.items():
        section[key] = _item(value, end)
    body.extend(reversed(tail))
    return tomlkit.dumps(document)


def _item(value: str | float | bool, end: str) -> Item:  # noqa: FBT001 - a value of whatever kind
    item = tomlkit.item(value)
    item.trivia.trail = end
    return item
