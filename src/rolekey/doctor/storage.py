"""Where credentials are kept between commands."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from rolekey.base.owner import access_of
from rolekey.cached_answer import cache_directory
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, ok, warning

_NOT_KEPT = "nothing is kept: every command signs, and may ask for PIN and touch"


def check_cache(context: Context) -> Iterator[Verdict]:
    """The cache's directory: ours, closed to others, writable. It is not made here."""
    named = cache_directory(context.environment)
    if named is None:
        yield warning(f"there is no place for the cache; {_NOT_KEPT}", "set XDG_RUNTIME_DIR to a directory of yours")
        return
    directory = Path(named)
    try:
        status = directory.lstat()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and os.access(directory.parent, os.W_OK | os.X_OK):
            yield ok(f"{directory} is made with the first credentials")
        else:
            yield warning(f"{directory} cannot be made or read; {_NOT_KEPT}", f"see to {directory.parent}")
        return
    fault = access_of(directory, directory, status).fault if stat.S_ISDIR(status.st_mode) else "is no directory"
    if fault is not None:
        yield warning(f"{directory} {fault}; {_NOT_KEPT}", f"look at it, and remove it: {directory}")
    elif not os.access(directory, os.W_OK | os.X_OK):
        yield warning(f"{directory} cannot be written; {_NOT_KEPT}", "mount it writable, or name another place")
    else:
        yield ok(f"{directory} is ours alone")
