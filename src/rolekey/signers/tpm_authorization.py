"""What allows the use of a key in a TPM: passwords and policies (TPM 2.0 Library, part 1, 19 and part 3, 23).

A password is never sent: it keys the HMAC of a session, which a secret salts that only the TPM can decrypt.
"""

from typing import Any

from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_SE, TPM2B_PUBLIC, TPMA_SESSION, TPML_PCR_SELECTION, TPMT_SYM_DEF

from rolekey.errors import TokenOperationError
from rolekey.signers.tpm_connection import TPM, Trial, return_code
from rolekey.signers.tpm_key import TPMKey
from rolekey.signers.tpm_policy import POLICY_COMMAND_CODE, PolicyStep
from rolekey.signers.tpm_public import PublicArea
from rolekey.signers.tpm_return_codes import VALUE
from rolekey.value import Value

_SIGN = 0x15D
# TCG EK Credential Profile, templates H-2 and H-1, TPMT_PUBLIC of a storage key: type, SHA-256, the attributes
# fixedTPM|fixedParent|sensitiveDataOrigin|userWithAuth|noDA|restricted|decrypt, no policy, AES-128-CFB, no scheme; then
# P-256, no KDF and an empty point, or 2048 bits, the default exponent and an empty modulus.
P256_STORAGE_KEY = bytes.fromhex("0023 000b 00030472 0000 0006 0080 0043 0010 0003 0010 0000 0000")
RSA_STORAGE_KEY = bytes.fromhex("0001 000b 00030472 0000 0006 0080 0043 0010 0800 00000000 0000")
_EMPTY_POINT = 4


class Trials(Value):
    """The passwords that go with a signature.

    Args:
        key: the key's own; None where the key is used without one.
        parent: the parent's or the hierarchy's; None where the key is used without its parent.
    """

    key: Trial | None = None
    parent: Trial | None = None


class Authorization(Value):
    """What goes with each command that uses one object.

    Args:
        session: its session.
        trial: the object's password; None where there is none to go with it.
    """

    session: Any = ESYS_TR.PASSWORD
    trial: Trial | None = None

    def let(self, tpm: TPM, handle: Any) -> None:
        """Have the password go with commands that use an object."""
        if self.trial is not None and self.trial.secret is not None:
            tpm.esapi.tr_set_auth(handle, self.trial.secret.reveal().encode())


WITHOUT_PASSWORD = Authorization()


def make_primary(
    tpm: TPM, what: str, hierarchy: Any, template: bytes, authorization: Authorization = WITHOUT_PASSWORD
) -> tuple[Any, PublicArea]:
    """Have the TPM make a primary key. It is unloaded when the connection closes, at the latest.

    Args:
        tpm: an open connection.
        what: what messages call the key.
        hierarchy: under which it is made.
        template: TPMT_PUBLIC.
        authorization: of the hierarchy.

    Returns:
        The loaded key and its public area.
    """
    public, _ = TPM2B_PUBLIC.unmarshal(len(template).to_bytes(2) + template)
    authorization.let(tpm, hierarchy)
    handle, made, *_ = tpm.call(
        f"make {what}",
        lambda: tpm.esapi.create_primary(None, public, hierarchy, session1=authorization.session),
        authorization.trial,
    )
    return tpm.keep(handle), PublicArea.parse(made.marshal(), what)


def authorize(tpm: TPM, key: TPMKey, trials: Trials) -> tuple[Authorization, Authorization]:
    """Start what key and parent need; an empty password needs no session.

    Args:
        tpm: an open connection.
        key: the key.
        trials: the passwords.

    Returns:
        For the key, and for its parent.
    """
    own, parents = Authorization(trial=trials.key), Authorization(trial=trials.parent)
    secret = any(trial is not None and trial.secret is not None for trial in (trials.key, trials.parent))
    salt_key = _salt_key(tpm) if secret else ESYS_TR.NONE
    if key.policy:
        own = Authorization(_start(tpm, TPM2_SE.POLICY, salt_key, key.area.name_algorithm), trials.key)
        for step in key.policy:
            _execute(tpm, f"the policy of {key.text}", own.session, step)
    elif trials.key is not None and trials.key.secret is not None:
        own = Authorization(_start(tpm, TPM2_SE.HMAC, salt_key), trials.key)
    if trials.parent is not None and trials.parent.secret is not None:
        parents = Authorization(_start(tpm, TPM2_SE.HMAC, salt_key), trials.parent)
    # Sessions outlive the key that salted them, and there is little room.
    tpm.unload(salt_key)
    return own, parents


def authorize_hierarchy(tpm: TPM, trial: Trial | None) -> Authorization:
    """Start what a hierarchy needs; an empty password needs no session.

    Args:
        tpm: an open connection.
        trial: its password; None where there is none to go with it.
    """
    if trial is None or trial.secret is None:
        return Authorization(trial=trial)
    salt_key = _salt_key(tpm)
    session = _start(tpm, TPM2_SE.HMAC, salt_key)
    tpm.unload(salt_key)
    return Authorization(session, trial)


def encrypting_session(tpm: TPM) -> Any:
    """A session over which a new key's password goes to the TPM encrypted, with an empty password of its own."""
    salt_key = _salt_key(tpm)
    session = _start(tpm, TPM2_SE.HMAC, salt_key)
    tpm.unload(salt_key)
    tpm.esapi.trsess_set_attributes(session, TPMA_SESSION.DECRYPT | TPMA_SESSION.CONTINUESESSION)
    return session


def _start(tpm: TPM, kind: Any, salt_key: Any, hash_name: str = "sha256") -> Any:
    symmetric, hash_algorithm = TPMT_SYM_DEF.parse("aes128cfb"), TPM2_ALG.parse(hash_name)
    return tpm.keep(
        tpm.call(
            "start a session",
            lambda: tpm.esapi.start_auth_session(salt_key, ESYS_TR.NONE, kind, symmetric, hash_algorithm),
        )
    )


def _salt_key(tpm: TPM) -> Any:
    """A key that the TPM makes for this connection, for the salt of sessions.

    Whoever stands between us and the TPM and puts a key of his own in its place is not found out by this, but he has to
    change every answer; a Name that is not the key's own, or another kind of key, is found.
    """
    handle, area = make_primary(tpm, "the key for the salt of sessions", ESYS_TR.NULL, P256_STORAGE_KEY)
    if bytes(tpm.esapi.tr_get_name(handle)) != area.name or not area.data.startswith(P256_STORAGE_KEY[:-_EMPTY_POINT]):
        raise TokenOperationError(
            "the TPM made another key for the salt of sessions than it was asked for: no password is used",
            hint="something between rolekey and the TPM changes what they say; find out what it is",
        )
    return handle


def _execute(tpm: TPM, policy: str, session: Any, step: PolicyStep) -> None:
    if step.code == POLICY_COMMAND_CODE:
        tpm.call(policy, lambda: tpm.esapi.policy_command_code(session, _SIGN))
    elif step.needs_password:
        # In place of PolicyPassword, too, with which the password would be sent: the policy is the same.
        tpm.call(policy, lambda: tpm.esapi.policy_auth_value(session))
    else:
        pcrs, _ = TPML_PCR_SELECTION.unmarshal(step.pcrs)
        try:
            tpm.call(policy, lambda: tpm.esapi.policy_pcr(session, step.pcr_digest, pcrs))
        except TokenOperationError as error:
            if return_code(error) != VALUE:
                raise
            raise TokenOperationError(
                f"{policy} does not allow a signature now: {step} have other values than it wants",
                hint="the machine was started otherwise than the key wants it; start it as before, or make a new key",
            ) from error
