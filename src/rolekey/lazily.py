"""Modules that what rolekey needs imports ahead, and that run only if something in them is looked up.

For a process that makes one signature and ends, a tenth of whose time they are: not for a program of somebody else's.
importlib.util.LazyLoader would run them at the second import of the same name.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader

_NAMES = frozenset(
    (
        "tokenize",  # inspect's, for source code
        "inspect",  # dataclasses', which cryptography makes use of later; with ast and dis
        "traceback",  # logging's, for errors; with textwrap
        "random",  # email's, for ids of messages; ours, for the pause before a further attempt
        "calendar",  # email's, for dates
        "selectors",  # socket's, for sendfile()
        # python-pkcs11's, for keys and parameters as DER: with asn1crypto they are most of its import.
        *(f"pkcs11.util.{name}" for name in ("dh", "dsa", "ec", "rsa", "x509")),
    )
)


def load_when_used() -> None:
    """Have these modules run when something in them is looked up, not when they are imported."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    def find_spec(
        self, fullname: str, path: "Sequence[str] | None", target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _NAMES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Waiting(spec.loader)  # type: ignore[assignment]  # its base class is slow to import
        return spec


class _Waiting:
    """The loader of one module, until that runs."""

    def __init__(self, loader: "Loader") -> None:
        self._loader = loader
        self._lock = RLock()
        self._is_imported = False

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Unused(spec.name)

    def exec_module(self, module: ModuleType) -> None:  # noqa: ARG002 - the protocol's signature
        self._is_imported = True

    def run(self, module: ModuleType) -> None:
        # Other threads wait; the module itself sees what there is by then.
        with self._lock:
            if self._is_imported:
                self._is_imported = False
                self._loader.exec_module(module)
                module.__class__ = ModuleType  # one like any other
                module.__loader__ = self._loader
                if module.__spec__ is not None:
                    module.__spec__.loader = self._loader


class _Unused(ModuleType):
    def __getattr__(self, name: str) -> object:
        if isinstance(self.__loader__, _Waiting):
            self.__loader__.run(self)
        return ModuleType.__getattribute__(self, name)
