"""A CA, a key in a file with a certificate of it, and an emulator that trusts the CA."""

from collections.abc import Iterator

import pytest

from support.emulator import RunningEmulator, running_emulator
from support.pki import Issued, make_root


@pytest.fixture(scope="module")
def root() -> Issued:
    """The CA of the module's certificates."""
    return make_root()


@pytest.fixture(scope="module")
def key_options(root: Issued, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A certificate and its key, in files, as options."""
    certificate, key = root.issue(common_name="machine").write(tmp_path_factory.mktemp("key"), "leaf")
    return ["--certificate", str(certificate), "--private-key", str(key)]


@pytest.fixture(scope="module")
def running(root: Issued, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """The module's emulator."""
    certificate, _ = root.write(tmp_path_factory.mktemp("ca"), "root")
    with running_emulator(certificate) as emulator:
        yield emulator


@pytest.fixture
def emulator(running: RunningEmulator) -> RunningEmulator:
    """The module's emulator, asked for nothing yet."""
    running.requests.clear()
    running.granted.clear()
    return running
