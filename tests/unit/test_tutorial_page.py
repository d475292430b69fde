"""What goes through docs/tutorial.md (tests/support/tutorial.py), on small pages, most of which are wrong."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support import tutorial
from support.tutorial import go_through, read_steps
from support.watching import wait_until

GOOD = """# A page

Some words.

```sh
# not a heading
place=$PWD
shout() { echo "$1!"; }
cd /
```

## Second

```sh
shout "$place"
echo 'another' >&2
```

```text
…!
another
```

```sh fails
cd /nonexistent 2>/dev/null
echo never
```

```sh fails
exit 3
```

```sh
pwd
```

```text
/
```
"""


def block(commands, output=None, kind="sh"):
    page = f"# Heading\n\n```{kind}\n{commands}\n```\n"
    return page if output is None else f"{page}\n```text\n{output}\n```\n"


def follow(page):
    shown = []
    return go_through(read_steps(page), shown.append), "".join(shown)


def test_a_page_that_holds(monkeypatch, tmp_path):
    """The blocks share one shell; one that fails does so in a subshell; what a reader would see is shown."""
    monkeypatch.chdir(tmp_path)
    problem, shown = follow(GOOD)
    assert problem is None
    assert shown.startswith("\n== A page\n$ # not a heading\n> place=$PWD\n")
    assert f"\n== Second\n$ shout \"$place\"\n> echo 'another' >&2\n{tmp_path}!\nanother\n$ cd /non" in shown
    assert shown.endswith("$ exit 3\n$ pwd\n/\n")


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (block("false"), "Heading: this ended with exit code 1"),
        (block("false | true"), "Heading: this ended with exit code 1"),
        (block('echo "$UNHEARD_OF"'), "Heading: this ended with exit code 1"),
        (block("exit 0") + block("true"), "the page's last blocks did not run"),
        (block("exec true") + block("true"), "bash ended before the page"),
        (block("true", kind="sh fails"), "Heading: this ended with exit code 1"),
        (block("false\ntrue", kind="sh fails"), None),
        (block("echo a", "a"), None),
        (block("echo a", "b"), "Heading: the page shows something else"),
        (block("echo a"), "Heading: the page shows something else"),
        (block("true", "a"), "Heading: the page shows something else"),
        (block("echo a >&2", "b"), "Heading: the page shows something else"),
        (block("printf 'a\\nb\\n'", "a"), "Heading: the page shows something else"),
        (block("printf 'a\\nb\\n'", "a…"), "Heading: the page shows something else"),
        (block("echo abc", "a…c"), None),
        (block("echo ac", "a…c"), "Heading: the page shows something else"),
        (block("echo a.c", "a.c"), None),
        (block("echo abc", "a.c"), "Heading: the page shows something else"),
        (block("echo a; exit 3", "a", kind="sh fails"), None),
        (block("echo a; exit 3", "b", kind="sh fails") + block("true"), "Heading: the page shows something else"),
    ],
)
def test_a_page_that_does_not(page, problem):
    """A block that fails, one that should and does not, one that prints something else, one that never ran."""
    found, _ = follow(page)
    assert (found or "").startswith(problem or "")
    assert bool(found) is bool(problem)


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("```sh\ntrue\n", "no kind or no end"),
        ("```\ntrue\n```\n", "no kind or no end"),
        ("```ini\na = b\n```\n", "a block of ini has no place"),
        ("```text\na\n```\n", "a block of text has no place"),
        (block("true", "a") + "```text\nb\n```\n", "a block of text has no place"),
        (block("true") + "# Next\n```text\nb\n```\n", "a block of text has no place"),
    ],
)
def test_a_page_that_cannot_be_read(page, told):
    """No block is left out in silence."""
    with pytest.raises(ValueError, match=told):
        read_steps(page)


def test_the_exit_code_says_it(tmp_path):
    """The program that scripts/tutorial ends with says yes only where the page holds."""
    page = tmp_path / "page.md"
    for text, code, words in (
        (block("echo a", "a"), 0, "1 blocks of page.md ran"),
        (block("echo a", "b"), 1, "Heading"),
    ):
        page.write_text(text)
        done = subprocess.run(
            [sys.executable, tutorial.__file__, page], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == code
        assert words in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_the_page_started_ends_with_it(tmp_path, number):
    """At the end, and at a signal, what a block left in the background ends, too."""
    page = tmp_path / "page.md"
    page.write_text(block("sleep 600 &\necho $! >started\nmv started pid\nsleep 600"))
    with subprocess.Popen(
        [sys.executable, tutorial.__file__, page], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_until((tmp_path / "pid").is_file)
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode != 0
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not (status.is_file() and "State:\tZ" in status.read_text())
