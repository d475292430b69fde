"""A private key made in a PKCS#11 token, which cannot leave it."""

import os
from functools import partial

from rolekey.deadline import Deadline
from rolekey.errors import AmbiguousMatchError, ConfigurationError, UnsupportedKeyError
from rolekey.exportability import KeyAttributes, verdict
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.keys.writing import check_force, remove_all, writable_token
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.tokens.token import Token
from rolekey.tokens.writing import KEY_KINDS, KeyKind, TokenWriter
from rolekey.value import Value

_ID_SIZE = 16


class Made(Value):
    """A key that was made.

    Args:
        key: what selects it: a URI without its query, a handle, or a path.
        place: where it is.
        attributes: what its hardware says of it.
        replaced: what was removed for it.
        other_usages: what it may be used for besides signatures, where the hardware does not do as it was told.
    """

    key: str
    place: str
    attributes: KeyAttributes
    replaced: tuple[str, ...] = ()
    other_usages: tuple[str, ...] = ()


def generate_in_token(
    settings: KeySettings, interaction: Interaction, deadline: Deadline, kind_name: str, *, force: bool
) -> Made:
    """Make a key pair in a token, and look at what came of it.

    The id is the URI's, else 16 random bytes: it is known before the key is, so that both halves have it from the
    start, and no token has to be able to change it.

    Args:
        settings: name the token, the object's label and its id, in the key's URI.
        interaction: asks for a PIN that no source gives.
        deadline: for everything that the token does.
        kind_name: one of KEY_KINDS.
        force: what has this name already is removed, after the new key was made.

    Raises:
        ConfigurationError: the URI does not name the key.
        AmbiguousMatchError: it selects several tokens, or would replace several keys.
        TokenStateError: the name is taken, or the token is full or read-only.
        UnsupportedKeyError: the token makes no such key.
        SignerError, DeadlineError: the token cannot be found or used.
    """
    uri = settings.private_key
    assert isinstance(uri, PKCS11URI)  # noqa: S101 - the caller's choice
    _check_name(uri)
    kind = KEY_KINDS[kind_name]
    with writable_token(settings, uri, interaction, deadline) as (token, writer):
        return deadline.run(f"token {token}", partial(_generate, token, writer, uri, kind, force=force))


def _check_name(uri: PKCS11URI) -> None:
    if not (uri.object_label or uri.object_id):
        raise ConfigurationError(
            "the URI does not say what the new key is to be called",
            hint="add its label: pkcs11:token=NAME;object=LABEL, or its id, or both",
        )
    if uri.object_type not in (None, "private"):
        raise ConfigurationError(
            f"the URI has type={uri.object_type}, and a private key is to be made", hint="leave the type out"
        )


def _generate(token: Token, writer: TokenWriter, uri: PKCS11URI, kind: KeyKind, *, force: bool) -> Made:
    listed = token.mechanisms()
    if listed and kind.mechanism not in listed:
        raise UnsupportedKeyError(
            f"token {token} makes no {kind.name} key: it does not list CKM_{kind.mechanism}",
            hint="choose another --type, or make the key with the token's own tool",
        )
    old = writer.named(uri.object_label or None, uri.object_id or None)
    check_force(token, old, uri.selector(), force=force)
    if sum(entry.is_private_key for entry in old) > 1:
        raise AmbiguousMatchError(
            f"several private keys in token {token} match the label or the id of {uri.selector()}: none is replaced",
            hint="give label and id of the one that is to be replaced, both its own",
            candidates=(),
        )
    object_id = uri.object_id or os.urandom(_ID_SIZE)
    key = writer.generate(kind, uri.object_label or None, object_id)
    remove_all(writer, token, old, f"the key {key}")
    return Made(
        key=token.uri(key),
        place=f"token {token}",
        attributes=key.attributes(),
        replaced=tuple(entry.what for entry in old),
        other_usages=writer.other_usages(key),
    )


def generate_key(
    settings: KeySettings, interaction: Interaction, deadline: Deadline, kind_name: str, *, force: bool
) -> Made:
    """Make a key where the settings say: in a token, or in the TPM.

    Args:
        settings: say what the key will be.
        interaction: asks for a PIN or password that no source gives.
        deadline: for everything that token and TPM do.
        kind_name: one of KEY_KINDS.
        force: what is there is replaced.

    Raises:
        RolekeyError: as generate_in_token() and generate_in_tpm() say.
    """
    if isinstance(settings.private_key, PKCS11URI):
        return generate_in_token(settings, interaction, deadline, kind_name, force=force)
    from rolekey.signers.tpm_key import tpm_library  # noqa: PLC0415 - not for a key elsewhere

    with tpm_library():
        from rolekey.keys.tpm_generate import generate_in_tpm  # noqa: PLC0415 - as above
    return generate_in_tpm(settings, interaction, deadline, kind_name, force=force)


def check_made(made: Made) -> None:
    """Say so where the hardware did not make the key as it was asked to.

    Args:
        made: the key, which is there.

    Raises:
        UnsupportedKeyError: export cannot be ruled out.
    """
    if made.attributes.doubts:
        raise UnsupportedKeyError(
            f"the key {made.key} was made, and not as it was asked for: {verdict(made.attributes)}",
            hint="remove it with the token's own tool, or use it knowing that; --require-non-exportable refuses it",
        )
