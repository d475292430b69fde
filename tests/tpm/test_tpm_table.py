"""docs/tpm.md says which keys load, sign, and what a wrong password does; this run says the same."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from rolekey.errors import RolekeyError
from support.der import utf8
from support.page_table import PageTable
from support.pki import make_root
from support.tpm_identity import identity_of, password_file
from support.tpm_keys import (
    ENDORSEMENT,
    NULL,
    PLATFORM,
    POLICY_AUTH_VALUE,
    POLICY_PCR,
    SIGNING,
    UNDER_POLICY,
    MadeKey,
    TPMKeys,
    policy_field,
)
from support.tss2_files import DESCRIPTION, RSA_PARENT, TRUE

TABLE = PageTable("tpm.md", "key", ("loads", "signs", "wrong password", "official helper 1.8.0"))
OWN, PARENTS = "the key's", "the parent's"
YES, NONE = "yes", "-"


@dataclass(frozen=True)
class Row:
    """One origin.

    Attributes:
        key: how it was made.
        helper: what the official helper does with it.
        parents: the password of its parent.
    """

    key: MadeKey
    helper: str = YES
    parents: str = ""
    more: dict[str, Any] = field(default_factory=dict)


def origins(keys):
    """Every row of the table, each made when its turn comes."""
    pcrs = ("tpm2_policypcr", "--pcr-list", "sha256:0,7")
    yield "`openssl genpkey`, P-256", Row(keys.by_openssl("EC", "group:P-256"))
    yield "`openssl genpkey`, RSA-2048", Row(keys.by_openssl("RSA", "bits:2048"))
    yield "`openssl genpkey`, P-384, password", Row(keys.by_openssl("EC", "group:P-384", password=OWN))
    yield "`tpm2_create`, P-521", Row(keys.by_tools("ecc521"))
    yield "`tpm2_create`, RSA-3072, scheme `rsassa-sha256`", Row(keys.by_tools("rsa3072:rsassa-sha256"))
    yield "... P-256, password, `noda`", Row(keys.by_tools(password=OWN, attributes=f"{SIGNING}|noda"))
    for name, parent in ("endorsement", ENDORSEMENT), ("null", NULL), ("platform", PLATFORM):
        yield f"... under the {name} hierarchy", Row(keys.by_tools(parent=parent))
    yield "... under a persistent parent", Row(keys.by_tools(parent=keys.storage_key(0x81000001)))
    parent = keys.storage_key(0x81000002, PARENTS)
    made = keys.by_tools(parent=parent, parent_password=PARENTS)
    yield "... under a persistent parent with a password", Row(made, "no: parent's password", PARENTS)
    keys.tpm.run("tpm2_changeauth", "--object-context", "owner", PARENTS)
    yield (
        "... under the owner's hierarchy with a password",
        Row(keys.by_tools(parent_password=PARENTS), "no: hierarchy's password", PARENTS),
    )
    keys.tpm.run("tpm2_changeauth", "--object-context", "owner", "--object-auth", PARENTS)
    yield (
        "... under an RSA parent (`rsaParent`)",
        Row(keys.by_tools(rsa_parent=True, fields={RSA_PARENT: TRUE}), "no: rsaParent"),
    )
    yield "... with a description", Row(keys.by_tools(fields={DESCRIPTION: utf8("web server")}), "no: description")
    yield "`tpm2_duplicate`, importable", Row(keys.importable(0x81000001), "no: importable")
    body = keys.pcr_command(0, 7)
    policy, commands = keys.policy_digest(pcrs), [(POLICY_PCR, body)]
    made = keys.by_tools(attributes=UNDER_POLICY, policy=policy, fields=policy_field(commands))
    yield "`tpm2_create` under PolicyPCR", Row(made, "no: policy")
    policy, commands = keys.policy_digest(pcrs, ("tpm2_policyauthvalue",)), [*commands, (POLICY_AUTH_VALUE, b"")]
    made = keys.by_tools(attributes=UNDER_POLICY, policy=policy, password=OWN, fields=policy_field(commands))
    yield "... under PolicyPCR and PolicyAuthValue", Row(made, "no: policy")
    yield "`handle:`, P-256", Row(keys.by_tools(handle=0x81010001), more={"no_tpm_key_password": True})
    yield "`handle:`, RSA-2048, password", Row(keys.by_tools("rsa2048", handle=0x81010002, password=OWN))


def try_everything(tpm, row):
    """One row: "yes", a dash where there is no password, or the class of the error."""
    cells = dict.fromkeys(TABLE.columns, NONE) | {TABLE.columns[-1]: row.helper}
    right = dict(row.more)
    wrong = dict(row.more)
    for name, password in ("pin_source", row.key.password), ("tpm_parent_password_source", row.parents):
        if password:
            right[name] = password_file(tpm.directory, password)
            wrong[name] = password_file(tpm.directory, "wrong")
    cells["loads"] = outcome(lambda: identity_of(tpm, row.key, **right).close())
    cells["signs"] = outcome(lambda: sign(tpm, row.key, right))
    if right != wrong:
        before = tpm.lockout_counter()
        cells["wrong password"] = outcome(lambda: sign(tpm, row.key, wrong))
        cells["wrong password"] += ", counted" if tpm.lockout_counter() == before + 1 else ", not counted"
        tpm.reset_lockout()
    return cells


def outcome(attempt):
    """What becomes of an attempt."""
    try:
        attempt()
    except RolekeyError as error:
        return f"`{type(error).__name__}`"
    return YES


def sign(tpm, made, options):
    """Sign, and verify by cryptography alone."""
    with identity_of(tpm, made, **options) as identity:
        signature = identity.signer.sign(b"message")
    if isinstance(made.public_key, rsa.RSAPublicKey):
        made.public_key.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    else:
        made.public_key.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


@pytest.mark.rig("swtpm")
def test_the_table_of_the_page(tpm, request):
    """Every cell but the official helper's is what happened in this run."""
    rows = {name: try_everything(tpm, row) for name, row in origins(TPMKeys(tpm, make_root()))}
    TABLE.check(rows, write=request.config.getoption("--write-module-table"))
