"""Every token of every module that is found: its keys and certificates, and whether IAM Roles Anywhere can use them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.serialization import load_der_public_key

from rolekey.certificates import describe, spki
from rolekey.deadline import Deadline
from rolekey.errors import (
    AmbiguousMatchError,
    DeadlineError,
    ModuleError,
    PinError,
    SignerError,
    TokenNotFoundError,
)
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.keys.inspect import kind_of
from rolekey.keys.rows import Listing, Row
from rolekey.keys.usability import use_of_certificate, use_of_key
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.signers.pkcs11 import CLOSE_SECONDS
from rolekey.token_login import TokenLogin
from rolekey.tokens.matching import MAX_LISTED, TokenContents
from rolekey.tokens.modules import Module, find_module, load_module
from rolekey.tokens.objects import TokenCertificate, TokenObject, TokenPrivateKey
from rolekey.tokens.search import places, usual_modules
from rolekey.tokens.token import Token, TokenSession

T = TypeVar("T")
# What one module or token may take, so that one that hangs hides no other.
_SECONDS_EACH = 10.0
NO_CERTIFICATE = "with --certificate FILE: the token shows no certificate for it"
HIDDEN = "not logged in: whether the private keys are there is seen with --login"


class TokenLister:
    """Looks at tokens.

    Args:
        settings: which module, if not every one that is found; where the PIN comes from.
        uri: selects tokens.
        interaction: asks for PINs, where a login is wanted.
        deadline: for all of it.
        now: aware datetime.
        login: log in. Otherwise nothing is asked for or sent.
    """

    def __init__(
        self,
        settings: KeySettings,
        uri: PKCS11URI,
        interaction: Interaction,
        deadline: Deadline,
        now: datetime,
        *,
        login: bool,
    ) -> None:
        self._settings = settings
        self._uri = uri
        self._deadline = deadline
        self._now = now
        self._named = settings.pkcs11_module or uri.module_path or uri.module_name or settings.default_pkcs11_module
        self._login = TokenLogin(settings, (uri,), interaction, deadline) if login else None

    def listings(self) -> Iterator[Listing]:
        """One for each token, and one for each module that cannot be used.

        Raises:
            ModuleError: the module that was named cannot be used.
            TokenNotFoundError: the URI selects no token.
            AmbiguousMatchError: one PIN is configured, and more than one token would be sent it.
            PinError: a login failed; no other one is tried then.
        """
        found: list[tuple[Module, Token]] = []
        seen: set[tuple[str, ...]] = set()
        for path, load in self._modules():
            try:
                module, tokens = self._within(f"the PKCS#11 module {path}", partial(_tokens, load))
            except (ModuleError, DeadlineError) as error:
                if self._named:
                    raise
                yield Listing(f"module {path}", note=error.message)
                continue
            # What p11-kit's proxy shows, its own module shows, too.
            new = [token for token in tokens if token.initialized and _name(token) not in seen]
            seen.update(map(_name, new))
            found += [(module, token) for token in new if token.matches(self._uri)]
        if not found and self._uri != PKCS11URI():
            raise TokenNotFoundError(
                f"no token matches {self._uri.selector()}",
                hint="`rolekey key list` alone shows every token that is found",
            )
        self._check_one_pin([token for _, token in found])
        for module, token in found:
            yield self._listing(module, token)

    def _modules(self) -> Iterator[tuple[str, Callable[[], Module]]]:
        settings, uri = self._settings, self._uri
        if named := self._named:
            default = settings.default_pkcs11_module
            yield named, partial(find_module, settings.pkcs11_module, uri, default, settings.pkcs11_init_args)
            return
        for path in usual_modules(places()):
            yield path, partial(load_module, path)

    def _within(self, what: str, work: Callable[[], T]) -> T:
        return Deadline(min(_SECONDS_EACH, self._deadline.remaining())).run(what, work)

    def _check_one_pin(self, tokens: list[Token]) -> None:
        source = self._settings.pin_source
        has_one = (
            (source is not None and source.kind not in ("prompt", "none"))
            or self._uri.pin_source
            or self._uri.pin_value
        )
        wanting = [token for token in tokens if token.login_required]
        if self._login is not None and has_one and len(wanting) > 1:
            uris = tuple(token.uri() for token in wanting)
            raise AmbiguousMatchError(
                f"one PIN is configured, and {len(uris)} tokens would be sent it",
                hint="name the token that it is for: " + "  ".join(uris[:MAX_LISTED]),
                candidates=uris,
            )

    def _listing(self, module: Module, token: Token) -> Listing:
        title = f"token {token}, module {module.path}"
        try:
            session = self._open(token)
        except PinError:
            raise
        except (SignerError, DeadlineError) as error:
            return Listing(title, note=error.message)
        try:
            contents = self._within(f"token {token}", lambda: TokenContents.of(session))
            keys = self._within(f"token {token}", session.private_keys)
        except (SignerError, DeadlineError) as error:
            return Listing(title, note=error.message)
        finally:
            with suppress(DeadlineError):
                Deadline(CLOSE_SECONDS).run("the token to close", session.close)
        hidden = self._login is None and token.login_required
        rows = _Rows(module, contents, keys, self._now, hidden=hidden)
        return Listing(title, tuple(rows), HIDDEN if hidden else "")

    def _open(self, token: Token) -> TokenSession:
        if self._login is None:
            return self._within(f"token {token}", token.open)
        return self._login.open(token, "any").session


def _tokens(load: Callable[[], Module]) -> tuple[Module, list[Token]]:
    module = load()
    return module, list(module.tokens())


def _name(token: Token) -> tuple[str, ...]:
    return token.label, token.serial, token.manufacturer, token.model


class _Rows:
    """The rows of one token: each private key, then the certificates and public keys that belong to none of them.

    Args:
        module: the token's.
        contents: its certificates and public keys.
        keys: its private keys.
        now: aware datetime.
        hidden: private keys may be there that are not shown.
    """

    def __init__(
        self, module: Module, contents: TokenContents, keys: list[TokenPrivateKey], now: datetime, *, hidden: bool
    ) -> None:
        self._module = module
        self._contents = contents
        self._keys = keys
        self._now = now
        self._hidden = hidden

    def __iter__(self) -> Iterator[Row]:
        halves = {half for key in self._keys if (half := self._contents.public_key_of(key))}
        certified = {spki(entry.certificate.public_key()) for entry in self._contents.certificates}
        for key in self._keys:
            yield from self._of_key(key)
        for entry in self._contents.certificates:
            if spki(entry.certificate.public_key()) in halves or any(_same_id(entry, key) for key in self._keys):
                continue
            use = use_of_certificate(entry.certificate, self._now)
            if use.startswith("usable") and not self._hidden:
                use = "no: its private key is not in this token"
            yield Row(self._uri(entry), _kind_and_name(entry), use)
        use = NO_CERTIFICATE if self._hidden else "no: only its public half is in this token"
        for public in self._contents.public_keys:
            known = spki(public.public_key) in halves | certified
            if not known and not any(_same_id(public, key) for key in self._keys):
                yield Row(self._uri(public), kind_of(public.public_key), use)

    def _of_key(self, key: TokenPrivateKey) -> Iterator[Row]:
        half = self._contents.public_key_of(key)
        entries = [entry for entry in self._contents.certificates if self._belongs(entry, key, half)]
        for entry in entries:
            use = use_of_key(key) or use_of_certificate(entry.certificate, self._now)
            yield Row(self._uri(key), _kind_and_name(entry), use)
        if not entries:
            kind = kind_of(load_der_public_key(half)) if half else key.key_type
            use = use_of_key(key) or NO_CERTIFICATE
            yield Row(self._uri(key), kind, use)

    def _belongs(self, entry: TokenCertificate, key: TokenPrivateKey, half: bytes | None) -> bool:
        return spki(entry.certificate.public_key()) == half if half else _same_id(entry, key)

    def _uri(self, entry: TokenObject) -> str:
        """It names the module, since the next command would look for one in its own order."""
        path = self._module.path
        uri = PKCS11URI.parse(self._contents.token.uri(entry))
        return str(replace(uri, module_path=str(Path(path).absolute()) if Path(path).name != path else None))


def _same_id(entry: TokenObject, key: TokenPrivateKey) -> bool:
    return bool(key.object_id) and entry.object_id == key.object_id


def _kind_and_name(entry: TokenCertificate) -> str:
    return f"{kind_of(entry.certificate.public_key())}, certificate {describe(entry.certificate)}"
