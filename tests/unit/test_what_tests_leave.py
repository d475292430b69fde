"""A test that fails is the only one that fails: what it leaves behind is ended and closed before the next one."""

import sys
from pathlib import Path

import pytest

from support.process import end_what_was_started, running_program, start_program
from support.watching import is_alive

pytest_plugins = ["pytester"]

TESTS_DIRECTORY = Path(__file__).parents[1]
# The second one is as innocent as the next test of a run may be: it collects garbage.
_TESTS = """
import gc, sys
from support.process import start_program
def test_that_fails():
    process = start_program(sys.executable, "-c", "import time; time.sleep(600)")
    with open("number", "w") as file:
        file.write(str(process.pid))
    left = open("number")
    assert process is left
def test_that_is_innocent():
    gc.collect()
"""


def test_a_failure_stays_one(pytester):
    """A file that a failed test left open is its own error, and no later test's; a process that it left is gone."""
    pytester.makeini(f"[pytest]\nfilterwarnings = error\npythonpath = {TESTS_DIRECTORY}\n")
    pytester.makepyfile(_TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "support.leftovers")
    result.assert_outcomes(failed=1, passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_that_fails*", "*unclosed file*", "ERROR *::test_that_fails*"]
    )
    assert not is_alive(int((pytester.path / "number").read_text()))


def test_a_program_ends_with_its_block():
    """A program is killed at the end of its block, also where that ends with an exception."""
    words = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(ZeroDivisionError), running_program(words) as process:
        raise ZeroDivisionError
    assert process.returncode == -9


def test_what_was_started_is_ended():
    """What a test has started and not waited for is killed, and its pipes are closed."""
    process = start_program(sys.executable, "-c", "import time; time.sleep(600)")
    end_what_was_started()
    assert process.returncode == -9
    assert process.stdout.closed
    assert process.stderr.closed
