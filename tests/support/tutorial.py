"""Goes through a page: runs each of its blocks, shows it, and compares what it prints with what the page shows.

A block that is marked ``sh`` is run by one bash for the whole page, one that is marked ``sh fails`` by a subshell of
it, and has to end with an error. A block that is marked ``text`` is what the commands before it print, on stdout and
stderr; ``…`` stands for any characters of one line. Commands without one print nothing. scripts/tutorial starts it.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_PART = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|^```(?P<kind>\w+)(?P<fails> fails)?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
_BEGIN, _END = "\x01", "\x02"  # nothing that a command prints


@dataclass(frozen=True)
class Step:
    """One block of commands.

    Args:
        heading: what it stands below.
        commands: its text.
        fails: whether it has to end with an error.
        output: what it prints, as the page shows it.
    """

    heading: str
    commands: str
    fails: bool
    output: str = ""

    def matches(self, printed: str) -> bool:
        """Whether the commands have printed what the page shows.

        Args:
            printed: their output.
        """
        pattern = ".+".join(re.escape(part) for part in self.output.split("…"))
        return re.fullmatch(pattern, printed) is not None


def read_steps(page: str) -> list[Step]:
    """The steps of a page, in its order.

    Args:
        page: Markdown.

    Raises:
        ValueError: a block that is of neither kind, or output without commands before it.
    """
    steps: list[Step] = []
    heading, blocks = "", 0
    for found in _PART.finditer(page):
        if found["heading"]:
            heading = found["heading"]
            continue
        blocks += 1
        if found["kind"] == "sh":
            steps.append(Step(heading, found["body"], bool(found["fails"])))
        elif found["kind"] == "text" and steps and not steps[-1].output and steps[-1].heading == heading:
            steps[-1] = replace(steps[-1], output=found["body"])
        else:
            raise ValueError(f"{heading}: a block of {found['kind']} has no place here")
    if page.count("```") != 2 * blocks:
        raise ValueError("a block has no kind or no end")
    return steps


def script_of(steps: Sequence[Step]) -> str:
    """One program for bash, that says on stdout where each step begins and ends.

    Args:
        steps: the steps.
    """
    parts = ["set -euo pipefail\n", f"trap 'printf \"{_END}%s\\n\" $?' EXIT\n"]
    for step in steps:
        parts.append(f"printf '{_BEGIN}\\n'\n")
        if step.fails:
            # Not in a condition, where set -e is without effect.
            parts.append(f"set +e\n(set -e\n{step.commands})\ncode=$?\nset -e\n")
            parts.append("if [ $code -eq 0 ]; then echo 'This was to end with an error.'; exit 1; fi\n")
        else:
            parts.append(step.commands)
    return "".join(parts)


def go_through(steps: Sequence[Step], show: Callable[[str], object]) -> str | None:
    """Run the steps in this directory.

    Args:
        steps: the steps.
        show: takes what a reader would see, in pieces.

    Returns:
        What went wrong first, None where every step did and printed what the page says.
    """
    # A session of its own: what the page leaves running in the background ends with it.
    with subprocess.Popen(
        ["bash", "-c", script_of(steps)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            return _follow(steps, process.stdout, show)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _follow(steps: Sequence[Step], lines: Iterable[str], show: Callable[[str], object]) -> str | None:
    waiting = iter(steps)
    current, printed = None, ""
    for line in lines:
        text, begins, _ = line.partition(_BEGIN)
        text, ends, code = text.partition(_END)
        text = text.removesuffix("\n") if begins or ends else text
        printed += text
        show(text)
        if not begins and not ends:
            continue
        if ends and int(code) != 0:
            return f"{current.heading if current else 'bash'}: this ended with exit code {int(code)}"
        if current is not None and not current.matches(printed):
            return f"{current.heading}: the page shows something else:\n{current.output}"
        if ends:
            return None if next(waiting, None) is None else "the page's last blocks did not run"
        heading = current.heading if current else ""
        current, printed = next(waiting), ""
        show(_introduction(current, heading))
    return "bash ended before the page"


def _introduction(step: Step, heading_before: str) -> str:
    heading = f"\n== {step.heading}\n" if step.heading != heading_before else ""
    return heading + "$ " + step.commands.removesuffix("\n").replace("\n", "\n> ") + "\n"


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> None:
    """Go through the page that is named on the command line; the exit code says whether it holds."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # end what runs, as at Ctrl-C
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    page = Path(sys.argv[1])
    steps = read_steps(page.read_text(encoding="utf-8"))
    problem = go_through(steps, _show)
    if problem:
        sys.exit(f"\n{page.name}: {problem}")
    sys.stdout.write(f"\n== Done: {len(steps)} blocks of {page.name} ran, and printed what it shows\n")


if __name__ == "__main__":
    main()
