"""The process's entry: ``rolekey`` and ``python -m rolekey``."""

import os
import sys
import threading
from typing import NoReturn


def _ignore(*_complaint: object) -> None:
    """What a destructor complains about (python-pkcs11's, of a search that could not be ended) is nobody's business."""


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    # Cython takes both ways. What is raised in the main thread ends in run().
    sys.unraisablehook = sys.excepthook = _ignore
    from rolekey.cli.main import run  # noqa: PLC0415 - the entry itself imports nothing heavy

    code = run()
    if threading.active_count() > 1:
        # A thread that hangs in a PKCS#11 module or a socket must not keep the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
