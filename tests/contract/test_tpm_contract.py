"""Keys in a TPM through the class of tests that every Signer passes."""

import pytest
from test_signer_contract import SignerContract

from support.pki import make_root
from support.tpm_identity import identity_of, password_file
from support.tpm_keys import TPMKeys

PASSWORD = "secret"
ORIGINS = {
    "file-p-256": lambda keys: keys.by_openssl("EC", "group:P-256"),
    "file-p-384": lambda keys: keys.by_openssl("EC", "group:P-384"),
    "file-rsa-2048": lambda keys: keys.by_openssl("RSA", "bits:2048"),
    "file-password": lambda keys: keys.by_openssl("EC", "group:P-256", password=PASSWORD),
    "handle-p-256": lambda keys: keys.by_tools("ecc256", handle=0x81010001),
    "handle-p-521": lambda keys: keys.by_tools("ecc521", handle=0x81010002),
    "handle-rsa-3072": lambda keys: keys.by_tools("rsa3072", handle=0x81010003),
}


@pytest.fixture(scope="module")
def made_keys(swtpm):
    """The keys by their names, each made once."""
    keys = TPMKeys(swtpm, make_root())
    return {name: make(keys) for name, make in ORIGINS.items()}


@pytest.mark.parametrize("origin", ORIGINS)
class TestTPMSigner(SignerContract):
    """A key in a TPM."""

    @pytest.fixture
    def signer(self, tpm, made_keys, origin, tmp_path):
        made = made_keys[origin]
        password = {"pin_source": password_file(tmp_path, PASSWORD)} if made.password else {"no_tpm_key_password": True}
        with identity_of(tpm, made, **password) as identity:
            yield identity.signer

    @pytest.fixture
    def public_key(self, made_keys, origin):
        return made_keys[origin].public_key
