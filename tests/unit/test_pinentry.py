"""pinentry, spoken to by hand: scripts stand in for the window, the pipes and the protocol are real."""

import os
import select
import stat
import sys
import time

import pytest

from rolekey.cli.pinentry import Pinentry, escaped
from rolekey.cli.terminal import pinentry_program
from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, PinRequiredError, RolekeyError
from rolekey.secret import Secret
from support.process import at_its_deadline

CANARY = "hunter2-canary"
QUESTION = "PIN of token 100% x\x1b]0;title\x07\nD evil, key p-256 for role r: "

GOOD = """
import os, sys
log = open(sys.argv[0] + ".log", "w")
print("OK Pleased to meet you", flush=True)
for line in sys.stdin:
    log.write(line)
    log.flush()
    if line.startswith("OPTION"):
        print("ERR 83886254 Unknown option <Pinentry>", flush=True)
    elif line == "GETPIN\\n":
        ANSWER
    else:
        print("OK", flush=True)
"""


@pytest.fixture
def script(tmp_path):
    """Makes a program of a Python text."""

    def make(text, name="pinentry-fake"):
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o700)
        return path

    return make


def ask(path, seconds=30.0):
    return Pinentry(str(path), Deadline(seconds)).ask(QUESTION)


def good(answer):
    return GOOD.replace("ANSWER", answer)


@pytest.mark.parametrize(
    ("answer", "pin"),
    [
        (f"D {CANARY}\\nOK", CANARY),
        ("D 12%2534%0A\\nOK", "12%34\n"),
        ("S PASSPHRASE_FROM_CACHE\\n# a comment\\nD 12\\nD 34\\nOK done", "1234"),
        ("D p\u00e4ss\\nOK", "p\u00e4ss"),
        ("D  a b \\nOK", " a b "),
        ("OK", ""),
    ],
)
def test_answer(answer, pin, script):
    """The answer is what the D lines say, unescaped; without one it is empty."""
    path = script(good(f'sys.stdout.buffer.write("{answer}\\n".encode()); sys.stdout.flush()'))
    assert ask(path) == Secret(pin)


def test_what_is_said_to_it(script):
    """The question goes over the pipe with percent signs escaped and nothing that a terminal or window would obey."""
    path = script(good('print("D 1234\\nOK", flush=True)'))
    assert ask(path) == Secret("1234")
    lines = path.with_name(path.name + ".log").read_text().splitlines()
    expected = "SETDESC PIN of token 100%25 x\\x1b]0;title\\x07\\nD evil, key p-256 for role r:"
    assert expected in lines
    assert lines[-1] == "GETPIN"
    assert {line.partition(" ")[0] for line in lines} == {
        "OPTION",
        "SETTIMEOUT",
        "SETTITLE",
        "SETDESC",
        "SETPROMPT",
        "GETPIN",
    }


@pytest.mark.parametrize("text", ["\U0001f511" * 500, "%" * 500, "\x1b" * 500, "\u202e\r\n" * 200])
def test_long_question(text, script):
    """No question makes a line longer than the protocol's 1000 bytes."""
    path = script(good('print("D 1\\nOK", flush=True)'))
    assert Pinentry(str(path), Deadline(30)).ask(text) == Secret("1")
    lines = path.with_name(path.name + ".log").read_bytes().splitlines(keepends=True)
    assert max(map(len, lines)) <= 1000


def test_nothing_on_its_command_line(script, tmp_path):
    """The program gets no arguments: whoever lists processes sees no question."""
    answer = f'open({str(tmp_path / "argv")!r}, "w").write(repr(sys.argv[1:])); print("D 1\\nOK", flush=True)'
    ask(script(good(answer)))
    assert (tmp_path / "argv").read_text() == "[]"


