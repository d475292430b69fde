"""Keys in a TPM while they are used: parent, key, signature (TPM 2.0 Library, part 3, 12, 13 and 20)."""

from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF_OBJECT,
    TSS2_Exception,
)

from rolekey.errors import KeyNotFoundError, UnsupportedKeyError
from rolekey.signers.tpm_authorization import (
    P256_STORAGE_KEY,
    RSA_STORAGE_KEY,
    Authorization,
    Trials,
    authorize,
    make_primary,
)
from rolekey.signers.tpm_connection import TPM
from rolekey.signers.tpm_key import TPMKey
from rolekey.signers.tpm_public import RSA, PublicArea
from rolekey.tss2_key import TSS2Key

_FIRST_PERSISTENT, _HANDLES_AT_ONCE = 0x81000000, 64
_HIERARCHIES = {
    0x40000001: ("owner", ESYS_TR.OWNER),
    0x40000007: ("null", ESYS_TR.NULL),
    0x4000000B: ("endorsement", ESYS_TR.ENDORSEMENT),
    0x4000000C: ("platform", ESYS_TR.PLATFORM),
}


def read_public(tpm: TPM, handle: int, text: str) -> PublicArea:
    """The public area of a persistent object.

    Args:
        tpm: an open connection.
        handle: TPM_HANDLE.
        text: what messages call the object.

    Raises:
        KeyNotFoundError: there is none under that handle.
    """
    found = _persistent(tpm, handle, text)
    public, _, _ = tpm.call(f"read {text}", lambda: tpm.esapi.read_public(found))
    return PublicArea.parse(public.marshal(), text)


def persistent_handles(tpm: TPM) -> list[int]:
    """The handles under which the TPM keeps objects.

    Args:
        tpm: an open connection.
    """
    found: list[int] = []
    more, first = True, _FIRST_PERSISTENT
    while more:
        ask = partial(tpm.esapi.get_capability, TPM2_CAP.HANDLES, first, _HANDLES_AT_ONCE)
        more, answer = tpm.call("list the TPM's keys", ask)
        listed = answer.data.handles
        handles = [int(listed[i]) for i in range(len(listed))]
        found += handles
        first, more = (handles[-1] + 1, bool(more)) if handles else (first, False)
    return found


def sign(tpm: TPM, key: TPMKey, trials: Trials, digest: bytes, scheme: tuple[int, int]) -> bytes:
    """Load the key and sign with exactly one TPM2_Sign; what is loaded then stays until the connection closes.

    Args:
        tpm: an open connection.
        key: the key.
        trials: the passwords.
        digest: what is signed.
        scheme: identifiers of the signature scheme and of its hash.

    Returns:
        RSASSA-PKCS1-v1_5, or ECDSA-Sig-Value in DER.
    """
    own, parents = authorize(tpm, key, trials)
    handle = _kept(tpm, key) if key.file is None else _loaded(tpm, key.file, key.text, parents)
    own.let(tpm, handle)
    how = TPMT_SIG_SCHEME(scheme=scheme[0])
    how.details.any.hashAlg = scheme[1]
    doing = f"sign with {key.text}"
    signature = tpm.call(doing, lambda: tpm.esapi.sign(handle, digest, how, session1=own.session), own.trial)
    if key.area.type == RSA:
        return bytes(signature.signature.rsassa.sig)
    pair = signature.signature.ecdsa
    return encode_dss_signature(int.from_bytes(bytes(pair.signatureR)), int.from_bytes(bytes(pair.signatureS)))


def _kept(tpm: TPM, key: TPMKey) -> Any:
    """A key that the TPM keeps."""
    handle = _persistent(tpm, key.handle, key.text)
    if bytes(tpm.esapi.tr_get_name(handle)) != key.area.name:
        raise KeyNotFoundError(f"{key.text} is another key than a moment ago", hint="run the command again")
    return handle


def _loaded(tpm: TPM, file: TSS2Key, text: str, parents: Authorization) -> Any:
    """A key out of a file."""
    try:
        public, _ = TPM2B_PUBLIC.unmarshal(file.public)
        private, _ = TPM2B_PRIVATE.unmarshal(file.private)
        secret, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(file.secret or bytes(2))
    except TSS2_Exception as error:
        raise UnsupportedKeyError(
            f"{text} cannot be understood: {error}", hint="it is damaged; make it anew"
        ) from error
    parent, session = _parent(tpm, file, text, parents), parents.session
    if file.kind == "importable":
        none = TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL)
        private = tpm.call(
            f"import {text}",
            lambda: tpm.esapi.import_(parent, b"", public, private, secret, none, session1=session),
            parents.trial,
        )
    handle = tpm.call(f"load {text}", lambda: tpm.esapi.load(parent, private, public, session1=session), parents.trial)
    tpm.keep(handle)
    tpm.unload(parent)
    return handle


def _parent(tpm: TPM, file: TSS2Key, text: str, parents: Authorization) -> Any:
    if file.parent in _HIERARCHIES:
        name, hierarchy = _HIERARCHIES[file.parent]
        template = RSA_STORAGE_KEY if file.rsa_parent else P256_STORAGE_KEY
        return make_primary(tpm, f"the parent of {text} in the {name} hierarchy", hierarchy, template, parents)[0]
    handle = _persistent(tpm, file.parent, f"the parent {file.parent:#x} of {text}")
    parents.let(tpm, handle)
    return handle


def _persistent(tpm: TPM, handle: int, text: str) -> Any:
    return tpm.call(f"find {text}", lambda: tpm.esapi.tr_from_tpmpublic(handle))
