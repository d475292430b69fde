"""Every module's keys through the class of tests that every Signer passes, each module in a process of its own."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from cryptography import x509
from test_signer_contract import SignerContract

from support import opencryptoki_rig
from support.card_rig import card_in_reader, find_opensc, find_ykcs11
from support.contract_child import ContractChild, contract_child
from support.p11_kit_rig import find_p11_kit, running_p11_kit_server
from support.rig_token import RigToken
from support.tpm2_pkcs11_rig import tpm2_pkcs11_token

# rig -> the keys that its module can have
KEYS = {
    "opensc": ("rsa-2048", "p-256", "always-auth"),
    "ykcs11": ("rsa-2048", "p-256", "always-auth"),
    "nss": ("rsa-2048", "p-256", "p-384", "p-521"),
    "p11-kit": ("rsa-2048", "p-256", "p-384", "p-521", "always-auth"),
    "opencryptoki": ("rsa-2048",),
    "tpm2-pkcs11": ("rsa-2048", "p-256", "p-384"),
    "shim": ("mldsa44", "mldsa65", "mldsa87"),
}
# What a rig needs besides itself.
NEEDS = {"opensc": ("virtual-card",), "ykcs11": ("virtual-card",), "p11-kit": ("softhsm",), "shim": ("softhsm",)}
CASES = [
    pytest.param(rig, label, marks=pytest.mark.rig(rig, *NEEDS.get(rig, ())), id=f"{rig}-{label}")
    for rig, labels in KEYS.items()
    for label in labels
]


@pytest.fixture(scope="module")
def token(request, rig, tmp_path_factory) -> Iterator[RigToken]:
    """The rig's token, kept for all its keys."""
    directory = tmp_path_factory.mktemp(rig) / "rig"
    with ExitStack() as stack:
        if rig in ("opensc", "ykcs11"):
            card = stack.enter_context(card_in_reader(request.getfixturevalue("pcscd"), directory))
            found = card.token({"opensc": find_opensc, "ykcs11": find_ykcs11}[rig]())
        elif rig == "p11-kit":
            server = running_p11_kit_server(request.getfixturevalue("provisioned_token"))
            found = stack.enter_context(server).token(find_p11_kit())
        elif rig == "nss":
            found = request.getfixturevalue("nss_token")
        elif rig == "shim":
            found = request.getfixturevalue("mldsa_token")
        elif rig == "tpm2-pkcs11":
            found, _ = stack.enter_context(tpm2_pkcs11_token(directory))
        else:
            found = stack.enter_context(opencryptoki_rig.opencryptoki_token(directory))
        yield found


@pytest.fixture(scope="module")
def child(token) -> Iterator[ContractChild]:
    """The process in which the module lives."""
    with contract_child(token.environment, token.wrapper) as process:
        yield process


@pytest.mark.parametrize(("rig", "label"), CASES, scope="module")
class TestModules(SignerContract):
    """A key in a token of each rig."""

    @pytest.fixture
    def signer(self, child, token, label):
        signer = child.open(token, label)
        yield signer
        signer.close()

    @pytest.fixture
    def public_key(self, token, label):
        return x509.load_pem_x509_certificate(token.certificate(label).read_bytes()).public_key()
