"""The process's entry: ``rolekey`` and ``python -m rolekey``."""

import os
import sys
import threading
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
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
