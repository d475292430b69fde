"""The text of a credentials file: edited line by line, and understood as botocore understands it.

The six cases of the official helper's own tests are among the examples, byte for byte with what the helper writes.
"""

import configparser
import re
from pathlib import Path

import pytest
from botocore.configloader import raw_config_parse
from botocore.exceptions import ConfigParseError
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rolekey.vend.credentials_text import KEYS, edited, has_key, is_config_section, parse
from support.update_cases import ALL, HELPER_CASES, VALUES

ID, SECRET, TOKEN = ALL.splitlines(keepends=True)

# name, before, after; the profile is default.
CASES = [
    ("no file", "", f"[default]\n{ALL}\n"),
    ("blank lines", "\n\n", f"\n\n[default]\n{ALL}\n"),
    ("header alone", "[default]\n", f"[default]\n{ALL}"),
    ("header alone, without line end", "[default]", f"[default]\n{ALL}"),
    ("two headers", "[default]\n[other]\n", f"[default]\n{ALL}[other]\n"),
    ("old keys", "[default]\naws_access_key_id = x\naws_secret_access_key = y\n", f"[default]\n{ALL}"),
    ("last line is another's", f"[default]\n{ALL}region = x\n", f"[default]\n{ALL}region = x\n"),
    ("last line without line end", f"[default]\n{ALL}region = x", f"[default]\n{ALL}region = x\n"),
    ("last line is ours, without line end", f"[default]\n{ID}{SECRET}aws_session_token=x", f"[default]\n{ALL}"),
    ("last line is a header", f"[default]\n{ALL}[other]", f"[default]\n{ALL}[other]\n"),
    ("another section, without line end", "[a]\nb = c", f"[a]\nb = c\n[default]\n{ALL}\n"),
    (
        "blank lines and comments at the end",
        "[default]\nregion = x\n\n# of other\n[other]\nregion = y\n",
        f"[default]\nregion = x\n{ALL}\n# of other\n[other]\nregion = y\n",
    ),
    (
        "other spellings",
        "[default]\nAWS_Access_Key_ID=x\naws_secret_access_key :y\naws_session_token\t= \n",
        f"[default]\n{ALL}",
    ),
    (
        "another order",
        "[default]\naws_session_token = x\nregion = y\naws_access_key_id = z\n",
        f"[default]\n{SECRET}{TOKEN}region = y\n{ID}",
    ),
    ("no delimiter", "[default]\naws_access_key_id\n", f"[default]\naws_access_key_id\n{ALL}"),
    ("comment behind the header", "[default] # c\nregion = x\n", f"[default] # c\nregion = x\n{ALL}"),
    ("indented header", "  [default]\naws_access_key_id = x\n", f"  [default]\n{ALL}"),
    ("blanks in the header", "[ default ]\nregion = x\n", f"[ default ]\nregion = x\n[default]\n{ALL}\n"),
    ("another case", "[Default]\nregion = x\n", f"[Default]\nregion = x\n[default]\n{ALL}\n"),
    (
        "all indented",
        "[default]\n  aws_access_key_id = x\nregion = y\n",
        f"[default]\n  {ID}region = y\n{SECRET}{TOKEN}",
    ),
    (
        "an indented section below",
        "[default]\n  [other]\n  region = x\n",
        f"[default]\n  {ID}  {SECRET}  {TOKEN}  [other]\n  region = x\n",
    ),
    (
        "names that begin with ours",
        "[default]\naws_access_key_id_old = x\naws_session_token_backup = y\n",
        f"[default]\naws_access_key_id_old = x\naws_session_token_backup = y\n{ALL}",
    ),
    ("a commented key", "[default]\n# aws_access_key_id = x\n", f"[default]\n{ALL}# aws_access_key_id = x\n"),
    (
        "a key in another's value",
        "[default]\ns3 =\n  aws_access_key_id = x\n",
        f"[default]\ns3 =\n  aws_access_key_id = x\n{ALL}",
    ),
    (
        "a key in the value of one of ours",
        "[default]\naws_access_key_id = x\n  aws_secret_access_key = y\n  # c\n",
        f"[default]\n{ID}{SECRET}{TOKEN}  # c\n",
    ),
    ("a key twice", f"[default]\n{ALL}region = x\naws_session_token = old\n", f"[default]\n{ALL}region = x\n"),
    ("a header without end", "[default\nregion = x\n", f"[default\nregion = x\n[default]\n{ALL}\n"),
    ("a bracket in a name", "[default]]\nregion = x\n", f"[default]]\nregion = x\n[default]\n{ALL}\n"),
    ("a long line", f"[a]\nb = {'x' * 100_000}\n", f"[a]\nb = {'x' * 100_000}\n[default]\n{ALL}\n"),
]


