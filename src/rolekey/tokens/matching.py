"""Which token, which certificate, which private key: one, or an error that lists what there is. Never a guess.

Certificate and key find each other by public key first, by CKA_ID next, by CKA_LABEL last.
"""

import time
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from rolekey.certificates import Certificate, describe, is_attestation, is_ca, spki
from rolekey.errors import (
    AmbiguousMatchError,
    CertificateError,
    KeyNotFoundError,
    TokenNotFoundError,
    UnsupportedKeyError,
)
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.tokens.holders import card_holder
from rolekey.tokens.modules import Module
from rolekey.tokens.objects import TokenCertificate, TokenPrivateKey, TokenPublicKey
from rolekey.tokens.token import Token, TokenSession
from rolekey.value import Value

MAX_LISTED = 8
# How long a program that holds the card is waited for: gpg lets go a few seconds after its last use.
HOLDER_SECONDS = 5.0


class TokenContents(Value):
    """What a token shows: public objects without a login, all of them with one.

    Args:
        token: the token.
        certificates: those that can be parsed.
        public_keys: those that can be read.
    """

    token: Token
    certificates: tuple[TokenCertificate, ...]
    public_keys: tuple[TokenPublicKey, ...]

    @classmethod
    def of(cls, session: TokenSession) -> "TokenContents":
        """Read it through an open session."""
        return cls(session.token, tuple(session.certificates()), tuple(session.public_keys()))

    def public_key_of(self, key: TokenPrivateKey) -> bytes | None:
        """The public half of a private key as SubjectPublicKeyInfo, or None where the token does not give it."""
        if key.public_key is not None:
            return spki(key.public_key)
        twins = {spki(p.public_key) for p in self.public_keys if key.object_id and p.object_id == key.object_id}
        return twins.pop() if len(twins) == 1 else None


class CertificateMatch(Value):
    """A certificate found in a token.

    Args:
        contents: of its token.
        entry: the certificate's object.
    """

    contents: TokenContents
    entry: TokenCertificate


