"""The emulator on this machine, asked by programs for Windows; tests/integration/conftest.py has the rest."""

import pytest

from support.windows_rig import Windows


@pytest.fixture
def windows_key(key_options: list[str], windows: Windows) -> list[str]:
    """The certificate and its key, as options of a program for Windows."""
    certificate, key = key_options[1], key_options[3]
    return ["--certificate", windows.path(certificate), "--private-key", windows.path(key)]
