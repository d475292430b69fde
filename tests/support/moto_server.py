"""A stand-in for AWS, moto, as it is when somebody types `moto_server`: it takes any keys and asks for no policy."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.process import running_program
from support.watching import wait_until

PYTHON = Path(__file__).resolve().parents[2] / ".venv-moto" / "bin" / "python"


@contextmanager
def running_moto(directory: Path) -> Iterator[str]:
    """The URL of moto, for the length of a with block; scripts/moto-packages has installed it.

    Args:
        directory: where its log goes.
    """
    log = directory / "moto.log"
    words = [str(PYTHON), "-m", "moto.server", "--port", "0"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    with (
        log.open("w") as output,
        running_program(words, env=clean, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
    ):
        wait_until(lambda: process.poll() is not None or _url_in(log))
        url = _url_in(log)
        assert url, log.read_text(encoding="utf-8")
        yield url


def _url_in(log: Path) -> str | None:
    found = re.search(r"Running on (http\S*)", log.read_text(encoding="utf-8"))
    return found[1] if found else None
