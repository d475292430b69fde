"""The terminal itself, whatever stdin, stdout and stderr are: /dev/tty, on Windows the console (CONIN$ and CONOUT$)."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

if sys.platform == "win32":
    import ctypes
    import msvcrt

    _INPUT, _OUTPUT = "CONIN$", "CONOUT$"
    _ECHO, _LINE, _PROCESSED = 0x4, 0x2, 0x1
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.GetConsoleMode.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    _kernel32.SetConsoleMode.argtypes = (ctypes.c_void_p, ctypes.c_uint32)

    def has_terminal() -> bool:
        """Whether there is a terminal that somebody can be asked on."""
        try:
            for name in (_INPUT, _OUTPUT):
                os.close(os.open(name, os.O_RDWR))
        except OSError:
            return False
        return True

    def write_line(text: str) -> None:
        """Write a line on the terminal.

        Raises:
            OSError: there is none.
        """
        with open(_OUTPUT, "w", encoding="utf-8") as console:  # noqa: PTH123 - a device
            console.write(f"{text}\n")

    def read_hidden(question: str) -> str:
        """Ask, and read a line that is not shown; between both, restored() must be in force.

        Args:
            question: is shown.

        Raises:
            EOFError: the input has ended.
        """
        with open(_OUTPUT, "w", encoding="utf-8") as console, open(_INPUT, encoding="utf-8") as keyboard:  # noqa: PTH123 - devices
            console.write(question)
            console.flush()
            handle = msvcrt.get_osfhandle(keyboard.fileno())
            _kernel32.SetConsoleMode(handle, (_mode_of(handle) & ~_ECHO) | _LINE | _PROCESSED)
            line = keyboard.readline()
            console.write("\n")
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    @contextmanager
    def restored() -> Iterator[None]:
        """Leave the terminal as it was at the beginning of a with block."""
        descriptor = os.open(_INPUT, os.O_RDWR)
        try:
            handle = msvcrt.get_osfhandle(descriptor)
            mode = _mode_of(handle)
            try:
                yield
            finally:
                _kernel32.SetConsoleMode(handle, mode)
        finally:
            os.close(descriptor)

    def _mode_of(handle: int) -> int:
        mode = ctypes.c_uint32()
        if not _kernel32.GetConsoleMode(handle, ctypes.byref(mode)):
            raise ctypes.WinError(ctypes.get_last_error())
        return mode.value

else:
    _TERMINAL = "/dev/tty"

    def has_terminal() -> bool:
        """Whether there is a terminal that somebody can be asked on."""
        try:
            os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
        except OSError:
            return False
        return True

    def write_line(text: str) -> None:
        """Write a line on the terminal.

        Raises:
            OSError: there is none.
        """
        with open(_TERMINAL, "w", encoding="utf-8") as terminal:  # noqa: PTH123 - a device
            terminal.write(f"{text}\n")

    def read_hidden(question: str) -> str:
        """Ask, and read a line that is not shown; between both, restored() must be in force.

        Args:
            question: is shown.

        Raises:
            EOFError: the input has ended.
        """
        import getpass  # noqa: PLC0415 - slow to import; mostly nobody is asked

        return getpass.getpass(question)

    @contextmanager
    def restored() -> Iterator[None]:
        """Leave the terminal as it was at the beginning of a with block."""
        import termios  # noqa: PLC0415 - slow to import; mostly nobody is asked

        terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY)
        try:
            attributes = termios.tcgetattr(terminal)
            try:
                yield
            finally:
                termios.tcsetattr(terminal, termios.TCSAFLUSH, attributes)
        finally:
            os.close(terminal)