@pytest.mark.parametrize(
    ("aws_profile", "before", "after"), [pytest.param(*case, id=name) for name, *case in HELPER_CASES]
)
def test_cases_of_the_official_helper(aws_profile, before, after):
    """The six cases of the official helper's tests give what the official helper writes, to the byte."""
    assert edited(before, aws_profile, VALUES) == after


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(("before", "after"), [pytest.param(*case, id=name) for name, *case in CASES])
def test_cases(before, after, end):
    """Everything but the three keys of the profile stays, in its place, in its style, whatever ends the lines.

    A file in which no line has an end gets LF.
    """
    has_end = "\n" in before
    expected = after.replace("\n", end if has_end else "\n")
    assert edited(before.replace("\n", end), "default", VALUES) == expected


def test_mixed_line_ends():
    """A line keeps the end that it has, and a new one has that of the line before it."""
    after = edited("[default]\r\naws_access_key_id = x\nregion = y\r\n", "default", VALUES)
    assert after == f"[default]\r\n{ID}region = y\r\n" + (SECRET + TOKEN).replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[default]\naws_access_key_id = x\n  region = y\n", 3),
        ("# c\n\n[default]\naws_session_token = x\n\n# c\n\tyz\n", 7),
        ("[default]\naws_access_key_id = x\naws_access_key_id = y\n [other]\n", 4),
    ],
)
def test_a_line_that_would_be_lost(text, line):
    """What is the rest of a key of ours to botocore, and perhaps something else to a person, is not thrown away."""
    with pytest.raises(ValueError, match=f"^line {line} is indented"):
        edited(text, "default", VALUES)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a]\ncredential_process = x\n", True),
        ("[a]\nCredential_Process: x\n", True),
        ("[a]\nb = c\n[d]\n[a]\ncredential_process =\n", True),
        ("[b]\ncredential_process = x\n", False),
        ("[a]\n# credential_process = x\n", False),
        ("[a]\nb =\n  credential_process = x\n", False),
        ("[a]\ncredential_process_timeout = 1\n", False),
        ("credential_process = x\n[a]\n", False),
        ("", False),
    ],
)
def test_has_key(text, found):
    """A key is found in every section of the name, in the spellings that configparser takes, and nowhere else."""
    assert has_key(text, "credential_process", lambda name: name == "a") is found


@pytest.mark.parametrize(
    ("header", "aws_profile", "expected"),
    [
        ("default", "default", True),
        ("profile default", "default", True),
        ("DEFAULT", "any", True),
        ("a", "a", False),
        ("profile a", "a", True),
        ("profile\ta", "a", True),
        ("profile   a ", "a", True),
        ("profile 'a b'", "a b", True),
        ('profile "a b"', "a b", True),
        ("profile a b", "a b", True),
        ("profile a b", "a", False),
        ("profile it's", "it's", True),
        ("profilea", "a", False),
        ("profile", "profile", False),
        ("sso-session a", "a", False),
        ("services a", "a", False),
    ],
)
def test_sections_of_the_config_file(header, aws_profile, expected):
    """A profile of the config file is found however an SDK wants its name to be written."""
    assert is_config_section(header, aws_profile) is expected


# --- what botocore sees ---

INDENTATIONS = st.sampled_from(["", "", "", " ", "  ", "\t", "\u00a0", "\x0b "])
ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r"])
HEADERS = st.sampled_from(
    ["[default]", "[default] # c", "[ default ]", "[a]", "[b] ; d", "[c]]", "[DEFAULT]", "[f g]", "[a#b]"]
)
BLANKS = st.sampled_from(["", " ", "# c", "; [default]", "#aws_access_key_id = x", "\x0c", "\x85"])
JUNK = st.sampled_from(["junk", "= nameless", "[e"])
NAMES = st.sampled_from([*KEYS, "AWS_ACCESS_KEY_ID", "aws_access_key_id_old", "region", "s3", "o", "p", "q", "\u00dc"])
OPTIONS = st.builds(
    "{}{}{}".format,
    NAMES,
    st.sampled_from(["=", " = ", ":", "\t:", "\u2003=\x1c", "= ="]),
    st.sampled_from(["", "x", "x # c", "[default]", "a%b", "\u2028z", "\x85"]),
)


