"""The terminal itself, whatever stdin, stdout and stderr are: /dev/tty, on Windows the console (CONIN$ and CONOUT$)."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

if sys.platform == "win32":
    import ctypes
    import msvcrt
    import time

    _INPUT, _OUTPUT, _FLAGS = "CONIN$", "CONOUT$", os.O_RDWR
    _ECHO, _LINE, _PROCESSED = 0x4, 0x2, 0x1
    _END_OF_INPUT = "\x1a"  # Ctrl-Z
    _LONGEST = 4096
    _SIGNAL_SECONDS = 2.0
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.GetConsoleMode.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    _kernel32.SetConsoleMode.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    _kernel32.ReadConsoleW.argtypes = (*(2 * [ctypes.c_void_p]), ctypes.c_uint32, *(2 * [ctypes.c_void_p]))

    def _mode_of(descriptor: int) -> int:
        mode = ctypes.c_uint32()
        if not _kernel32.GetConsoleMode(msvcrt.get_osfhandle(descriptor), ctypes.byref(mode)):
            raise ctypes.WinError(ctypes.get_last_error())
        return mode.value

    def _set_mode(descriptor: int, mode: int) -> None:
        _kernel32.SetConsoleMode(msvcrt.get_osfhandle(descriptor), mode)

    def _ask(question: str) -> str:
        with open(_OUTPUT, "w", encoding="utf-8") as console:  # noqa: PTH123 - a device
            descriptor = os.open(_INPUT, _FLAGS)
            try:
                _set_mode(descriptor, (_mode_of(descriptor) & ~_ECHO) | _LINE | _PROCESSED)
                console.write(question)
                console.flush()
                line = _read_line(msvcrt.get_osfhandle(descriptor))
            finally:
                os.close(descriptor)
            console.write("\n")
        return line

    def _read_line(handle: int) -> str:
        buffer, length = ctypes.create_unicode_buffer(_LONGEST), ctypes.c_uint32()
        if not _kernel32.ReadConsoleW(handle, buffer, _LONGEST, ctypes.byref(length), None):
            raise ctypes.WinError(ctypes.get_last_error())
        if not length.value:  # an empty line has its end
            time.sleep(_SIGNAL_SECONDS)  # the main thread hears of Ctrl-C and Ctrl-Break by itself
            raise KeyboardInterrupt
        text = ctypes.wstring_at(buffer, length.value)
        if text.startswith(_END_OF_INPUT):
            raise EOFError
        return text.rstrip("\r\n")

else:
    _INPUT = _OUTPUT = "/dev/tty"
    _FLAGS = os.O_RDWR | os.O_NOCTTY

    def _mode_of(descriptor: int) -> list[Any]:
        import termios  # noqa: PLC0415 - slow to import; mostly nobody is asked

        return termios.tcgetattr(descriptor)

    def _set_mode(descriptor: int, mode: list[Any]) -> None:
        import termios  # noqa: PLC0415 - as above

        termios.tcsetattr(descriptor, termios.TCSAFLUSH, mode)

    def _ask(question: str) -> str:
        import getpass  # noqa: PLC0415 - as above

        return getpass.getpass(question)


def has_terminal() -> bool:
    """Whether there is a terminal that somebody can be asked on."""
    try:
        for name in {_INPUT, _OUTPUT}:
            os.close(os.open(name, _FLAGS))
    except OSError:
        return False
    return True


def write_line(text: str) -> None:
    """Write a line on the terminal.

    Raises:
        OSError: there is none.
    """
    with open(_OUTPUT, "w", encoding="utf-8") as terminal:  # noqa: PTH123 - a device
        terminal.write(f"{text}\n")


def read_hidden(question: str) -> str:
    """Ask, and read a line that is not shown. It is for restored() to bring the echo back.

    Args:
        question: is shown.

    Raises:
        EOFError: the input has ended.
    """
    return _ask(question)


@contextmanager
def restored() -> Iterator[None]:
    """Leave the terminal as it was at the beginning of a with block."""
    descriptor = os.open(_INPUT, _FLAGS)
    try:
        mode = _mode_of(descriptor)
        try:
            yield
        finally:
            _set_mode(descriptor, mode)
    finally:
        os.close(descriptor)
