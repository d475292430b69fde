"""A certificate stored in a token beside its key, under the key's id and label, with the issuers above it."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from rolekey.certificates import Certificate, describe, issuer_chain, read_certificates, spki
from rolekey.deadline import Deadline
from rolekey.errors import CertificateError, ConfigurationError, DeadlineError
from rolekey.identity import mismatch
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings, plain_path
from rolekey.keys import ARGUMENT
from rolekey.keys.output import is_file_name
from rolekey.keys.writing import check_force, check_writable, open_writer, remove_all
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.signers.pkcs11 import CLOSE_SECONDS
from rolekey.sigv4_x509 import verify_signature
from rolekey.token_identity import FoundKey, TokenIdentity
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.tokens.token import Token
from rolekey.tokens.writing import Stored, TokenWriter
from rolekey.value import Value

_PROOF = b"rolekey: this key belongs to the certificate that is imported for it"


class Imported(Value):
    """What was done.

    Args:
        lines: names and what is said of each.
    """

    lines: tuple[tuple[str, str], ...]


def read_leaf_and_issuers(file: str) -> tuple[Certificate, tuple[Certificate, ...]]:
    """The first certificate of a file, as for --certificate, and the issuers above it, in whatever order they come.

    Args:
        file: its name.

    Raises:
        ConfigurationError: it is no file's name.
        CertificateError: the file holds no certificate.
    """
    if not is_file_name(plain_path(file, "FILE")):
        raise ConfigurationError("FILE is a URI or a handle", hint="name the file that holds the certificate")
    leaf, *others = read_certificates(Path(file))
    return leaf, tuple(others)


def import_certificates(
    settings: KeySettings,
    interaction: Interaction,
    deadline: Deadline,
    leaf: Certificate,
    others: Sequence[Certificate],
    *,
    force: bool,
) -> Imported:
    """Store a certificate and its issuers.

    Args:
        settings: where the key is.
        interaction: asks for a PIN that no source gives.
        deadline: for everything that the token does.
        leaf: the key's certificate.
        others: what came with it; issuers above it are stored, a self-signed root is not.
        force: certificates of the key that are there already are removed, after this one is stored.

    Raises:
        ConfigurationError: the key is in no token.
        CertificateError: the certificate is another key's.
        TokenStateError: there is another certificate, or the token is full or read-only.
        SignerError, DeadlineError: the token or the key cannot be found or used.
    """
    uri = settings.private_key
    if not isinstance(uri, PKCS11URI):
        raise ConfigurationError(
            f"{ARGUMENT} is in no PKCS#11 token, and only those keep certificates beside their keys",
            hint="leave the certificate in its file, and pass --certificate FILE to the commands that use the key",
        )
    chain = issuer_chain(leaf, others)
    identity = TokenIdentity(settings, uri, interaction, deadline)
    found = identity.find_key(ARGUMENT, check_writable)
    try:
        proof = _check_pair(identity, found, leaf, others)
        token = found.contents.token
        with open_writer(token, deadline) as writer:
            work = partial(_store, token, writer, found, (leaf, *chain), force=force)
            return Imported((("key", token.uri(found.key)), *proof, *deadline.run(f"token {token}", work)))
    finally:
        with suppress(DeadlineError):
            Deadline(CLOSE_SECONDS).run("the token to close", found.login.session.close)


def _check_pair(
    identity: TokenIdentity, found: FoundKey, leaf: Certificate, others: Sequence[Certificate]
) -> tuple[tuple[str, str], ...]:
    """Refuse a certificate of another key.

    Returns:
        What was done to know, if it was a signature.
    """
    public_key = found.public_key
    if public_key is None:
        # Closing is the caller's: the session is the one that stores.
        signature = identity.signer_of(found).sign(_PROOF)
        try:
            verify_signature(leaf.public_key(), signature, _PROOF)
        except InvalidSignature as error:
            raise mismatch(leaf) from error
        return (("proof", "one signature, since the token shows no public half of the key"),)
    if spki(leaf.public_key()) != public_key:
        if any(spki(other.public_key()) == public_key for other in others):
            raise CertificateError(
                "the certificate of this key is not the first one in FILE",
                hint="put it first; its issuers may follow in any order",
            )
        raise mismatch(leaf)
    return ()


def _store(
    token: Token, writer: TokenWriter, found: FoundKey, certificates: Sequence[Certificate], *, force: bool
) -> list[tuple[str, str]]:
    leaf, *chain = certificates
    key = found.key
    there = [entry.certificate for entry in found.contents.certificates]
    own = [e for e in found.contents.certificates if e.selected_by(key.label, key.object_id)]
    lines = []
    if any(entry.certificate == leaf for entry in own):
        lines.append(("certificate", f"{describe(leaf)}: it is there already"))
    else:
        old = _in_the_way(writer, key)
        check_force(token, old, f"the key {key}", force=force)
        writer.store(leaf, key.label, key.object_id)
        remove_all(writer, token, old, f"the certificate {describe(leaf)}")
        lines.append(("certificate", f"{describe(leaf)}: stored{' in place of another' if old else ''}"))
    for issuer in chain:
        if issuer in there:
            lines.append(("issuer", f"{describe(issuer)}: it is there already"))
        else:
            writer.store(issuer, describe(issuer), _identifier(issuer))
            lines.append(("issuer", f"{describe(issuer)}: stored"))
    return lines


def _in_the_way(writer: TokenWriter, key: TokenPrivateKey) -> list[Stored]:
    return [entry for entry in writer.named(key.label or None, key.object_id or None) if entry.what == "certificate"]


def _identifier(certificate: Certificate) -> bytes:
    """CKA_ID of a certificate whose key is not here: what other certificates call its key."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
