"""A private key made in a TPM, which cannot leave it: one in a key file, or one that the TPM keeps under a handle.

TPM 2.0 Library, part 3: TPM2_Create under the primary key of the owner's hierarchy, TPM2_Load, TPM2_EvictControl.
"""

from pathlib import Path
from typing import Any

from tpm2_pytss import (
    ESYS_TR,
    TPM2B_AUTH,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMS_SENSITIVE_CREATE,
)

from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError, KeyNotFoundError, SignerError, TokenStateError, UnsupportedKeyError
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.keys import ARGUMENT
from rolekey.keys.generate import Made
from rolekey.keys.output import Output
from rolekey.pins import record_directories
from rolekey.secret import Secret
from rolekey.signers.tpm_authorization import (
    P256_STORAGE_KEY,
    Authorization,
    Trials,
    authorize_hierarchy,
    encrypting_session,
    make_primary,
)
from rolekey.signers.tpm_connection import TPM, return_code
from rolekey.signers.tpm_objects import persistent_handles, read_public
from rolekey.signers.tpm_public import (
    DECRYPT,
    FIXED_PARENT,
    FIXED_TPM,
    NO_DA,
    RESTRICTED,
    SENSITIVE_DATA_ORIGIN,
    SIGN,
    USER_WITH_AUTH,
    PublicArea,
)
from rolekey.tpm_handle import TPMHandle
from rolekey.tpm_identity import find_tpm
from rolekey.tpm_login import TPMLogin
from rolekey.tss2_key import loadable_pem
from rolekey.value import Value

_ATTRIBUTES = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | SIGN
# TPMS_ECC_PARMS and TPMS_RSA_PARMS with the unique field after them: no symmetric algorithm, no scheme; then curve, no
# KDF and an empty point, or bits, the default exponent and an empty modulus.
_ECC, _RSA = "0010 0010 {:04x} 0010 0000 0000", "0010 0010 {:04x} 00000000 0000"
_KINDS = {
    "rsa2048": (0x0001, _RSA.format(2048)),
    "rsa3072": (0x0001, _RSA.format(3072)),
    "rsa4096": (0x0001, _RSA.format(4096)),
    "p256": (0x0023, _ECC.format(3)),
    "p384": (0x0023, _ECC.format(4)),
    "p521": (0x0023, _ECC.format(5)),
}
# What a TPM answers that makes no such key: ASYMMETRIC, VALUE, KEY_SIZE, TYPE, CURVE.
_NOT_OFFERED = frozenset({0x081, 0x084, 0x087, 0x08A, 0x0A6})


class _Created(Value):
    """What TPM2_Create gave, and the loaded parent."""

    parent: Any
    public: Any
    private: Any
    area: PublicArea


def generate_in_tpm(
    settings: KeySettings, interaction: Interaction, deadline: Deadline, kind_name: str, *, force: bool
) -> Made:
    """Make a key under the owner's hierarchy.

    Its password is the one that is configured for it; without one it has none, and the attribute noDA.

    Args:
        settings: say which handle or file, where the TPM is, and where passwords come from.
        interaction: asks for the password of the hierarchy.
        deadline: for everything that the TPM does.
        kind_name: one of rolekey.tokens.writing.KEY_KINDS.
        force: the file, or the signing key under the handle, is replaced.

    Raises:
        ConfigurationError: the file is there, or cannot be written.
        TokenStateError: there is something under the handle.
        UnsupportedKeyError: the TPM makes no such key.
        SignerError, DeadlineError: the TPM cannot be reached, or refused.
    """
    reference = settings.private_key
    output = _output(reference, force=force) if isinstance(reference, Path) else None
    text = f"the TPM key {reference}"
    device = find_tpm(settings, deadline, record_directories())
    login = TPMLogin(settings, interaction, deadline, record_directories())
    password = login.new_password()
    old = None
    if isinstance(reference, TPMHandle):
        handle = reference.value
        old = device.run("the TPM", lambda tpm: _old(tpm, handle, force=force))
    passwords = login.open_owner(device, text)

    def work(tpm: TPM, trials: Trials) -> _Created:
        owner = authorize_hierarchy(tpm, trials.parent)
        parent, _ = make_primary(tpm, f"the parent of {text}", ESYS_TR.OWNER, P256_STORAGE_KEY, owner)
        created = _create(tpm, parent, text, kind_name, password)
        if isinstance(reference, TPMHandle):
            _persist(tpm, owner, created, reference, old)
        return created

    created = device.run(f"making {text}", lambda tpm: passwords.send(tpm, lambda trials: work(tpm, trials)))
    place = f"TPM at {device.address}"
    if output is not None:
        pem = loadable_pem(created.public.marshal(), created.private.marshal(), empty_auth=password is None)
        output.write(pem, mode=0o600)
        place = f"file for the {place}, which alone can load it"
    replaced = ("the key that was there",) if old is not None else ()
    return Made(key=str(reference), place=place, attributes=created.area.key_attributes, replaced=replaced)


