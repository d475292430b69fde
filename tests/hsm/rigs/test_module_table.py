"""docs/pkcs11.md says what rolekey does with each module; this run says the same."""

import pytest

from support.card_rig import card_in_reader, find_opensc, find_ykcs11
from support.module_table import TABLE, Subject, softhsm_as_rig_token, try_everything
from support.p11_kit_rig import find_p11_kit

RIGS = ("softhsm", "virtual-card", "opensc", "ykcs11", "nss", "p11-kit", "opencryptoki", "tpm2-pkcs11")


@pytest.fixture(scope="module")
def card(pcscd, tmp_path_factory):
    """One card for both modules, in which only this module's tests look."""
    with card_in_reader(pcscd, tmp_path_factory.mktemp("card") / "card") as rig:
        yield rig


@pytest.mark.rig(*RIGS)
def test_the_table_of_the_page(
    provisioned_token, card, nss_token, p11_kit_server, opencryptoki_token, tpm2_pkcs11_token, request
):
    """Every cell of the table is what happened in this run; a wrong PIN costs a card one try."""
    rows = {}

    def add(subject):
        rows[subject.name] = try_everything(subject)

    add(Subject("SoftHSM 2", softhsm_as_rig_token(provisioned_token)))
    for name, find in ("OpenSC, PIV card", find_opensc), ("ykcs11, YubiKey", find_ykcs11):
        add(Subject(name, card.token(find()), card.remove, card.insert))
        assert card.card.tries_left == 2
        card.card.unblock()
    add(Subject("NSS soft token", nss_token))
    add(Subject("openCryptoki, software token", opencryptoki_token))
    server = p11_kit_server
    add(Subject("p11-kit client, SoftHSM behind it", server.token(find_p11_kit()), server.kill, server.start))
    add(Subject("tpm2-pkcs11, TPM 2.0", tpm2_pkcs11_token[0]))
    TABLE.check(rows, write=request.config.getoption("--write-module-table"))
