"""A private key that is open for signing, and how the same one is found again."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from rolekey.certificates import spki
from rolekey.errors import KeyNotFoundError, PinError, SignerError, TokenNotFoundError
from rolekey.secret import Secret
from rolekey.tokens.modules import Module
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.tokens.token import Token, TokenSession

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenKey:
    """A private key in an open session.

    Args:
        key: found in the session.
        session: logged in, where the token wants a login.
        pin: the PIN that was accepted, None where none was needed.
    """

    key: TokenPrivateKey
    session: TokenSession
    pin: Secret | None


def reopener(module: Module, opened: OpenKey, login: Callable[[Token], TokenSession]) -> Callable[[], OpenKey]:
    """How to find a key again after its token was away.

    Args:
        module: the token's.
        opened: as it was.
        login: opens a session with the same token, found anew, as before.

    Returns:
        A function that looks for the same token (by label and serial number) and the same key in it: first through the
        module as it is, then after starting the module anew, which ends every other session of this process with it. It
        raises SignerError.
    """

    def reopen() -> OpenKey:
        try:
            return _find_again(module, opened, login)
        except PinError:
            raise  # what is refused now must not be sent again
        except SignerError as error:
            log.debug("%s; the module is started anew", error.message)
        module.restart()
        return _find_again(module, opened, login)

    return reopen


def _find_again(module: Module, opened: OpenKey, login: Callable[[Token], TokenSession]) -> OpenKey:
    token = _same_token(module, opened.session.token)
    session = login(token)
    try:
        for key in session.private_keys():
            if _is_same(key, opened.key):
                return OpenKey(key, session, opened.pin)
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
