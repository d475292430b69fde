"""Loading a PKCS#11 module, once in a process."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pkcs11

from rolekey.base.advice import SHARED_OBJECT
from rolekey.errors import ModuleError
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.tokens.failures import code_name
from rolekey.tokens.library import InitializeFailedError, Library
from rolekey.tokens.search import Places, file_called, modules_by_name, modules_in, places, usual_modules
from rolekey.tokens.shared_objects import NAME_IT, load_shared_object
from rolekey.tokens.token import Token

log = logging.getLogger(__name__)


class Module:
    """A loaded and initialised PKCS#11 module.

    Args:
        path: for messages: as it was named, or where it was found.
        library: python-pkcs11's object.
    """

    def __init__(self, path: str, library: Library) -> None:
        self.path = path
        self.silent_slots: tuple[str, ...] = ()
        self._library = library

    def tokens(self) -> Iterator[Token]:
        """Every token that answers. A slot that does not answer hides no other; ``silent_slots`` names it then."""
        self.silent_slots = ()
        try:
            slots = self._library.slots()
        except pkcs11.PKCS11Error as error:
            raise ModuleError(
                f"the PKCS#11 module {self.path} cannot list its slots: {code_name(error)}",
                hint="is the service behind it running (pcscd for smart cards, the HSM's client daemon)?",
            ) from error
        for slot in slots:
            try:
                yield Token(slot.get_token(), self._library)
            except pkcs11.PKCS11Error as error:
                log.debug("slot %d of %s is left out: %s", slot.slot_id, self.path, code_name(error))
                self.silent_slots += (f"slot {slot.slot_id} answers {code_name(error)}",)

    def restart(self) -> None:
        """Finalise and initialise the module anew; every session and login of this process with it is gone.

        Raises:
            ModuleError: it does not come back.
        """
        try:
            self._library.restart()
        except pkcs11.PKCS11Error as error:
            raise _not_initialised(self.path, error) from error


_registry: dict[str, tuple[int, Module]] = {}
_registry_lock = threading.Lock()


def find_module(named: str | None, uri: PKCS11URI, default: str | None, reserved: str | None = None) -> Module:
    """The module that an option, a URI or the environment names; else the first usual one that can be loaded.

    Args:
        named: path from an option; it decides.
        uri: its ``module-path`` and then its ``module-name`` decide next. A path may be that of a directory, in which
            ``module-name`` says which.
        default: path from PKCS11_MODULE_PATH.
        reserved: as load_module() takes it.

    Raises:
        ModuleError: it cannot be loaded; where nothing was named, the text lists all that was tried.
    """
    if path := named or uri.module_path:
        return _load_path(path, uri.module_name, reserved)
    if uri.module_name:
        paths = modules_by_name(uri.module_name, places())
        if not paths:
            raise ModuleError(
                f"no PKCS#11 module is called {uri.module_name}",
                hint=f"name its {SHARED_OBJECT} with --pkcs11-lib PATH",
            )
        return _first(paths, reserved)
    return _load_path(default, None, reserved) if default else _first(usual_modules(places()), reserved)


def _load_path(path: str, name: str | None, reserved: str | None) -> Module:
    if not Path(path).is_dir():
        return load_module(path, reserved)
    if name is None:
        raise ModuleError(
            f"{path} is a directory, not a PKCS#11 module",
            hint=f"name the {SHARED_OBJECT} in it, or say which with module-name=NAME in the URI",
        )
    paths = modules_in([Path(path)], name, places())
    if not paths:
        raise ModuleError(
            f"no PKCS#11 module in {path} is called {name}", hint=f"name its {SHARED_OBJECT} with --pkcs11-lib PATH"
        )
    return _first(paths, reserved)


def _first(paths: Iterable[str], reserved: str | None) -> Module:
    failures = []
    for path in paths:
        try:
            return load_module(path, reserved)
        except ModuleError as error:
            log.debug("%s", error.message)
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if not failures:
        raise ModuleError("no PKCS#11 module is named, and no usual one is installed", hint=NAME_IT)
    raise ModuleError(
        "no PKCS#11 module can be used: " + "; ".join(error.message for error in failures),
        hint=NAME_IT,
    ) from failures[-1]


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except OSError:  # a share or a device that Windows does not look into
        return path


def load_module(path: str, reserved: str | None = None) -> Module:
    """Load and initialise a module, or give the one that this process has loaded already.

    Args:
        path: a shared object; a bare file name is looked up as place_of() says.
        reserved: NSS's string for pReserved, or None.

    Raises:
        ModuleError: it cannot be loaded (with the loader's own text) or initialised, or it belongs to the process
            that this one was forked from.
    """
    path = place_of(path, sys.platform, places)
    # A symbolic link is the same module, and so is a name in other letters where they do not count.
    key = path if _is_bare(path) else os.path.normcase(_real(path))
    with _registry_lock:
        if key not in _registry:
            _registry[key] = (os.getpid(), _load(path, reserved))
        process, module = _registry[key]
        if process != os.getpid():
            # Neither used nor finalised: both can break the parent (OpenSC's and Yubico's modules do).
            raise ModuleError(
                f"the PKCS#11 module {path} was loaded before this process was forked",
                hint="start the process anew (multiprocessing: spawn or forkserver), or load the module after the fork",
            )
        return module


def place_of(path: str, platform: str, where: Callable[[], Places]) -> str:
    """The path with which a module is loaded.

    On Linux the loader looks a bare file name up, in the system's directories. On Windows and macOS it would look in
    the working directory, too: there the name must be that of a file where modules are looked for.

    Args:
        path: as it was named.
        platform: sys.platform.
        where: gives the places of this system.

    Raises:
        ModuleError: no file of that name is there.
    """
    if platform == "win32" and not _is_bare(path):
        return os.path.abspath(path)  # noqa: PTH100 - Path.absolute() keeps .. and leaves a path without a drive
    if platform not in ("win32", "darwin") or not _is_bare(path):
        return path
    if found := file_called(path, where()):
        return found
    raise ModuleError(
        f"no PKCS#11 module {path} is where modules are looked for",
        hint="name it with its whole path: a bare name is not looked for in the working directory",
    )


def _is_bare(path: str) -> bool:
    return Path(path).name == path


def _load(path: str, reserved: str | None) -> Module:
    handle = load_shared_object(path)
    try:
        library = Library(path, reserved, handle)
    except InitializeFailedError as error:
        raise _not_initialised(path, error) from error
    except pkcs11.PKCS11Error as error:
        raise ModuleError(f"the PKCS#11 module {path} cannot be loaded: {code_name(error)}", hint=NAME_IT) from error
    log.debug("module %s: %s %s", path, library.manufacturer_id, library.library_description)
    return Module(path, library)


def _not_initialised(path: str, error: pkcs11.PKCS11Error) -> ModuleError:
    hint = "; SoftHSM reads the file that SOFTHSM2_CONF names" if "softhsm" in path.lower() else ""
    return ModuleError(
        f"the PKCS#11 module {path} cannot be initialised: {error}",
        hint="check the module's configuration" + hint,
    )
