"""A pytest plugin: a test that fails is the only one that fails.

Processes and files that it left behind would be closed at some later time, by the garbage collector, which says so in
a warning, which is an error in whatever test runs then.
"""

import gc
import sys
from collections.abc import Iterator

import pytest

from support.process import end_what_was_started


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """What a test left behind is ended, closed and complained about before the next one begins."""
    yield
    end_what_was_started()
    if hasattr(sys, "last_value"):  # pytest keeps it until the next test, and with it the frames of the one that failed
        for name in ("last_type", "last_value", "last_exc", "last_traceback"):
            vars(sys).pop(name, None)
        gc.collect()