@pytest.mark.parametrize("code", [83886179, 83886278, 99])
def test_cancelled(code, script):
    """A question that is cancelled is an error that says so: nobody is asked again, nothing else is tried."""
    with pytest.raises(PinRequiredError, match="was cancelled"):
        ask(script(good(f'print("ERR {code} Operation cancelled <Pinentry>", flush=True)')))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (good('print("ERR 83886340 No display <Pinentry>", flush=True)'), "error 83886340"),
        (good(f'print("{CANARY}", flush=True)'), "says nothing that a pinentry says"),
        (good(f'print("OK{CANARY}", flush=True)'), "says nothing that a pinentry says"),
        (good("sys.exit()"), "it ended"),
        (good('sys.stdout.buffer.write(b"D \\xff\\nOK\\n"); sys.stdout.flush()'), "not UTF-8"),
        (good('print("D " + "x" * 5000, flush=True)'), "says nothing that a pinentry says"),
        (good('print("S x\\n" * 500, flush=True)'), "says nothing that a pinentry says"),
        (good('print("ERR " + "9" * 900, flush=True)'), "error 9999999999"),
        ("print('hello')", "says nothing that a pinentry says"),
        ("print('ERR 1 go away', flush=True)", "says nothing that a pinentry says"),
        ("import sys; sys.stdout.write('x' * 100000)", "says nothing that a pinentry says"),
        ("", "it ended"),
        ("import os; os.close(0); print('OK', flush=True)", "it ended"),
    ],
)
def test_no_pinentry(text, words, script):
    """A program that does not speak the protocol, or ends, is named; what it said is not shown."""
    with pytest.raises(RolekeyError, match="gave no PIN") as caught:
        ask(script(text))
    assert isinstance(caught.value, PinRequiredError)
    assert words in caught.value.message
    assert CANARY not in caught.value.message + caught.value.hint
    assert "PINENTRY" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["import time; time.sleep(600)", good("import time; time.sleep(600)"), good("import os; os.system('sleep 600')")],
)
def test_window_that_nobody_answers(text, script, tmp_path):
    """The deadline ends the question, and the program and what it started are gone."""
    os.mkfifo(tmp_path / "alive")
    reading = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    held = f"import os; os.set_inheritable(os.open({str(tmp_path / 'alive')!r}, os.O_WRONLY), True)"
    held += f"; os.mkdir({str(tmp_path / 'begun')!r})"
    path = script(f"{held}\n{text}")

    def attempt(seconds):
        start = time.monotonic()
        with pytest.raises(DeadlineError, match="an answer in pinentry's window"):
            ask(path, float(seconds))
        assert time.monotonic() - start < float(seconds) + 60

    try:
        at_its_deadline(attempt, (tmp_path / "begun").exists)
        assert select.select([reading], [], [], 60)[0]
        assert os.read(reading, 1) == b""  # nobody has the other end open any more
    finally:
        os.close(reading)


@pytest.mark.parametrize("name", ["/nonexistent/pinentry", "."])
def test_program_that_cannot_be_started(name):
    """Without a program there is nobody to ask."""
    assert Pinentry(name, Deadline(10)).ask(QUESTION) is None


def test_program_of_another_kind(tmp_path):
    """A file that is no program is as good as none."""
    path = tmp_path / "pinentry"
    path.write_bytes(b"\0\1\2")
    path.chmod(stat.S_IRWXU)
    assert ask(path) is None


def test_which_program(script, tmp_path):
    """PINENTRY names it, else it is called pinentry; without a display there is none."""
    named, usual = script("", "pinentry-mine"), script("", "pinentry")
    display = {"DISPLAY": ":0", "PATH": str(tmp_path)}
    assert pinentry_program(display) == str(usual)
    assert pinentry_program({"WAYLAND_DISPLAY": "wayland-0", "PATH": str(tmp_path)}) == str(usual)
    assert pinentry_program({**display, "PINENTRY": str(named)}) == str(named)
    assert pinentry_program({**display, "PINENTRY": "pinentry-mine"}) == str(named)
    assert pinentry_program({**display, "PINENTRY": "/nonexistent"}) is None
    assert pinentry_program({"PATH": str(tmp_path)}) is None
    assert pinentry_program({"DISPLAY": "", "PATH": str(tmp_path)}) is None


def test_escaped():
    """Percent signs are escaped, control characters shown."""
    assert escaped("100%\n\x00\x1b") == "100%25\\n\\x00\\x1b"
