"""Where PKCS#11 modules are on disk (the systems' packages; p11-kit's and OpenSC's conventions)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

# dlopen() finds it by its name; it shows the tokens of every module that is registered with p11-kit.
PROXY = "p11-kit-proxy.so"
_PREFIXES = ("usr/lib", "usr/lib64", "usr/lib/*-linux-gnu*", "usr/local/lib", "opt/homebrew/lib", "Library")
_SUBDIRECTORIES = ("pkcs11", "softhsm", ".", "opensc-pkcs11", "OpenSC/lib")
_ENDINGS = (".so", ".dylib", ".dll")
# Tried in this order where nothing names a module: first what shows smart cards of every kind.
WELL_KNOWN = ("opensc-pkcs11", "libykcs11", "libsofthsm2", "libtpm2_pkcs11", "libcloudhsm_pkcs11", "libCryptoki2_64")
_VENDOR_PATHS = ("/opt/cloudhsm/lib/libcloudhsm_pkcs11.so", "/usr/safenet/lunaclient/lib/libCryptoki2_64.so")


def well_known_modules(root: Path = Path("/")) -> Iterator[str]:
    """The paths of the known modules that are installed, each file once.

    Args:
        root: where to look.
    """
    seen: set[Path] = set()
    for name in WELL_KNOWN:
        for path in _find(name, root):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield str(path)


def modules_by_name(name: str, root: Path = Path("/")) -> list[str]:
    """The paths of a module that a URI's ``module-name`` means (RFC 7512: without ``lib`` and ending, any case).

    Args:
        name: such as ``softhsm2``.
        root: where to look.
    """
    return modules_in(_directories(root), name)


def modules_in(directories: Iterable[Path], name: str) -> list[str]:
    """The paths of the modules in some directories that a ``module-name`` means, each file once.

    Args:
        directories: where to look, and no deeper.
        name: as modules_by_name() takes it.
    """
    wanted = {name.lower(), f"lib{name}".lower(), f"{name}-pkcs11".lower()}
    found = {
        path.resolve(): path
        for directory in directories
        for path in sorted(directory.iterdir())
        if path.suffix in _ENDINGS and path.stem.lower() in wanted
    }
    return [str(path) for path in found.values()]


def _directories(root: Path) -> Iterator[Path]:
    for prefix in _PREFIXES:
        for base in sorted(root.glob(prefix)):
            for subdirectory in _SUBDIRECTORIES:
                directory = base / subdirectory
                if directory.is_dir():
                    yield directory


def _find(stem: str, root: Path) -> Iterator[Path]:
    for directory in _directories(root):
        for ending in _ENDINGS:
            if (path := directory / f"{stem}{ending}").is_file():
                yield path
    for text in _VENDOR_PATHS:
        path = root / text.lstrip("/")
        if path.stem == stem and path.is_file():
            yield path
