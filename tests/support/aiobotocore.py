"""The environment of scripts/aiobotocore, in which aiobotocore has the botocore that it pins."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
PYTHON = _ROOT / ".venv-aiobotocore" / "bin" / "python"
_PROGRAM = _ROOT / "tests" / "interop" / "aiobotocore" / "calls.py"


def can_run() -> bool:
    """Whether the environment is there, and has both libraries."""
    words = [str(PYTHON), "-c", "import aiobotocore, rolekey"]
    return PYTHON.exists() and subprocess.run(words, capture_output=True, check=False).returncode == 0


def call(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run tests/interop/aiobotocore/calls.py.

    Args:
        given: what it reads.
        environment: the process's whole environment.

    Returns:
        What it wrote.
    """
    words = [str(PYTHON), "-W", "error", str(_PROGRAM)]
    done = subprocess.run(
        words, input=json.dumps(given), env=dict(environment), capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document
