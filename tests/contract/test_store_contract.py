"""Keys of a certificate store through the class of tests that every Signer passes; ncrypt is support/fake_windows'."""

import pytest
from test_signer_contract import ARNS, SignerContract

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from support.fake_windows import FakeWindows
from support.pki import make_root


@pytest.mark.parametrize("key_name", ["rsa2048", "rsa4096", "p256", "p384", "p521"])
class TestStoreSigner(SignerContract):
    """A key that a certificate store leads to."""

    @pytest.fixture
    def issued(self, key_name):
        return make_root().issue(key_name)

    @pytest.fixture
    def signer(self, issued, monkeypatch):
        fake = FakeWindows()
        fake.add("CurrentUser", "MY", issued.certificate, issued.key)
        fake.install(monkeypatch)
        settings = resolve_settings(Options(**ARNS, cert_selector=""), {})
        with open_identity(settings, NoInteraction(), Deadline(30)) as identity:
            yield identity.signer
        fake.assert_nothing_held()

    @pytest.fixture
    def public_key(self, issued):
        return issued.key.public_key()
