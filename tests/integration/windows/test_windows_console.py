"""The console of Windows: questions are asked on it whatever stdin and stdout are, and it stays as it was."""

import json
import os
import pty
import re
import select
import time
import tty

import pytest

from support.pki import key_to_pem

PASSPHRASE = "correct-horse-canary"
QUESTION = "Passphrase of the private key"
ECHO = 0x4
ROOM = 120.0


class Console:
    """A command in a console of its own, whose keyboard and screen are here.

    Args:
        windows: where it runs.
        directory: for what the command and the console leave.
        words: the command.
    """

    def __init__(self, windows, directory, *words):
        self._screen, terminal = pty.openpty()
        tty.setraw(terminal)  # Wine's console does what a terminal would do
        self._result = directory / "result"
        self._shown = ""
        program = windows.path(windows.place.parent / "tests/support/windows/in_console.py")
        self._process = windows.start(
            *("python", program, self._result, *words), streams=(terminal, terminal, terminal)
        )
        self._process.__enter__()
        os.close(terminal)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.__exit__(*error)
        os.close(self._screen)

    def wait_for(self, found):
        """Until something is true of what the screen has shown, less what moves the cursor."""
        end = time.monotonic() + ROOM
        while not found():
            assert time.monotonic() < end, self.shown
            if select.select([self._screen], [], [], 0.05)[0]:
                try:
                    self._shown += os.read(self._screen, 4096).decode("utf-8", "replace")
                except OSError:  # the other side is closed
                    assert found(), self.shown

    @property
    def shown(self):
        """What the screen has shown."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._shown)

    def press(self, keys):
        """Type."""
        os.write(self._screen, keys.encode())

    def result(self):
        """The console's mode before and after, the exit code and the stdout of the command, when it has ended."""
        self.wait_for(self._result.exists)
        self.wait_for(lambda: self._result.read_text("utf-8").endswith("}"))
        return json.loads(self._result.read_text("utf-8"))


@pytest.fixture
def command(root, tmp_path, windows, emulator):
    """credential-process with a key whose passphrase nobody has configured."""
    issued = root.issue()
    certificate, key = issued.write(tmp_path, "leaf")
    key.write_bytes(key_to_pem(issued.key, PASSPHRASE.encode()))
    pair = ("--certificate", windows.path(certificate), "--private-key", windows.path(key))
    return ("rolekey", "credential-process", *emulator.arguments, *pair)


def test_a_question(command, windows, tmp_path, emulator):
    """The question is on the screen and the answer is not; stdout has the credentials alone; the echo comes back."""
    with Console(windows, tmp_path, *command) as console:
        console.wait_for(lambda: QUESTION in console.shown)
        console.press(f"{PASSPHRASE}\r")
        result = console.result()
    assert result["code"] == 0, console.shown
    assert [json.loads(result["stdout"])["AccessKeyId"]] == emulator.granted
    assert PASSPHRASE not in console.shown
    assert result["before"] == result["after"]
    assert result["after"] & ECHO


def check_interrupted(console, emulator, code):
    """The command has ended with this exit code and nothing else, and the console is as it was."""
    result = console.result()
    assert (result["code"], result["stdout"]) == (code, "")
    assert result["before"] == result["after"]
    assert result["after"] & ECHO
    assert emulator.requests == []


def test_ctrl_c(command, windows, tmp_path, emulator):
    """Ctrl-C ends the question at once, and with it the command; the console is as it was."""
    with Console(windows, tmp_path, *command) as console:
        console.wait_for(lambda: QUESTION in console.shown)
        console.press("\x03")
        check_interrupted(console, emulator, 130)


def test_ctrl_break(command, windows, tmp_path, emulator):
    """Ctrl-Break ends the question at once, and with it the command; the console is as it was."""
    program = windows.path(windows.place.parent / "tests/support/windows/with_break.py")
    wanted = tmp_path / "break"
    with Console(windows, tmp_path, "python", program, wanted, *command[1:]) as console:
        console.wait_for(lambda: QUESTION in console.shown)
        wanted.touch()
        check_interrupted(console, emulator, 149)


def test_a_reminder(windows, tmp_path):
    """That a token waits for a touch is said on the console, whatever stdout is."""
    say = (
        "from rolekey.cli.terminal import Terminal; from rolekey.deadline import Deadline; "
        "Terminal(Deadline(5)).remind('touch the token \x1b[31m now')"
    )
    with Console(windows, tmp_path, "python", "-c", say) as console:
        console.wait_for(lambda: "touch the token" in console.shown)
        result = console.result()
    assert (result["code"], result["stdout"]) == (0, "")
    assert "now" in console.shown
    assert result["before"] == result["after"]
