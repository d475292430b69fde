"""A private key that is open for signing, and how the same one is found again."""

import logging
from collections.abc import Callable
from typing import Protocol

from pkcs11 import exceptions as codes

from rolekey.certificates import spki
from rolekey.errors import KeyNotFoundError, PinError, SignerError, TokenNotFoundError
from rolekey.tokens.context_signature import ContextSignature
from rolekey.tokens.modules import Module
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.tokens.token import Token, TokenSession
from rolekey.value import Value

log = logging.getLogger(__name__)


class ContextLogin(Protocol):
    """The PIN that the token accepted, for keys that want it at each signature."""

    @property
    def usable(self) -> bool:
        """Whether it may be sent again."""

    def confirm(self, token: Token, signature: ContextSignature) -> None:
        """Begin a signature, with one context login.

        Args:
            token: the token.
            signature: to be finished after this.

        Raises:
            SignerError: as ContextSignature.begin() says, or the PIN is not sent.
        """


class OpenKey(Value):
    """A private key in an open session.

    Args:
        key: found in the session.
        session: logged in, where the token wants a login.
        login: None where the token wants none.
    """

    key: TokenPrivateKey
    session: TokenSession
    login: ContextLogin | None

    @property
    def can_recover(self) -> bool:
        """Whether the token may be logged in to once more."""
        return self.login is None or self.login.usable

    def begin(self, data: bytes, mechanism: str) -> Callable[[], bytes]:
        """Begin one signature; a key that wants the PIN at each gets it now.

        Args:
            data: what the mechanism takes.
            mechanism: its name without ``CKM_``.

        Returns:
            A function that finishes it, for which the token may want to be touched. It returns the mechanism's own
            bytes (ECDSA: r and s, concatenated) and raises SignerError.

        Raises:
            SignerError: the token refused or failed.
        """
        self.key.check_usage()
        if self.login is not None and self.key.always_authenticate:
            return self._confirmed(self.login, data, mechanism)
        return lambda: self._sign(data, mechanism)

    def _confirmed(self, login: ContextLogin, data: bytes, mechanism: str) -> Callable[[], bytes]:
        signature = ContextSignature(self.session, self.key, data, mechanism)
        login.confirm(self.session.token, signature)
        return signature.finish

    def _sign(self, data: bytes, mechanism: str) -> bytes:
        try:
            return self.key.sign(data, mechanism)
        except SignerError as error:
            if self.login is None or not isinstance(error.__cause__, codes.UserNotLoggedIn):
                raise
            # Some cards ask for the PIN at each signature and do not say so in CKA_ALWAYS_AUTHENTICATE.
            log.debug("the token wants the PIN for this signature")
            try:
                finish = self._confirmed(self.login, data, mechanism)
            except SignerError as second:
                if not isinstance(second.__cause__, codes.OperationActive):
                    raise
                raise error from error.__cause__
        return finish()


def reopener(
    module: Module,
    opened: OpenKey,
    login: Callable[[Token], TokenSession],
    admit: Callable[[TokenPrivateKey], None],
) -> Callable[[], OpenKey]:
    """How to find a key again after its token was away.

    Args:
        module: the token's.
        opened: as it was.
        login: opens a session with the same token, found anew, as before.
        admit: raises where the key is not to be used after all: its token was out of sight.

    Returns:
        A function that looks for the same token (by label and serial number) and the same key in it: first through the
        module as it is, then after starting the module anew, which ends every other session of this process with it. It
        raises SignerError.
    """

    def find() -> OpenKey:
        try:
            return _find_again(module, opened, login)
        except PinError:
            raise  # what is refused now must not be sent again
        except SignerError as error:
            log.debug("%s; the module is started anew", error.message)
        module.restart()
        return _find_again(module, opened, login)

    def reopen() -> OpenKey:
        found = find()
        try:
            admit(found.key)
        except BaseException:
            found.session.close()
            raise
        return found

    return reopen


def _find_again(module: Module, opened: OpenKey, login: Callable[[Token], TokenSession]) -> OpenKey:
    token = _same_token(module, opened.session.token)
    session = login(token)
    try:
        for key in session.private_keys():
            if _is_same(key, opened.key):
                return OpenKey(key, session, opened.login)
    except BaseException:
        session.close()
        raise
    session.close()
    raise KeyNotFoundError(
        f"token {token} no longer holds the key {opened.key}",
        hint="put the token back that was in use, and run the command again",
    )


def _same_token(module: Module, before: Token) -> Token:
    for token in module.tokens():
        if (token.label, token.serial, token.model) == (before.label, before.serial, before.model):
            return token
    raise TokenNotFoundError(
        f"token {before} is not there any more",
        hint="put the token back in and run the command again",
    )


def _is_same(key: TokenPrivateKey, before: TokenPrivateKey) -> bool:
    if key.public_key is not None and before.public_key is not None:
        return spki(key.public_key) == spki(before.public_key)
    return (key.label, key.object_id, key.key_type) == (before.label, before.object_id, before.key_type)
