"""Loading a module's shared object, and one line on why the system's loader does not.

Windows' loader looks for a relative path, and for the DLLs that a DLL needs, in the working directory too, where
anybody may have put one. ctypes has it look in the DLL's own folder, in System32 and beside python.exe, and nowhere
else; python-pkcs11, which would not, is given what is loaded already.
"""

import ctypes
import sys
from pathlib import Path

from rolekey.base.advice import SHARED_OBJECT
from rolekey.errors import ModuleError
from rolekey.tokens.architecture import architecture_of

NAME_IT = f"name the module's {SHARED_OBJECT} with --pkcs11-lib PATH"
# Codes of GetLastError().
_ERROR_MOD_NOT_FOUND, _ERROR_BAD_EXE_FORMAT = 126, 193


def load_shared_object(path: str) -> ctypes.CDLL:
    """Load a module's shared object, which stays loaded.

    Args:
        path: absolute on Windows; elsewhere as dlopen() takes it.

    Raises:
        ModuleError: it cannot be loaded (with the loader's own text), or is no PKCS#11 module.
    """
    try:
        handle = ctypes.CDLL(path)
    except OSError as error:
        raise _refusal(path, error) from error
    if not hasattr(handle, "C_GetFunctionList"):
        raise _not_loaded(path, "it is no PKCS#11 module, since it has no C_GetFunctionList", NAME_IT)
    return handle


def _refusal(path: str, error: OSError) -> ModuleError:
    theirs, ours = architecture_of(Path(path)), architecture_of(Path(sys.executable))
    if theirs is not None and ours is not None and theirs != ours:
        return ModuleError(
            f"the PKCS#11 module {path} is built for {theirs}, and this Python for {ours}",
            hint=f"install the module's build for {ours}, or run rolekey with a Python for {theirs}",
        )
    if sys.platform == "win32":
        return windows_refusal(path, error)
    # dlopen() puts the path in front, which our text has already.
    return _not_loaded(path, str(error).rpartition(f"{path}: ")[2], NAME_IT)


def windows_refusal(path: str, error: OSError) -> ModuleError:
    """What is wrong with a module for this processor that Windows does not load.

    Args:
        path: of the module.
        error: of ctypes, which says of a DLL that is missing, and of one that lacks another, the same.
    """
    code = getattr(error, "winerror", None)
    if not Path(path).is_file():
        return _not_loaded(path, "there is no such file", NAME_IT)
    if code not in (None, _ERROR_MOD_NOT_FOUND, _ERROR_BAD_EXE_FORMAT):
        return _not_loaded(path, f"{getattr(error, 'strerror', error)} (Windows error {code})", NAME_IT)
    if code == _ERROR_BAD_EXE_FORMAT or architecture_of(Path(path)) is None:
        return _not_loaded(path, "it is no DLL", NAME_IT)
    return _not_loaded(
        path,
        "a DLL that it needs is missing",
        "install the module's software whole: what it needs is looked for in its own folder and in System32, "
        "not in PATH",
    )


def _not_loaded(path: str, why: str, hint: str) -> ModuleError:
    return ModuleError(f"the PKCS#11 module {path} cannot be loaded: {why}", hint=hint)
