"""pack_library.py DIRECTORY ARCHIVE: puts CPython's library, compiled, into the archive where CPython looks first.

Opening a file is slow under Wine, and a start opens a hundred: with the archive `import boto3` takes 1.7 s in place of
2.1, a new credential-process 2.5 in place of 2.9.
"""

import os
import py_compile
import sys
import tempfile
import zipfile
from pathlib import Path

LEFT_OUT = {"__pycache__", "test", "idlelib", "tkinter", "site-packages", "ensurepip", "turtledemo"}

source, archive = Path(sys.argv[1]), Path(sys.argv[2])
new = archive.with_suffix(".new")
with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(new, "w") as packed:
    for directory, names, files in os.walk(source):
        names[:] = [name for name in names if name not in LEFT_OUT]
        for name in files:
            if not name.endswith(".py"):
                continue
            path, compiled = Path(directory, name), Path(place, "compiled")
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            if py_compile.compile(str(path), cfile=str(compiled), quiet=2, invalidation_mode=mode):
                packed.write(compiled, path.relative_to(source).with_suffix(".pyc").as_posix())
new.replace(archive)