def lines_of(*bodies: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Lines that are indented and end somehow."""
    return st.builds("{}{}{}".format, INDENTATIONS, st.one_of(*bodies), ENDS)


def name_of(line: str) -> str:
    """What must not be there twice for configparser."""
    name = re.split("[=:#]", line.strip(), maxsplit=1)[0].strip().lower()
    return name.partition("]")[0] if name else line


SECTIONS = st.builds(
    lambda header, lines: [header, *lines],
    lines_of(HEADERS),
    st.lists(lines_of(OPTIONS, OPTIONS, BLANKS), max_size=7, unique_by=name_of),
)
# configparser reads nearly all of these, and few of ANY.
READABLE = st.builds(
    lambda lines, sections: [*lines, *(line for section in sections for line in section)],
    st.lists(lines_of(BLANKS), max_size=2),
    st.lists(SECTIONS, max_size=4, unique_by=lambda section: name_of(section[0])),
)
ANY = st.lists(lines_of(HEADERS, BLANKS, JUNK, OPTIONS, OPTIONS), max_size=14)


def texts_of(lines: st.SearchStrategy[list[str]]) -> st.SearchStrategy[str]:
    """Files; some lack their last byte."""
    return st.builds(lambda lines, is_cut: "".join(lines)[: -1 if is_cut else None], lines, st.booleans())


PROFILES = st.sampled_from(["default", "a", "f g", "new"])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for botocore to read."""
    return tmp_path_factory.mktemp("botocore") / "credentials"


def seen_by_botocore(path: Path, text: str) -> dict[str, dict[str, str]]:
    """Every profile and its keys, as botocore reads them."""
    path.write_bytes(text.encode())
    sections: dict[str, dict[str, str]] = raw_config_parse(str(path), parse_subsections=False)
    return sections


@given(texts_of(ANY))
def test_every_line_is_there(text):
    """parse() loses nothing and invents nothing."""
    assert "".join(line.text for line in parse(text)) == text


@given(texts_of(READABLE), PROFILES)
def test_botocore_sees_the_new_keys_and_all_else_unchanged(path, text, aws_profile):
    """Of every file that botocore can read, it reads the new keys afterwards, and of everything else the same.

    It may also be refused, where a line would be lost.
    """
    try:
        before = seen_by_botocore(path, text)
    except ConfigParseError:
        assume(False)
    try:
        after = edited(text, aws_profile, VALUES)
    except ValueError:
        return
    expected = {name: dict(keys) for name, keys in before.items()}
    expected[aws_profile] = expected.get(aws_profile, defaults_of(text)) | VALUES
    assert seen_by_botocore(path, after) == expected


def defaults_of(text: str) -> dict[str, str]:
    """What configparser has for a section that a file does not have."""
    parser = configparser.RawConfigParser()
    parser.read_string(re.sub("\r\n?", "\n", text))
    return dict(parser.defaults())


@given(texts_of(st.one_of(READABLE, ANY)), PROFILES)
def test_an_edit_again_changes_nothing(text, aws_profile):
    """The file does not grow: the same edit again gives the same file."""
    try:
        once = edited(text, aws_profile, VALUES)
    except ValueError:
        assume(False)
    assert edited(once, aws_profile, VALUES) == once


@given(st.one_of(READABLE, ANY), PROFILES)
@example(["[default]\n", "x\n", "[default]\n", "  y = z\n"], "default")
def test_no_line_of_others_is_lost(lines, aws_profile):
    """In a file that botocore refuses, too, every line but our keys' stays, in order and to the byte."""
    marked = [re.sub("(\r\n|\n|\r)$", rf"<{number}>\1", line) for number, line in enumerate(lines)]
    try:
        after = edited("".join(marked), aws_profile, VALUES)
    except ValueError:
        assume(False)
    position = 0
    for line in marked:
        name = re.split("[=:]", line, maxsplit=1)[0].strip().lower()
        if name not in KEYS or not re.search("[=:]", line):
            position = after.index(line, position) + len(line)