def await_tokens(module: Module, uri: PKCS11URI, seconds: float = HOLDER_SECONDS) -> list[Token]:
    """matching_tokens(), with patience while another program holds a card.

    Args:
        module: the module.
        uri: selects the tokens.
        seconds: how long that program is waited for.

    Raises:
        TokenNotFoundError: none; the hint names the program that may hold the card.
        ModuleError: as matching_tokens().
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return matching_tokens(module, uri)
        except TokenNotFoundError as error:
            holder = card_holder()
            if holder is None:
                raise
            if time.monotonic() >= end:
                raise TokenNotFoundError(error.message, hint=f"{holder}; {error.hint}") from error
        time.sleep(0.25)


def matching_tokens(module: Module, uri: PKCS11URI) -> list[Token]:
    """The initialised tokens that a URI selects, at least one.

    Raises:
        TokenNotFoundError: none; the hint lists those that are there.
        ModuleError: the module cannot list its slots.
    """
    tokens = [token for token in module.tokens() if token.initialized]
    found = [token for token in tokens if token.matches(uri)]
    if found:
        return found
    if uri.unknown_path_attributes:
        hint = f"the URI's attribute {uri.unknown_path_attributes[0]} is none of RFC 7512, so that it matches nothing"
    elif tokens:
        hint = f"the module {module.path} shows: {'; '.join(str(token) for token in tokens[:MAX_LISTED])}"
    else:
        hint = f"the module {module.path} shows no token; is it plugged in, and is this the right module?"
    if module.silent_slots:
        hint += f" ({'; '.join(module.silent_slots[:MAX_LISTED])})"
    raise TokenNotFoundError(f"no token matches {uri.selector()}", hint=hint)


def match_certificate(searched: Sequence[TokenContents], uri: PKCS11URI) -> CertificateMatch | None:
    """The one certificate that a URI selects.

    A CA's certificate, and a YubiKey's attestation of a key, is taken only where the URI selects nothing else. The same
    certificate in several slots (an HA pair, one card behind two modules) is one: that of the slot listed first.

    Returns:
        None where there is none among the objects that were visible.

    Raises:
        AmbiguousMatchError: more than one.
    """
    found = [
        CertificateMatch(contents, entry)
        for contents in searched
        for entry in contents.certificates
        if entry.selected_by(uri.object_label, uri.object_id)
    ]
    found = [match for match in found if not is_ca(match.entry.certificate)] or found
    found = _once([match for match in found if not is_attestation(match.entry.certificate)] or found)
    if len(found) > 1:
        uris = [match.contents.token.uri(match.entry) for match in found]
        raise _ambiguous(f"certificates match {uri.selector()}", uris, "--certificate")
    return found[0] if found else None


def _once(found: list[CertificateMatch]) -> list[CertificateMatch]:
    return list({match.entry.certificate: match for match in reversed(found)}.values())[::-1]


def certificate_of_key(contents: TokenContents, key: TokenPrivateKey) -> TokenCertificate:
    """The certificate that belongs to a private key, found after a login.

    Raises:
        CertificateError: there is none.
        AmbiguousMatchError: more than one.
    """
    ends = [e for e in contents.certificates if not is_ca(e.certificate) and not is_attestation(e.certificate)]
    public_key = contents.public_key_of(key)
    found = [e for e in ends if public_key and spki(e.certificate.public_key()) == public_key]
    found = found or [e for e in ends if key.object_id and e.object_id == key.object_id]
    found = found or [e for e in ends if key.label and e.label == key.label]
    if not found:
        raise CertificateError(
            f"token {contents.token} holds no certificate for the key {key}",
            hint="name the certificate's file with --certificate FILE, or write it into the token",
        )
    if len(found) > 1:
        uris = [contents.token.uri(entry) for entry in found]
        raise _ambiguous(f"certificates in token {contents.token} belong to the key {key}", uris, "--certificate")
    return found[0]


def match_private_key(
    contents: TokenContents,
    keys: Sequence[TokenPrivateKey],
    uri: PKCS11URI,
    certificate: Certificate | None,
    entry: TokenCertificate | None,
    *,
    derived: bool,
    option: str = "--private-key",
) -> TokenPrivateKey:
    """The one private key that a URI selects and that belongs to the certificate.

    Args:
        contents: of the token.
        keys: its private keys.
        uri: selects by CKA_LABEL and CKA_ID.
        certificate: the end-entity certificate, or None where it is found afterwards.
        entry: the certificate's object, where it is in a token.
        derived: the URI is the certificate's: any key of the token may be meant.
        option: what the user names a key with.

    Raises:
        KeyNotFoundError, AmbiguousMatchError, CertificateError: none, more than one, none for this certificate.
    """
    named = list(keys) if derived else [k for k in keys if k.selected_by(uri.object_label, uri.object_id)]
    if not named:
        raise KeyNotFoundError(
            f"token {contents.token} holds no private key that matches {uri.selector()}",
            hint=_listed((contents.token.uri(key) for key in keys), option) if keys else "it shows no private key",
        )
    fitting = named if certificate is None else _belonging(contents, named, certificate, entry)
    if not fitting and certificate is not None:
        raise CertificateError(
            f"no private key in token {contents.token} belongs to the certificate {describe(certificate)}"
            if derived
            else f"the key that {uri.selector()} names does not belong to the certificate {describe(certificate)}",
            hint="name the certificate and the key of one pair",
        )
    if len(fitting) > 1:
        uris = [contents.token.uri(key) for key in fitting]
        raise _ambiguous(f"private keys match {uri.selector()}", uris, option)
    return fitting[0]


def _belonging(
    contents: TokenContents,
    keys: Iterable[TokenPrivateKey],
    certificate: Certificate,
    entry: TokenCertificate | None,
) -> list[TokenPrivateKey]:
    wanted = certificate.public_key()
    public_keys = [(key, contents.public_key_of(key)) for key in keys if key.key_type == _key_type(wanted)]
    equal = [key for key, public_key in public_keys if public_key == spki(wanted)]
    unknown = [key for key, public_key in public_keys if public_key is None]
    if equal or len(unknown) <= 1 or entry is None:
        # A single key of unknown public half is proven by verifying its signature, before that is sent.
        return equal or unknown
    same_id = [key for key in unknown if entry.object_id and key.object_id == entry.object_id]
    same_label = [key for key in unknown if entry.label and key.label == entry.label]
    return same_id or same_label or unknown


def check_key_type(certificate: Certificate) -> None:
    """Refuse, before a PIN is asked for, a certificate with whose kind of key no token signs here.

    Raises:
        UnsupportedKeyError: its key is neither RSA nor EC.
    """
    if not isinstance(certificate.public_key(), rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise UnsupportedKeyError(
            f"the certificate {describe(certificate)} has an ML-DSA key, with which rolekey cannot sign in a token",
            hint="use a certificate with an RSA or EC key; ML-DSA keys can be used from files",
        )


def check_public_twin(contents: TokenContents, uri: PKCS11URI, certificate: Certificate) -> None:
    """Refuse, before a PIN is asked for, a key URI whose public key is visibly not the certificate's.

    Raises:
        CertificateError: the token shows the public keys that the URI selects, and none is the certificate's.
    """
    if uri.object_label is None and uri.object_id is None:
        return
    shown = [p for p in contents.public_keys if p.selected_by(uri.object_label, uri.object_id)]
    if shown and all(spki(p.public_key) != spki(certificate.public_key()) for p in shown):
        raise CertificateError(
            f"the key that {uri.selector()} names does not belong to the certificate {describe(certificate)}",
            hint="name the certificate and the key of one pair",
        )


def key_token(
    tokens: Sequence[TokenContents],
    certificate: Certificate | None,
    home: Token | None,
    uri: PKCS11URI,
    *,
    option: str = "--private-key",
) -> Token:
    """The one token, of those that the key's URI selects, to log in to.

    Without a certificate none of several is: the PIN may be meant for another, in which the key is hidden.

    The same public key in several slots is one key (an HA pair, one card behind two modules): the slot listed first is
    taken.

    Args:
        tokens: what the tokens show without a login.
        certificate: the end-entity certificate, or None for a key by itself.
        home: the token that holds the certificate, if one does.
        uri: the key's.
        option: what the user names a key with.

    Raises:
        AmbiguousMatchError: neither the certificate's place nor what the tokens show tells which.
    """
    found = [c.token for c in tokens]
    if len(found) > 1 and home is not None:
        found = [t for t in found if (t.slot_id, t.serial) == (home.slot_id, home.serial)] or found
    if len(found) > 1 and certificate is not None:
        found = _showing(tokens, certificate) or found
    return one_token(found, uri, option)


def one_token(tokens: Sequence[Token], uri: PKCS11URI, option: str) -> Token:
    """The only one of the tokens that a URI selects; AmbiguousMatchError where there are more."""
    if len(tokens) > 1:
        raise _ambiguous(f"tokens match {uri.selector()}", [token.uri() for token in tokens], option)
    return tokens[0]


def _showing(tokens: Sequence[TokenContents], certificate: Certificate) -> list[Token]:
    wanted = spki(certificate.public_key())
    return [c.token for c in tokens if any(spki(p.public_key) == wanted for p in c.public_keys)][:1]


def _key_type(public_key: PublicKeyTypes) -> str:
    return "RSA" if isinstance(public_key, rsa.RSAPublicKey) else "EC"


def _ambiguous(what: str, uris: Sequence[str], option: str) -> AmbiguousMatchError:
    return AmbiguousMatchError(f"{len(uris)} {what}", hint=_listed(uris, option), candidates=tuple(uris))


def _listed(uris: Iterable[str], option: str) -> str:
    texts = list(uris)
    more = f" and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
    return f"name one with {option}: " + "  ".join(texts[:MAX_LISTED]) + more
