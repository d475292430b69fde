"""A module that waits is imported like any other, and runs once somebody looks into it."""

import importlib
import subprocess
import sys
import threading

import pytest

from rolekey import lazily


@pytest.fixture
def waiting(tmp_path, monkeypatch):
    """Writes a module that is to wait; nothing of it stays in this process."""
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    monkeypatch.syspath_prepend(str(tmp_path))
    lazily.load_when_used()

    def write(name, content):
        (tmp_path / f"{name}.py").write_text(content)
        monkeypatch.setattr(lazily, "_NAMES", frozenset((name,)))
        # What is set here is removed in the end.
        monkeypatch.setitem(sys.modules, name, sys)
        del sys.modules[name]
        return lambda: importlib.import_module(name)

    return write


def test_it_runs_when_it_is_used(waiting, capsys):
    """An import does not run it, nor does another; the first look at something in it does, and no further one."""
    load = waiting("rolekey_test_used", "print('run')\nvalue = 1\n")
    module = load()
    assert load() is module
    assert (module.__name__, module.__spec__.name) == ("rolekey_test_used", "rolekey_test_used")
    assert capsys.readouterr().out == ""
    assert (module.value, module.value) == (1, 1)
    assert capsys.readouterr().out == "run\n"
    assert load() is module
    assert type(module) is type(sys)
    assert module.__spec__.loader is module.__loader__
    assert "print" in module.__loader__.get_source("rolekey_test_used")


def test_what_is_not_in_it(waiting):
    """A name that it does not have is missing, in the words of any module."""
    module = waiting("rolekey_test_missing", "")()
    for _ in range(2):
        with pytest.raises(AttributeError, match=r"^module 'rolekey_test_missing' has no attribute 'absent'$"):
            _ = module.absent


def test_it_fails(waiting):
    """Whoever uses it first gets the error that it ends with."""
    module = waiting("rolekey_test_failing", "raise RuntimeError('broken')")()
    with pytest.raises(RuntimeError, match=r"^broken$"):
        _ = module.value


def test_it_asks_itself(waiting):
    """What looks into it while it runs, it among them, sees what is there by then, as in any import."""
    content = "import sys\nfound = hasattr(sys.modules[__name__], 'later')\nlater = True\n"
    module = waiting("rolekey_test_itself", content)()
    assert (module.found, module.later) == (False, True)


def test_threads(waiting, capsys):
    """Threads that use it at the same time all wait until it has run, once."""
    module = waiting("rolekey_test_threads", "import time\nprint('run')\ntime.sleep(0.1)\nvalue = 1\n")()
    begin = threading.Barrier(5)
    found = []

    def use():
        begin.wait()
        found.append(module.value)

    threads = [threading.Thread(target=use) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 5
    assert capsys.readouterr().out == "run\n"


PROGRAM = """
import importlib, sys
from rolekey import lazily
if "wait" in sys.argv: lazily.load_when_used()
module = importlib.import_module(sys.argv[1])
print(type(module) is not type(sys))
getattr(module, "absent", None)
print(sorted(vars(module)))
"""


@pytest.mark.parametrize("name", sorted(lazily._NAMES))
def test_each_of_them(name):
    """Each of those that wait is there, waits, and is what it would have been otherwise once it is used."""

    def names(*words):
        program = [sys.executable, "-c", PROGRAM, name, *words]
        return subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()

    (waits, there), (waits_else, there_else) = names("wait"), names()
    assert (waits, waits_else) == ("True", "False")
    assert there == there_else
