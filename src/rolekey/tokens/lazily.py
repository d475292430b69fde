"""python-pkcs11 without what it imports ahead and a signature does not need: asn1crypto is most of its import.

For a process that makes one signature and ends. Nothing in Python 3.11 keeps two threads from loading such a module at
the same time: not for a program of somebody else's.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

# They read and write keys and parameters as DER. The package imports them all.
_NAMES = frozenset(f"pkcs11.util.{name}" for name in ("dh", "dsa", "ec", "rsa", "x509"))


def load_when_used() -> None:
    """Have these modules run when something in them is looked up, not when python-pkcs11 is imported."""
    sys.meta_path.insert(0, _WhenUsed())


class _WhenUsed:
    def find_spec(
        self, fullname: str, path: "Sequence[str] | None", target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        if fullname not in _NAMES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
