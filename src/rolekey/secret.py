"""A PIN or passphrase in memory that does not leave it by accident.

Logs, tracebacks, reprs of whatever holds it and pickles are the ways in which a secret usually gets out. The value
stays an ordinary ``str`` inside: Python can neither pin nor wipe memory, and this class does not pretend to.
"""

import sys
from typing import NoReturn, final

_MASK = "***"
_PR_SET_DUMPABLE = 4


@final
class Secret:
    """A text that shows itself only to whoever asks for it with :meth:`reveal`.

    Two secrets are equal if their texts are, compared in a time that does not depend on where they differ. All secrets
    have the same hash, which says nothing about the text and lets a value that holds one be a dictionary's key.

    Args:
        value: the secret text, kept as it is.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret text itself, to be handed to the token or library that needs it and to nothing else.

        Returns:
            The text exactly as given.
        """
        return self._value

    def __repr__(self) -> str:
        return _MASK

    def __format__(self, format_spec: str) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        import hmac  # noqa: PLC0415 - slow to import; most secrets are never compared

        return hmac.compare_digest(_octets(self._value), _octets(other._value))

    def __hash__(self) -> int:
        return hash(Secret)

    def __getstate__(self) -> NoReturn:
        # The one method through which pickle (every protocol), copy and deepcopy read an object.
        raise TypeError("a secret is neither pickled nor copied: pass on its source (a file, an environment variable)")


def _octets(value: str) -> bytes:
    # compare_digest takes no str beyond ASCII; a command line that is not UTF-8 arrives with lone surrogates.
    return value.encode("utf-8", "surrogatepass")


def guard_memory() -> None:
    """Keep the memory of this process, which lives long, from core files and from other processes of this user."""
    if sys.platform == "win32":
        return  # there is nothing of the kind: crash dumps are the administrator's, and a user may debug what is theirs
    import resource  # noqa: PLC0415 - POSIX only

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - for this alone

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
