"""The table of docs/pkcs11.md: what rolekey does with each module, as the rigs see it.

tests/hsm/rigs/test_module_table.py tries every cell and compares; scripts/module-table writes the table anew.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from support.contract_child import ContractChild, RemoteError, RemoteSigner, contract_child
from support.page_table import PageTable
from support.rig_token import RigToken
from support.softhsm import ProvisionedToken

COLUMNS = ("find", "sign RSA", "sign EC", "always-authenticate", "wrong PIN", "removed and back")
TABLE = PageTable("pkcs11.md", "module", COLUMNS)
YES, NONE = "yes", "-"


@dataclass(frozen=True)
class Subject:
    """A module with a token behind it.

    Attributes:
        name: of the row.
        token: where the keys are.
        remove: takes the token away from running programs; None where that cannot happen.
        bring_back: the opposite.
    """

    name: str
    token: RigToken
    remove: Callable[[], None] | None = None
    bring_back: Callable[[], None] | None = None


def softhsm_as_rig_token(token: ProvisionedToken) -> RigToken:
    """SoftHSM's token with the interface of the others.

    Args:
        token: made by softhsm/provision.
    """
    selectors = {label: f"token={token.label};object={label}" for label in ("rsa-2048", "p-256", "always-auth")}
    directory = token.directory / "certificates"
    return RigToken(
        directory, token.module, token.environment, token.user_pin, selectors, given_pin_file=token.pin_file
    )


def try_everything(subject: Subject) -> dict[str, str]:
    """One row: for each column "yes", a dash where the module has no such thing, or the class of the error."""
    row = dict.fromkeys(COLUMNS, NONE)
    token = subject.token
    with contract_child(token.environment, token.wrapper) as child:
        row["find"] = _outcome(lambda: _find(child, token))
        for column, label in (("sign RSA", "rsa-2048"), ("sign EC", "p-256"), ("always-authenticate", "always-auth")):
            if label in token.selectors:
                row[column] = _outcome(lambda label=label: _sign(child, token, label))  # type: ignore[misc]
        if subject.remove is not None and subject.bring_back is not None:
            row["removed and back"] = _outcome(lambda: _remove_and_bring_back(child, subject))
    # In a process of its own: a token that saw a login already may not look at another PIN.
    with contract_child(token.environment, token.wrapper) as child:
        row["wrong PIN"] = _outcome(lambda: _try_a_wrong_pin(child, token))
    return row


def _outcome(attempt: Callable[[], str]) -> str:
    try:
        return attempt()
    except RemoteError as error:
        return f"`{error.kind}`"


def _find(child: ContractChild, token: RigToken) -> str:
    for label in token.selectors:
        child.open(token, label).close()
    return YES


def _sign(child: ContractChild, token: RigToken, label: str) -> str:
    signer = child.open(token, label)
    _check(signer, token, label)
    signer.close()
    return YES


def _remove_and_bring_back(child: ContractChild, subject: Subject) -> str:
    assert subject.remove is not None
    assert subject.bring_back is not None
    label = next(iter(subject.token.selectors))
    signer = child.open(subject.token, label)
    _check(signer, subject.token, label)
    subject.remove()
    away = _outcome(lambda: signer.sign(b"message").hex())
    subject.bring_back()
    if away != "`TokenNotFoundError`":
        return f"{away} while it is away"
    _check(signer, subject.token, label)
    signer.close()
    return YES


def _try_a_wrong_pin(child: ContractChild, token: RigToken) -> str:
    wrong = token.user_pin[:-1] + ("1" if token.user_pin[-1] != "1" else "2")
    with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:  # only its owner may read it
        file.write(wrong)
        file.flush()
        uri = f"{token.uri('rsa-2048', with_pin=False)}?pin-source=file:{file.name}"
        try:
            child.open(token, "rsa-2048", private_key=uri)
        except RemoteError as error:
            return f"`{error.kind}`" + (f", tries {error.tries}" if error.tries else "")
    return "accepted"


def _check(signer: RemoteSigner, token: RigToken, label: str) -> None:
    """Sign, and verify by cryptography alone."""
    signature = signer.sign(b"message")
    public_key = x509.load_pem_x509_certificate(token.certificate(label).read_bytes()).public_key()
    if isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        public_key.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))
