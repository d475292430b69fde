r"""A credential_process line: read as SDKs read it, written so that all of them read it alike."""

import shlex

import botocore.compat
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rolekey.vend.process_line import arguments_of, as_cmd_expands, program_of, quoted, variables_in, words_of

LINES = st.text(alphabet=[*"ab \\\"\t'%ä"], max_size=24)


def botocore_words(line):
    """What botocore makes of a line on Windows."""
    return botocore.compat.compat_shell_split(line, "win32")


@given(LINES)
@example(r'"C:\a b\x.exe" c')
@example(r'"a\\" b')
@example(r"a\"b")
@example("\\")
@example('a"b c"d')
def test_windows_words(line):
    """A line is taken apart as botocore does it on Windows; where that finds an open quote, so does this."""
    try:
        expected = botocore_words(line)
    except ValueError:
        with pytest.raises(ValueError, match="No closing quotation"):
            words_of(line, windows=True)
    else:
        # An empty pair of quotes is an argument for botocore; no option has a use for one by itself.
        assert [word for word in words_of(line, windows=True) if word] == [word for word in expected if word]


def test_empty_argument_on_windows():
    """An argument between empty quotes is one, as for botocore."""
    line = 'rolekey credential-process --region ""'
    assert words_of(line, windows=True) == botocore_words(line)


@pytest.mark.parametrize(
    "start",
    [
        "rolekey",
        "/opt/rolekey/bin/rolekey",
        r"C:\Tools\rolekey.exe",
        "aws_signing_helper",
        r".\aws_signing_helper.EXE",
        "python -m rolekey",
        "python3.12 -I -m rolekey",
        r"C:\Python314\python.exe -Xutf8 -m rolekey",
        "py -3.12 -m rolekey",
        r"C:\Windows\py.exe -m rolekey",
        "pypy3 -m rolekey",
    ],
)
def test_arguments(start):
    """What follows credential-process is found behind a program, or an interpreter that runs rolekey."""
    words = [*start.split(), "credential-process", "--region", "x"]
    assert arguments_of(words) == ["--region", "x"]
    assert arguments_of(words[: len(start.split())]) is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "rolekey",
        "rolekey login x",
        "python -m other credential-process",
        "python credential-process",
        "python script.py -m rolekey credential-process",
        "python -m",
        "sh -c rolekey",
    ],
)
def test_no_arguments(line):
    """Another program's line, or another command's, has none."""
    assert arguments_of(line.split()) is None


@given(st.text(alphabet=[*"ab/ .:~'$\\\"%&é"], min_size=1, max_size=16), st.booleans())
def test_a_path_is_read_as_it_was_written(path, windows):
    """A quoted path is one word for every reader of the line, and the path itself; or it is not written at all."""
    written = quoted(path, windows=windows)
    if written is None:
        return
    if windows:
        assert botocore_words(f"{written} x") == [path, "x"]
        assert as_cmd_expands(written, {"A": "no", "B": "no"}, windows=True) == written
    else:
        assert shlex.split(f"{written} x") == [path, "x"]


def test_a_path_that_needs_no_quotes():
    """Plain paths stay plain on both systems."""
    assert quoted("/usr/local/bin/rolekey", windows=False) == "/usr/local/bin/rolekey"
    assert quoted(r"C:\PROGRA~1\rolekey.exe", windows=True) == r"C:\PROGRA~1\rolekey.exe"


def test_variables():
    """Variables are put in whatever their case; what is no variable's name, as in a URI, stays and is not named."""
    line = r"%UserProfile%\k.pem pkcs11:id=%ab%cd;object=a%20b%20c %No_Such% 100%"
    environment = {"USERPROFILE": r"C:\Users\me"}
    assert as_cmd_expands(line, environment, windows=True) == line.replace("%UserProfile%", r"C:\Users\me")
    assert variables_in(line, environment, windows=True) == ["%UserProfile%", "%No_Such%"]
    assert as_cmd_expands(line, environment, windows=False) == line
    assert variables_in(line, environment, windows=False) == []


def test_the_program_of_a_line(tmp_path):
    """A program in a directory where every program looks is called by its name, any other one by its whole path."""
    program = tmp_path / "rolekey"
    program.touch()
    assert program_of(str(program), "/usr/bin/python3", [str(tmp_path / "no"), str(tmp_path)]) == "rolekey"
    assert program_of(str(program), "/usr/bin/python3", ["/nowhere"]) == str(program)


def test_another_program_of_the_same_name(tmp_path):
    """A rolekey where every program looks that is not this one does not take its place."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rolekey").touch()
    ours = str(tmp_path / "ours" / "rolekey")
    assert program_of(ours, "/usr/bin/python3", [str(tmp_path / "theirs")]) == ours


def test_a_module_that_is_run(tmp_path):
    """`python -m rolekey` is called as it was; a path with a blank in quotes, one with a quote not at all."""
    module = str(tmp_path / "rolekey" / "__main__.py")
    assert program_of(module, "/opt/my python/bin/python", []) == '"/opt/my python/bin/python" -m rolekey'
    assert program_of(module, '/opt/my"python', []) is None
