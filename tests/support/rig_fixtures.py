"""The fixtures of the rigs of PKCS#11, as a plugin; tests/conftest.py loads it and support/rigs.py has the probes."""

import pytest

from support.pkcs11_shim import PKCS11Shim


@pytest.fixture(scope="session")
def pkcs11_shim(tmp_path_factory: pytest.TempPathFactory) -> PKCS11Shim:
    """The module that goes wrong on purpose, compiled once; `over` puts it over another module."""
    return PKCS11Shim.compile(tmp_path_factory.mktemp("shim"))
