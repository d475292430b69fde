"""What must start anew in a process that os.fork() made: locks that a thread of the parent held, pipes of the parent.

One function is registered with the interpreter, which forgets no function that it was given; hence the module's state.
"""

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Something that a forked process cannot go on with as it is."""

    def renew(self) -> None:
        """Start anew, in a process that has one thread yet; it waits for nothing and raises nothing."""


_known: "WeakSet[Renewable]" = WeakSet()


def renew_after_fork(thing: Renewable) -> None:
    """Have renew() called in every process that is forked from now on, for as long as the thing lives.

    Args:
        thing: can be hashed and referred to weakly.
    """
    _known.add(thing)


def _renew_all() -> None:
    for thing in list(_known):
        thing.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
