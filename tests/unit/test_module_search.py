"""Where PKCS#11 modules are looked for on each system, and how one that is named is found; in directories made up."""

import ctypes
import os
from pathlib import Path

import pytest

from rolekey.errors import ModuleError
from rolekey.tokens.modules import place_of
from rolekey.tokens.search import (
    Places,
    linux_places,
    macos_places,
    modules_by_name,
    modules_in,
    usual_modules,
    windows_places,
)
from rolekey.tokens.structures import FunctionList, InitializeArguments, Mechanism, SlotInfo, TokenInfo

NOWHERE = Places((), (), (".so",))


def put(root, *paths):
    """Make files below a directory; gives their paths."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return [str(root / path) for path in paths]


def windows(root):
    return windows_places(root / "Program Files", root / "Windows/System32")


def test_linux(tmp_path):
    """p11-kit's proxy by its name, which the loader looks up, then modules by importance and by directory."""
    found = put(
        tmp_path,
        "usr/lib/x86_64-linux-gnu/opensc-pkcs11.so",
        "usr/local/lib/libykcs11.so",
        "usr/lib/softhsm/libsofthsm2.so",
        "opt/cloudhsm/lib/libcloudhsm_pkcs11.so",
        "usr/safenet/lunaclient/lib/libCryptoki2_64.so",
    )
    put(tmp_path, "usr/lib/softhsm/libsofthsm2.dylib", "usr/lib/libother.so")
    assert list(usual_modules(linux_places(tmp_path))) == ["p11-kit-proxy.so", *found]


def test_macos(tmp_path):
    """Nothing is left to the loader, which looks in the working directory; Homebrew, OpenSC's and vendors' places."""
    found = put(
        tmp_path,
        "opt/homebrew/lib/p11-kit-proxy.dylib",
        "Library/OpenSC/lib/opensc-pkcs11.so",
        "usr/local/lib/libykcs11.dylib",
        "opt/homebrew/lib/softhsm/libsofthsm2.so",
        "Library/Frameworks/eToken.framework/Versions/Current/libeToken.dylib",
    )
    assert list(usual_modules(macos_places(tmp_path))) == found


def test_windows(tmp_path):
    """Files that are installed below Program Files and System32, and no others."""
    found = put(
        tmp_path,
        "Program Files/OpenSC Project/OpenSC/pkcs11/opensc-pkcs11.dll",
        "Program Files/Yubico/Yubico PIV Tool/bin/libykcs11.dll",
        "Program Files/nCipher/nfast/toolkits/pkcs11/cknfast.dll",
        "Windows/System32/eTPKCS11.dll",
    )
    put(tmp_path, "SoftHSM2/lib/softhsm2-x64.dll", "Program Files/Amazon/CloudHSM/lib/other.dll")
    assert list(usual_modules(windows(tmp_path))) == found


def test_windows_without_folders():
    """A Windows that does not tell its folders has no usual modules."""
    assert windows_places(None, None) == Places((), (), (".dll",))


def test_a_link_is_the_same_module(tmp_path):
    """Two names of one file are tried once."""
    (real,) = put(tmp_path, "usr/lib/x86_64-linux-gnu/opensc-pkcs11.so")
    (tmp_path / "usr/lib/x86_64-linux-gnu/pkcs11").mkdir()
    (tmp_path / "usr/lib/x86_64-linux-gnu/pkcs11/opensc-pkcs11.so").symlink_to(real)
    _, only = usual_modules(linux_places(tmp_path))
    assert Path(only).resolve() == Path(real)


@pytest.mark.parametrize("name", ["opensc", "opensc-pkcs11", "OpenSC-PKCS11"])
@pytest.mark.parametrize(
    ("places", "file"),
    [
        (linux_places, "usr/lib64/pkcs11/opensc-pkcs11.so"),
        (macos_places, "Library/OpenSC/lib/opensc-pkcs11.so"),
        (windows, "Program Files/OpenSC Project/OpenSC/pkcs11/OpenSC-PKCS11.DLL"),
    ],
    ids=["linux", "macos", "windows"],
)
def test_by_name(tmp_path, places, file, name):
    """module-name: in letters of any size, without the ending, and without what every module's name has."""
    assert modules_by_name(name, places(tmp_path)) == []
    found = put(tmp_path, file)
    assert modules_by_name(name, places(tmp_path)) == found
    assert modules_by_name("open", places(tmp_path)) == []


@pytest.mark.parametrize("name", ["softhsm2", "libsofthsm2", "softhsm2-x64"])
def test_by_name_with_what_builds_add(tmp_path, name):
    """A module is found without ``lib`` before its name and without ``-x64`` behind it; an ending decides, too."""
    put(tmp_path, "softhsm2-x64.dll", "libsofthsm2.dylib", "softhsm2.txt")
    wanted = {"libsofthsm2.dylib"} if name.startswith("lib") else {"softhsm2-x64.dll"}
    wanted |= {"libsofthsm2.dylib"} if name == "softhsm2" else set()
    where = Places((), (), (".dylib", ".dll"))
    assert {Path(path).name for path in modules_in([tmp_path], name, where)} == wanted


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_a_bare_name(tmp_path, monkeypatch, platform):
    """A file in the working directory is never meant by its bare name; one where modules are looked for is."""
    put(tmp_path, "module.so")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleError, match=r"no PKCS#11 module module\.so is where modules are looked for") as caught:
        place_of("module.so", platform, lambda: NOWHERE)
    assert "whole path" in caught.value.hint
    (found,) = put(tmp_path, "lib/module.so")
    assert place_of("module.so", platform, lambda: Places((tmp_path / "lib",), (), (".so",))) == found


def test_a_path_on_windows(tmp_path, monkeypatch):
    """What is loaded is one absolute path, as python-pkcs11 and the loader must both have it."""
    monkeypatch.chdir(tmp_path)
    assert place_of("lib/../module.so", "win32", lambda: NOWHERE) == str(tmp_path / "module.so")
    assert place_of("lib/module.so", "darwin", lambda: NOWHERE) == "lib/module.so"


def test_a_name_on_linux():
    """On Linux the loader, which does not look in the working directory, looks a bare name up."""
    assert place_of("p11-kit-proxy.so", "linux", lambda: NOWHERE) == "p11-kit-proxy.so"


# Sizes by the standard's headers: with an unsigned long of 64 bits and natural alignment, and of 32 bits, unpadded.
SIZES = {FunctionList: (552, 546), InitializeArguments: (48, 44), SlotInfo: (112, 104), TokenInfo: (208, 160)}


@pytest.mark.parametrize(("structure", "sizes"), [*SIZES.items(), (Mechanism, (24, 16))])
def test_layout(structure, sizes):
    """The structures are as wide as a module's own; tests/integration/windows has them used on Windows."""
    assert ctypes.sizeof(structure) == sizes[os.name == "nt"]
