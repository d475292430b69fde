"""with_break.py FILE WORD...: rolekey's command line, in which Ctrl-Break arrives as soon as there is a file.

Wine 8 sends no Ctrl-Break from a console, so that the process raises the signal itself.
"""

import signal
import sys
import threading
import time
from pathlib import Path

from rolekey.__main__ import main

if sys.platform == "win32":

    def press(wanted: Path) -> None:
        """Wait for the file, and press."""
        while not wanted.exists():
            time.sleep(0.05)
        signal.raise_signal(signal.SIGBREAK)

    threading.Thread(target=press, args=[Path(sys.argv.pop(1))], daemon=True).start()
    main()
