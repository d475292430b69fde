"""The emulator on this machine, asked by programs for Windows; tests/integration/conftest.py has the rest."""

import pytest

from support.windows_rig import Windows
from support.windows_token import LIBRARIES, SOURCE, WindowsToken, compile_dll


@pytest.fixture
def windows_key(key_options: list[str], windows: Windows) -> list[str]:
    """The certificate and its key, as options of a program for Windows."""
    certificate, key = key_options[1], key_options[3]
    return ["--certificate", windows.path(certificate), "--private-key", windows.path(key)]


@pytest.fixture(scope="module")
def dll(tmp_path_factory):
    """The module, compiled once."""
    path = tmp_path_factory.mktemp("dll") / "token.dll"
    compile_dll(SOURCE, path, *LIBRARIES)
    return path


@pytest.fixture(scope="module")
def holders(root):
    """What is in the token."""
    keys = {"rsa": "rsa2048", "ec": "p256", "always": "p256"}
    return {label: root.issue(key=key, common_name=label) for label, key in keys.items()}


@pytest.fixture
def token(dll, holders, tmp_path):
    """A token of the test's own."""
    directory = tmp_path / "token"
    directory.mkdir()
    return WindowsToken.make(dll, directory, holders, frozenset({"always"}))
