"""Where PKCS#11 modules are on disk (the systems' packages; p11-kit's and OpenSC's conventions; vendors' manuals).

docs/pkcs11.md has the tables for readers.
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from rolekey.tokens.windows_folders import PROGRAMS, SYSTEM, known_folder
from rolekey.value import Value

# It shows the tokens of every module that is registered with p11-kit.
_PROXY = "p11-kit-proxy"
# Tried in this order where nothing names a module: first what shows smart cards of every kind.
_NAMES = ("opensc-pkcs11", "libykcs11", "libsofthsm2", "libtpm2_pkcs11", "libcloudhsm_pkcs11", "libCryptoki2_64")

_LINUX_DIRECTORIES = tuple(
    f"{prefix}{subdirectory}"
    for prefix in ("usr/lib", "usr/lib64", "usr/lib/*-linux-gnu*", "usr/local/lib")
    for subdirectory in ("/pkcs11", "/softhsm", "", "/opensc-pkcs11")
)
_LINUX_FILES = ("opt/cloudhsm/lib/libcloudhsm_pkcs11.so", "usr/safenet/lunaclient/lib/libCryptoki2_64.so")

_MACOS_DIRECTORIES = (
    "Library/OpenSC/lib",  # OpenSC's own package
    *(
        f"{prefix}{subdirectory}"
        for prefix in ("opt/homebrew/lib", "usr/local/lib", "opt/local/lib")  # Homebrew on ARM, on Intel; MacPorts
        for subdirectory in ("/pkcs11", "/softhsm", "")
    ),
)
_MACOS_FILES = (
    "Library/Frameworks/eToken.framework/Versions/Current/libeToken.dylib",  # SafeNet Authentication Client
    "usr/local/safenet/lunaclient/lib/libCryptoki2_64.dylib",
)

# Below a folder that an administrator alone writes to: no file that another user may have put there is loaded without
# being named. That leaves out C:\SoftHSM2, where SoftHSM's installer puts it unless told otherwise, and NFAST_HOME.
_WINDOWS_PROGRAMS = (
    "OpenSC Project/OpenSC/pkcs11/opensc-pkcs11.dll",
    "Yubico/Yubico PIV Tool/bin/libykcs11.dll",  # docs.yubico.com, PIV YKCS11 Module
    "SoftHSM2/lib/softhsm2-x64.dll",
    "Amazon/CloudHSM/lib/cloudhsm_pkcs11.dll",  # the default of AWS's PKCS#11 samples
    "SafeNet/LunaClient/cryptoki.dll",
    "nCipher/nfast/toolkits/pkcs11/cknfast.dll",
    "Utimaco/CryptoServer/Lib/cs_pkcs11_R3.dll",
    "Utimaco/CryptoServer/Lib/cs_pkcs11_R2.dll",
)
_WINDOWS_SYSTEM = ("eTPKCS11.dll",)  # SafeNet Authentication Client


class Places(Value):
    """Where a system keeps modules.

    Args:
        directories: those that exist, for a module that is known by its name.
        files: the known modules that are installed, in the order in which they are tried.
        endings: of modules, in small letters.
        bare: what is tried first, by a name that the loader looks up.
    """

    directories: tuple[Path, ...]
    files: tuple[Path, ...]
    endings: tuple[str, ...]
    bare: tuple[str, ...] = ()


def places() -> Places:
    """Those of this system."""
    if sys.platform == "win32":
        return windows_places(known_folder(PROGRAMS), known_folder(SYSTEM))
    if sys.platform == "darwin":
        return macos_places()
    return linux_places()


def linux_places(root: Path = Path("/")) -> Places:
    """Linux's, and any other Unix's.

    Args:
        root: where to look.
    """
    directories = _existing(root, _LINUX_DIRECTORIES)
    files = _known(directories, _NAMES, (".so",), root, _LINUX_FILES)
    return Places(directories, files, (".so",), bare=(f"{_PROXY}.so",))


def macos_places(root: Path = Path("/")) -> Places:
    """macOS's; there p11-kit is not the loader's to find, since dlopen() looks in the working directory, too.

    Args:
        root: where to look.
    """
    directories = _existing(root, _MACOS_DIRECTORIES)
    endings = (".dylib", ".so")  # OpenSC and SoftHSM have .so there, too
    return Places(directories, _known(directories, (_PROXY, *_NAMES), endings, root, _MACOS_FILES), endings)


def windows_places(programs: Path | None, system: Path | None) -> Places:
    """Windows'.

    Args:
        programs: the folder of programs, or None.
        system: the folder of Windows' own DLLs, or None.
    """
    folders = ((programs, _WINDOWS_PROGRAMS), (system, _WINDOWS_SYSTEM))
    known = [folder / path for folder, paths in folders if folder for path in paths]
    directories = dict.fromkeys(path.parent for path in known if path.parent.is_dir())
    return Places(tuple(directories), tuple(path for path in known if path.is_file()), (".dll",))


def usual_modules(where: Places) -> Iterator[str]:
    """What is tried where nothing names a module, each file once.

    Args:
        where: of this system.
    """
    yield from where.bare
    yield from _each_once(where.files)


def modules_by_name(name: str, where: Places) -> list[str]:
    """The paths of a module that a URI's ``module-name`` means (RFC 7512: without ``lib`` and ending, any case).

    Args:
        name: such as ``softhsm2``.
        where: of this system.
    """
    return modules_in(where.directories, name, where)


def modules_in(directories: Iterable[Path], name: str, where: Places) -> list[str]:
    """The paths of the modules in some directories that a ``module-name`` means, each file once.

    Args:
        directories: where to look, and no deeper.
        name: as modules_by_name() takes it.
        where: of this system.
    """
    wanted = {pattern.format(name.lower()) for pattern in ("{}", "lib{}", "{}-pkcs11", "{}-x64")}
    return list(
        _each_once(
            path
            for directory in directories
            for path in sorted(directory.iterdir())
            if path.suffix.lower() in where.endings and path.stem.lower() in wanted
        )
    )


def file_called(name: str, where: Places) -> str | None:
    """The path of a module that is called by its file's name alone, or None.

    Args:
        name: such as ``opensc-pkcs11.dll``.
        where: of this system.
    """
    found = (directory / name for directory in where.directories)
    return next((str(path) for path in found if path.is_file()), None)


def _existing(root: Path, patterns: Iterable[str]) -> tuple[Path, ...]:
    found = chain.from_iterable(sorted(root.glob(pattern)) for pattern in patterns)
    return tuple(path for path in found if path.is_dir())


def _known(
    directories: Iterable[Path], names: Iterable[str], endings: Iterable[str], root: Path, files: Iterable[str]
) -> tuple[Path, ...]:
    """By name first, and by directory for each."""
    others = [root / file for file in files]
    found = [
        path
        for name in names
        for path in (
            *(directory / f"{name}{ending}" for directory in directories for ending in endings),
            *(file for file in others if file.stem == name),
        )
    ]
    return tuple(path for path in dict.fromkeys([*found, *others]) if path.is_file())


def _each_once(paths: Iterable[Path]) -> Iterator[str]:
    """A link to a file that was there already is left out."""
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() not in seen:
            seen.add(path.resolve())
            yield str(path)