def _output(path: Path, *, force: bool) -> Output:
    output = Output.parse(str(path), ARGUMENT, force=force)
    if output.path is None:
        raise ConfigurationError(f"{ARGUMENT} is -, and names no file", hint="name the file for the TPM's key")
    return output


def _old(tpm: TPM, handle: int, *, force: bool) -> PublicArea | None:
    """What is under the handle, if it may be replaced."""
    if handle not in persistent_handles(tpm):
        return None
    name = str(TPMHandle(handle))
    if not force:
        raise TokenStateError(
            f"the TPM already keeps an object under {name}",
            hint="choose another handle, or have a signing key replaced with --force (it is lost for good)",
        )
    area = read_public(tpm, handle, f"the TPM key {name}")
    if area.attributes & (RESTRICTED | DECRYPT) or not area.attributes & SIGN:
        raise TokenStateError(
            f"what the TPM keeps under {name} is no signing key: it may be the parent of others, and is not replaced",
            hint="choose another handle, such as handle:0x81010001",
        )
    return area


def _create(tpm: TPM, parent: Any, text: str, kind_name: str, password: Secret | None) -> _Created:
    algorithm, parameters = _KINDS[kind_name]
    attributes = _ATTRIBUTES | (NO_DA if password is None else 0)
    template = algorithm.to_bytes(2) + bytes.fromhex("000b") + attributes.to_bytes(4) + bytes(2)
    template += bytes.fromhex(parameters)
    public, _ = TPM2B_PUBLIC.unmarshal(len(template).to_bytes(2) + template)
    auth = TPM2B_AUTH(password.reveal().encode() if password else b"")
    sensitive = TPM2B_SENSITIVE_CREATE(sensitive=TPMS_SENSITIVE_CREATE(userAuth=auth))
    session = encrypting_session(tpm)
    try:
        private, made, *_ = tpm.call(
            f"make {text}", lambda: tpm.esapi.create(parent, sensitive, public, session1=session)
        )
    except SignerError as error:
        if return_code(error) not in _NOT_OFFERED:
            raise
        raise UnsupportedKeyError(
            f"the TPM makes no {kind_name} key: {error.message}", hint="choose another --type: every TPM makes p256"
        ) from error
    finally:
        tpm.unload(session)
    return _Created(parent, made, private, PublicArea.parse(made.marshal(), text))


def _persist(tpm: TPM, owner: Authorization, created: _Created, handle: TPMHandle, replaced: PublicArea | None) -> None:
    """Have the TPM keep the new key; the old one goes when the new one is there and loaded."""
    loaded = tpm.keep(
        tpm.call(f"load the key for {handle}", lambda: tpm.esapi.load(created.parent, created.private, created.public))
    )
    tpm.unload(created.parent)
    owner.let(tpm, ESYS_TR.OWNER)

    def evict(what: Any) -> Any:
        return tpm.esapi.evict_control(ESYS_TR.OWNER, what, handle.value, session1=owner.session)

    if replaced is not None:
        old = tpm.call(f"find {handle}", lambda: tpm.esapi.tr_from_tpmpublic(handle.value))
        if bytes(tpm.esapi.tr_get_name(old)) != replaced.name:
            raise KeyNotFoundError(f"{handle} is another key than a moment ago", hint="run the command again")
        tpm.call(f"remove {handle}", lambda: evict(old), owner.trial)
    tpm.call(f"keep a key under {handle}", lambda: evict(loaded), owner.trial)
