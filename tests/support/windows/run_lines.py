"""run_lines.py FILE: runs rolekey's command lines, one after the other, in this one process.

FILE has a JSON list of lists of words; in its place a list of [exit code, stdout, stderr] is written. A start of
Python takes about a second under Wine, so that a table of errors is gone through in one.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from rolekey.cli.main import run


def outcome(words: list[str]) -> tuple[int, str, str]:
    """Run one, with files in the place of its standard output and standard error."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
        code = run(words)
        sys.stdout.flush()
        sys.stderr.flush()
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode("utf-8").replace("\r\n", "\n"))
    return code, texts[0], texts[1]


path = Path(sys.argv[1])
path.write_text(json.dumps([outcome(words) for words in json.loads(path.read_text("utf-8"))]), "utf-8")
os._exit(0)  # a thread may wait for something that never comes
