"""A CA, and a key in a file with a certificate of it."""

import pytest

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
