"""The fixtures of the rigs of PKCS#11, as a plugin; tests/conftest.py loads it and support/rigs.py has the probes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.card_rig import CardRig, card_in_reader
from support.pcscd import Pcscd, running_pcscd
from support.pkcs11_shim import PKCS11Shim


@pytest.fixture(scope="session")
def pkcs11_shim(tmp_path_factory: pytest.TempPathFactory) -> PKCS11Shim:
    """The module that goes wrong on purpose, compiled once; `over` puts it over another module."""
    return PKCS11Shim.compile(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def pcscd() -> Iterator[Pcscd]:
    """A pcscd of the run's own with two empty readers; a test that puts a card in takes it out again."""
    with running_pcscd() as daemon:
        yield daemon


@pytest.fixture
def virtual_card(pcscd: Pcscd, tmp_path: Path) -> Iterator[CardRig]:
    """A new card in the first reader: to be pulled, locked and slowed down."""
    with card_in_reader(pcscd, tmp_path / "card") as rig:
        yield rig
