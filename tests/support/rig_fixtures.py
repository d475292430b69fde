"""The fixtures of the rigs, as a plugin; tests/conftest.py loads it and support/rigs.py has the probes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import opencryptoki_rig
from support.card_rig import CardRig, card_in_reader
from support.mldsa_rig import make_mldsa_token
from support.nss_rig import make_nss_token
from support.p11_kit_rig import P11KitServer, running_p11_kit_server
from support.pcscd import Pcscd, running_pcscd
from support.pkcs11_shim import PKCS11Shim
from support.rig_token import RigToken
from support.softhsm import ProvisionedToken
from support.swtpm import SWTPM, running_swtpm
from support.tpm2_pkcs11_rig import tpm2_pkcs11_token as running_tpm2_pkcs11
from support.windows_rig import Windows, running_windows


def pytest_addoption(parser: pytest.Parser) -> None:
    """How scripts/module-table writes its tables."""
    parser.getgroup("rolekey").addoption(
        "--write-module-table", action="store_true", help="write the tables of docs/pkcs11.md, tpm.md and doctor.md"
    )


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


@pytest.fixture(scope="session")
def nss_token(tmp_path_factory: pytest.TempPathFactory) -> RigToken:
    """A database of NSS, made once; to be looked at and signed with."""
    return make_nss_token(tmp_path_factory.mktemp("nss"))


@pytest.fixture(scope="session")
def mldsa_token(provisioned_token: ProvisionedToken, tmp_path_factory: pytest.TempPathFactory) -> RigToken:
    """A token with ML-DSA keys, made once; to be looked at and signed with."""
    return make_mldsa_token(provisioned_token, tmp_path_factory.mktemp("mldsa"))


@pytest.fixture
def p11_kit_server(provisioned_token: ProvisionedToken) -> Iterator[P11KitServer]:
    """p11-kit's server in front of SoftHSM: to be killed and started again."""
    with running_p11_kit_server(provisioned_token) as server:
        yield server


@pytest.fixture
def opencryptoki_token(tmp_path: Path) -> Iterator[RigToken]:
    """A new token of openCryptoki: its PIN may be locked. Its clients need `RigToken.wrapper`."""
    with opencryptoki_rig.opencryptoki_token(tmp_path / "opencryptoki") as token:
        yield token


@pytest.fixture
def tpm2_pkcs11_token(tmp_path: Path) -> Iterator[tuple[RigToken, SWTPM]]:
    """A new token in a new TPM: its PIN may be locked. No program leaves anything loaded in the TPM."""
    with running_tpm2_pkcs11(tmp_path / "tpm2-pkcs11") as (token, tpm):
        yield token, tpm
        tpm.assert_clean()


@pytest.fixture(scope="module")
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SWTPM]:
    """A new TPM for a test module, for its fixtures that last as long."""
    with running_swtpm(tmp_path_factory.mktemp("swtpm")) as running:
        yield running


@pytest.fixture
def tpm(swtpm: SWTPM) -> Iterator[SWTPM]:
    """The module's TPM, in which a test leaves nothing loaded."""
    yield swtpm
    swtpm.assert_clean()


@pytest.fixture(scope="module")
def running_wine() -> Iterator[Windows]:
    """Wine with a CPython for Windows and rolekey, for a test module; the prefix is the run's.

    Wine's server keeps looking at sockets of programs that were killed, and takes a whole processor for it.
    """
    with running_windows() as windows:
        yield windows


@pytest.fixture
def windows(running_wine: Windows) -> Windows:
    """A Windows whose user's home is empty."""
    running_wine.clear_home()
    return running_wine
