"""The terminal itself, whatever stdin, stdout and stderr are: /dev/tty, on Windows the console (CONIN$ and CONOUT$)."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

if sys.platform == "win32":
    import ctypes
    import msvcrt
    import time

    _INPUT, _OUTPUT = "CONIN$", "CONOUT$"
    _ECHO, _LINE, _PROCESSED = 0x4, 0x2, 0x1
    _END_OF_INPUT = "\x1a"  # Ctrl-Z
    _LONGEST = 4096
    _SIGNAL_SECONDS = 2.0
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.GetConsoleMode.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    _kernel32.SetConsoleMode.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    _kernel32.ReadConsoleW.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_void_p,
        ctypes.c_void_p,
    )

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
            handle = msvcrt.get_osfhandle(keyboard.fileno())
            _kernel32.SetConsoleMode(handle, (_mode_of(handle) & ~_ECHO) | _LINE | _PROCESSED)
            console.write(question)
            console.flush()
            line = _read_line(handle)
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
