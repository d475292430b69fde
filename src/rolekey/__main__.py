"""The process's entry: ``rolekey`` and ``python -m rolekey``. The answer that is known comes first, then the CLI."""

import os
import sys

from rolekey.cached_answer import COMMAND, find_answer

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import NoReturn

_EX_IOERR = 74


def main() -> "NoReturn":
    """Print the answer if it is known; else run the command line; end the process with the exit code."""
    answer = find_answer(sys.argv[1:], os.environ)
    if answer is not None:
        _print(answer)
        os._exit(0)  # nothing is open, and the interpreter takes its time to end
    _run()


def _print(answer: bytes) -> None:
    rest = memoryview(answer)
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except OSError:
        os._exit(_EX_IOERR)  # whoever asked is gone, or the disk is full; stderr belongs to them, too


def _ignore(*_complaint: object) -> None:
    """What a destructor complains about (python-pkcs11's, of a search that could not be ended) is nobody's business."""


def _run_credential_process() -> "int | None":
    """A process that ends soon, on the shortest way; None if its command line is not a plain one."""
    import gc  # noqa: PLC0415 - not for an answer that is known

    from rolekey.lazily import load_when_used  # noqa: PLC0415 - as above

    gc.disable()  # looking for garbage takes a twentieth of the time, and the process ends before there is any
    load_when_used()
    from rolekey.cli.plain_line import run_plain  # noqa: PLC0415 - with what is loaded when it is used

    return run_plain(sys.argv[2:])


def _run() -> "NoReturn":
    import warnings  # noqa: PLC0415 - not for an answer that is known

    warnings.simplefilter("ignore")  # of a library (a certificate's odd serial number), to developers
    # Cython takes both ways. What is raised in the main thread ends in ending().
    sys.unraisablehook = sys.excepthook = _ignore
    code = _run_credential_process() if sys.argv[1:2] == [COMMAND] else None
    if code is None:
        from rolekey.cli.main import run  # noqa: PLC0415 - slow to import; click is

        code = run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or _EX_IOERR
    # At once: a thread that hangs in a PKCS#11 module or a socket must not keep the process, and taking the interpreter
    # apart takes a tenth of the time.
    os._exit(code)


if __name__ == "__main__":
    main()
