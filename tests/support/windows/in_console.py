"""in_console.py RESULT COMMAND...: runs a command in this console, and notes how it leaves the console.

RESULT is a file that gets the console's input mode before and after, the exit code and the command's stdout, as JSON.
"""

import ctypes
import json
import signal
import subprocess
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.GetConsoleMode.argtypes = (ctypes.c_void_p, ctypes.c_void_p)

    def input_mode() -> int:
        """ENABLE_ECHO_INPUT and the like, as they are now."""
        mode = ctypes.c_uint32()
        with Path("CONIN$").open(encoding="utf-8") as keyboard:
            assert kernel32.GetConsoleMode(msvcrt.get_osfhandle(keyboard.fileno()), ctypes.byref(mode))
        return mode.value

    signal.signal(signal.SIGINT, lambda *_: None)
    result, *command = sys.argv[1:]
    before = input_mode()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    seen = {"before": before, "after": input_mode(), "code": done.returncode, "stdout": done.stdout.decode("utf-8")}
    Path(result).write_text(json.dumps(seen), "utf-8")
