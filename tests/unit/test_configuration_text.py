"""New values in rolekey's configuration file: what they come to, and that nothing else changes."""

import tomllib

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from rolekey.vend.configuration_text import with_section

OLD = """# kept by hand
[a]  # the first
role-arn = "x"   # why
timeout=3

# about b
[b]
'certificate' = '''C:\\x
y'''
"""


def test_values_of_a_section():
    """Values change where they stand, with their comments; new ones come after the last, before the next's comment."""
    new = with_section(OLD, "a", {"role-arn": 'y"\\', "region": "eu-west-1", "session-duration": 900})
    assert new == OLD.replace('"x"', '"y\\"\\\\"').replace(
        "timeout=3\n", 'timeout=3\nregion = "eu-west-1"\nsession-duration = 900\n'
    )


@pytest.mark.parametrize(
    ("text", "before"),
    [("", ""), ("# only\n", "# only\n\n"), ("[a]\nx = 1", "[a]\nx = 1\n\n"), ("[a]\nx = 1\n\n", "[a]\nx = 1\n\n")],
)
def test_new_section(text, before):
    """A new section comes at the end, after an empty line."""
    assert with_section(text, "b", {"y": True, "z": 1.5}) == f"{before}[b]\ny = true\nz = 1.5\n"


def test_line_ends():
    """A file with CRLF keeps them, and gets no others."""
    new = with_section(with_section(OLD.replace("\n", "\r\n"), "a", {"r": 1}), "n", {"q": "1"})
    assert new.count("\n") == new.count("\r\n")
    assert set(OLD.splitlines()) < set(new.splitlines())


@pytest.mark.parametrize("text", ["a = {x = 1}\n", "a.x = 1\n"])
def test_other_ways_to_write_a_section(text):
    """A section that is written as an inline table, or key by key, gets its values, too."""
    assert tomllib.loads(with_section(text, "a", {"x": 2, "y": 3})) == {"a": {"x": 2, "y": 3}}


NAMES = st.text("abcXYZ019_-", min_size=1, max_size=4)
PLAIN = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8) | st.integers(0, 9) | st.booleans()
SECTIONS = st.dictionaries(NAMES, PLAIN, max_size=3)
COMMENTS = st.lists(st.sampled_from(["# one", "", "   # two"]), max_size=3)


@given(
    st.dictionaries(NAMES, st.tuples(SECTIONS, COMMENTS), max_size=3), NAMES, SECTIONS, st.sampled_from(["\n", "\r\n"])
)
def test_any_file(sections, name, values, end):
    """The section has its old values and the new ones, every other one is as it was, and every comment is there."""
    lines = ["# top"]
    for section, (old, comments) in sections.items():
        lines += [f"[{section}]", *(f"{k} = {tomlkit.item(v).as_string()}" for k, v in old.items()), *comments]
    text = end.join([*lines, ""])
    new = with_section(text, name, values)
    before = tomllib.loads(text)
    assert tomllib.loads(new) == {**before, name: {**before.get(name, {}), **values}}
    assert new.count("# one") + new.count("# two") >= text.count("# one") + text.count("# two")
    unchanged = [line for line in lines if line.partition(" = ")[0] not in values]
    rest = iter(new.split(end))
    assert all(line in rest for line in unchanged), (text, new)
