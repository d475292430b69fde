"""A SigningIdentity from a PKCS#11 token: certificate and key share one session and one login."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rolekey.certificates import Certificate, describe
from rolekey.deadline import Deadline
from rolekey.errors import CertificateError, SignerError
from rolekey.exportability import check_non_exportable
from rolekey.identity import Judge, SigningIdentity, certificates_of_file
from rolekey.interaction import Interaction
from rolekey.key_settings import CertificateReference, KeySettings
from rolekey.passphrases import Passphrases
from rolekey.pins import PinSupply
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.signers.pkcs11 import PKCS11Signer
from rolekey.token_login import Login, TokenLogin
from rolekey.tokens.keys import OpenKey, reopener
from rolekey.tokens.matching import (
    HOLDER_SECONDS,
    CertificateMatch,
    TokenContents,
    await_tokens,
    certificate_of_key,
    check_public_twin,
    key_token,
    match_certificate,
    match_private_key,
)
from rolekey.tokens.modules import Module, find_module
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.tokens.token import Token, TokenSession
from rolekey.value import Value

log = logging.getLogger(__name__)


def find_certificate(
    settings: KeySettings,
    uri: PKCS11URI,
    deadline: Deadline,
) -> tuple[Certificate, list[Certificate]]:
    """A certificate that a token shows without a login, and the others beside it.

    Raises:
        CertificateError: there is none.
        SignerError: the token cannot be found or read.
    """
    match = match_certificate(_search(settings, uri, deadline), uri)
    if match is None:
        raise _no_certificate(uri)
    return match.entry.certificate, _certificates(match.contents)


def shown_certificates(settings: KeySettings, uri: PKCS11URI, deadline: Deadline) -> list[tuple[Certificate, str]]:
    """Every certificate that a URI selects and a token shows without a login, each with a URI that selects it.

    Raises:
        SignerError: the token cannot be found or read.
    """
    return [
        (entry.certificate, contents.token.uri(entry))
        for contents in _search(settings, uri, deadline)
        for entry in contents.certificates
        if entry.selected_by(uri.object_label, uri.object_id)
    ]


class FoundKey(Value):
    """A private key in an open session.

    Args:
        key: the key.
        contents: what the token shows beside it.
        login: the session, logged in where the token wants that.
    """

    key: TokenPrivateKey
    contents: TokenContents
    login: Login

    @property
    def public_key(self) -> bytes | None:
        """The public half as SubjectPublicKeyInfo, or None where the token does not give it."""
        return self.contents.public_key_of(self.key)


class TokenIdentity:
    """Opens the identity whose key is in a token.

    Args:
        settings: where certificate and key are.
        key_uri: selects the key.
        interaction: asks for the PIN where no source is configured.
        deadline: for everything that the token does.
        pins: gives the configured PIN in place of its source.
    """

    def __init__(
        self,
        settings: KeySettings,
        key_uri: PKCS11URI,
        interaction: Interaction,
        deadline: Deadline,
        *,
        pins: PinSupply | None = None,
    ) -> None:
        self._settings = settings
        self._key_uri = key_uri
        self._interaction = interaction
        self._deadline = deadline
        certificate_uri = settings.certificate if isinstance(settings.certificate, PKCS11URI) else None
        self._token_login = TokenLogin(settings, (key_uri, certificate_uri), interaction, deadline, pins=pins)

    def open(self, certificate: CertificateReference, judge: Judge) -> SigningIdentity:
        """Find, check, log in once, find the key; see identity.open_identity()."""
        settings, key_uri = self._settings, self._key_uri
        shown = _search(settings, key_uri, self._deadline)
        match: CertificateMatch | None = None
        if not isinstance(certificate, PKCS11URI):
            assert isinstance(certificate, Path)  # noqa: S101 - a certificate store comes with its own key
            leaf, others = certificates_of_file(certificate, Passphrases(settings, self._interaction))
        else:
            searched = shown if certificate == key_uri else _search(settings, certificate, self._deadline)
            match = match_certificate(searched, certificate)
            if match is None:
                return self._open_with_hidden_certificate(shown, certificate, judge)
            leaf, others = match.entry.certificate, _certificates(match.contents)
        chain = judge(leaf, others)
        token = key_token(shown, leaf, match.contents.token if match else None, key_uri)
        contents = _of(shown, token)
        if not settings.derived_private_key:
            check_public_twin(contents, key_uri, leaf)
        with _kept(self._login(token, leaf)) as login:
            keys = self._private_keys(login.session)
            contents = self._completed(contents, keys, login.session)
            return self._identity(login, self._key_of(leaf, match, contents, keys), leaf, chain)

    def open_signer(self) -> PKCS11Signer:
        """As open(), the key alone; see identity.open_signer()."""
        return self.signer_of(self.find_key())

    def find_key(self, option: str = "--private-key", check: Callable[[Token], None] | None = None) -> FoundKey:
        """Log in and find the key without its certificate. Close the session.

        Args:
            option: what the user names a key with.
            check: raises where the token will not do, before a PIN is asked for.

        Raises:
            SignerError: the token or the key cannot be found, or the PIN is not to be had.
        """
        shown = _search(self._settings, self._key_uri, self._deadline)
        token = key_token(shown, None, None, self._key_uri, option=option)
        if check:
            check(token)
        with _kept(self._login(token, None)) as login:
            contents = self._contents(login.session)
            keys = self._private_keys(login.session)
            key = match_private_key(contents, keys, self._key_uri, None, None, derived=False, option=option)
            return FoundKey(key, contents, login)

    def signer_of(self, found: FoundKey) -> PKCS11Signer:
        """Signs with a key from find_key(), whose session it closes.

        Raises:
            UnsupportedKeyError: it may leave the token, and only one that cannot is wanted.
        """
        with _kept(found.login) as login:
            return self._signer(login, found.key)

    def _open_with_hidden_certificate(
        self, shown: list[TokenContents], uri: PKCS11URI, judge: Judge
    ) -> SigningIdentity:
        """The certificate is private, or named otherwise than its key: it is found after the login."""
        if len(shown) > 1:
            raise _no_certificate(self._key_uri)
        with _kept(self._login(shown[0].token, None)) as login:
            contents = self._contents(login.session)
            keys = self._private_keys(login.session)
            match = match_certificate([contents], uri)
            if match is None:
                match = self._match_by_key(contents, keys, uri)
            leaf = match.entry.certificate
            chain = judge(leaf, _certificates(contents))
            return self._identity(login, self._key_of(leaf, match, contents, keys), leaf, chain)

    def _contents(self, session: TokenSession) -> TokenContents:
        return self._deadline.run(f"token {session.token}", lambda: TokenContents.of(session))

    def _private_keys(self, session: TokenSession) -> list[TokenPrivateKey]:
        """Those that the URI names, so that a token with many is not asked about each; all if it finds none by name."""
        names = (self._key_uri.object_label, self._key_uri.object_id)
        by_name = any(names) and not self._settings.derived_private_key

        def search() -> list[TokenPrivateKey]:
            return (session.private_keys(*names) if by_name else []) or session.private_keys()

        return self._deadline.run(f"token {session.token}", search)

    def _completed(self, shown: TokenContents, keys: list[TokenPrivateKey], session: TokenSession) -> TokenContents:
        """What was read before the login, which need not be read again unless a public half is missing there."""
        if all(shown.public_key_of(key) for key in keys):
            return shown
        public_keys = self._deadline.run(f"token {shown.token}", session.public_keys)
        return TokenContents(shown.token, shown.certificates, tuple(public_keys))

    def _match_by_key(self, contents: TokenContents, keys: list[TokenPrivateKey], uri: PKCS11URI) -> CertificateMatch:
        if uri != self._key_uri:
            raise _no_certificate(uri)
        key = match_private_key(contents, keys, self._key_uri, None, None, derived=False)
        return CertificateMatch(contents, certificate_of_key(contents, key))

    def _key_of(
        self, leaf: Certificate, match: CertificateMatch | None, contents: TokenContents, keys: list[TokenPrivateKey]
    ) -> TokenPrivateKey:
        derived = self._settings.derived_private_key and match is not None
        return match_private_key(contents, keys, self._key_uri, leaf, match.entry if match else None, derived=derived)

    def _identity(
        self, login: Login, key: TokenPrivateKey, leaf: Certificate, chain: tuple[Certificate, ...]
    ) -> SigningIdentity:
        signer = self._signer(login, key)
        return SigningIdentity(leaf, chain, signer, non_exportable=self._settings.require_non_exportable)

    def _signer(self, login: Login, key: TokenPrivateKey) -> PKCS11Signer:
        session = login.session
        log.debug("key: %s%s", session.token.uri(key), ", always authenticate" if key.always_authenticate else "")
        if self._settings.require_non_exportable:
            self._deadline.run(f"token {session.token}", lambda: self._admit(key))
        if key.always_authenticate:
            self._deadline.expect_person()
        opened = OpenKey(key, session, login.accepted)
        # A token that wants no login is opened without one again.
        again = login.accepted.open if login.accepted else Token.open
        reopen = reopener(_module(self._settings, self._key_uri), opened, again, self._admit)
        return PKCS11Signer(opened, reopen, self._deadline, self._interaction.remind)

    def _admit(self, key: TokenPrivateKey) -> None:
        if self._settings.require_non_exportable:
            check_non_exportable(f"the key {key}", key.attributes())

    def _login(self, token: Token, certificate: Certificate | None) -> Login:
        uri = self._key_uri
        if uri.object_label:
            return self._token_login.open(token, uri.object_label)
        key = f"id {uri.object_id.hex(':')}" if uri.object_id else describe(certificate) if certificate else "any"
        return self._token_login.open(token, key)


@contextmanager
def _kept(login: Login) -> Iterator[Login]:
    """The session outlives the block, unless that fails."""
    try:
        yield login
    except BaseException:
        login.session.close()
        raise


def _search(settings: KeySettings, uri: PKCS11URI, deadline: Deadline) -> list[TokenContents]:
    """What every token that a URI selects shows without a login."""

    def search() -> list[TokenContents]:
        shown, failures = [], []
        # Time is left to say who holds the card.
        for token in await_tokens(_module(settings, uri), uri, min(HOLDER_SECONDS, deadline.remaining() - 1)):
            if token.may_want_a_person:
                deadline.expect_person()
            try:
                shown.append(_shown(token))
            except SignerError as error:
                log.debug("%s", error.message)
                failures.append(error)
        if not shown:
            raise failures[0]
        return shown

    return deadline.run(f"the PKCS#11 module {settings.pkcs11_module or uri.module_path or ''}".rstrip(), search)


def _module(settings: KeySettings, uri: PKCS11URI) -> Module:
    return find_module(settings.pkcs11_module, uri, settings.default_pkcs11_module, settings.pkcs11_init_args)


def _shown(token: Token) -> TokenContents:
    session = token.open()
    try:
        return TokenContents.of(session)
    finally:
        session.close()


def _of(shown: Iterable[TokenContents], token: Token) -> TokenContents:
    return next(contents for contents in shown if contents.token is token)


def _certificates(contents: TokenContents) -> list[Certificate]:
    return [entry.certificate for entry in contents.certificates]


def _no_certificate(uri: PKCS11URI) -> CertificateError:
    return CertificateError(
        f"no token shows one certificate that matches {uri.selector()}",
        hint="check the URI's object and id, or name the certificate's file with --certificate FILE",
    )
