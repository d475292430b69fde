"""`rolekey key inspect` with every module: what it says of the rig's keys, which is the module's word."""

import pytest

from support.p11_kit_rig import find_p11_kit
from support.process import GENEROUS, rolekey

CANNOT = "this key cannot leave the token"
BROUGHT_IN = "export cannot be ruled out: CKA_EXTRACTABLE is true, "


def verdict_of(token, label):
    """The last line for a key."""
    words = ["key", "inspect", token.uri(label), "--pkcs11-lib", str(token.module), "--timeout", GENEROUS]
    words += ["--pkcs11-init-args", token.reserved] if token.reserved else []
    outcome = rolekey(*words, environment=token.environment, before=token.wrapper)
    assert (outcome.code, outcome.stderr) == (0, "")
    return outcome.stdout.splitlines()[-1].removeprefix("verdict: ")


@pytest.mark.parametrize("label", ["rsa-2048", "always-auth", "p-256"])
def test_card(token, label):
    """OpenSC's and Yubico's module say of every key in a PIV card that it cannot leave: also of ours, brought in.

    docs/keys.md says so, too.
    """
    assert verdict_of(token, label) == CANNOT


@pytest.mark.parametrize("label", ["rsa-2048", "p-256"])
def test_nss(nss_token, label):
    """Keys that pk12util brought into NSS's database may be taken out."""
    assert verdict_of(nss_token, label).startswith(BROUGHT_IN)


def test_opencryptoki(opencryptoki_token):
    """So may the key that pkcs11-tool brought into openCryptoki's token."""
    assert verdict_of(opencryptoki_token, "rsa-2048").startswith(BROUGHT_IN)


def test_p11_kit(p11_kit_server):
    """What SoftHSM says comes through p11-kit's client."""
    assert verdict_of(p11_kit_server.token(find_p11_kit()), "p-256") == CANNOT


@pytest.mark.parametrize("label", ["rsa-2048", "p-256"])
def test_tpm2_pkcs11(tpm2_pkcs11_token, label):
    """Keys that were made in a TPM through PKCS#11 cannot leave."""
    assert verdict_of(tpm2_pkcs11_token[0], label) == CANNOT
