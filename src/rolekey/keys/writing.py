"""A token that is to be written to: which one, whether it can be, and what stands in the way there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, SignerError, TokenStateError, UnsupportedKeyError
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.keys import ARGUMENT
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.signers.pkcs11 import CLOSE_SECONDS
from rolekey.token_login import TokenLogin
from rolekey.tokens.matching import HOLDER_SECONDS, await_tokens, one_token
from rolekey.tokens.modules import find_module
from rolekey.tokens.token import Token, TokenSession
from rolekey.tokens.writing import Stored, TokenWriter, read_only

# What OpenSC calls the manufacturer of a PIV card, and Yubico's module the model of a YubiKey.
_PIV_MANUFACTURER, _YUBIKEY = "piv_II", "YubiKey"


def check_writable(token: Token) -> None:
    """Refuse a token that nothing can be made in with the user's PIN, before that is asked for.

    Raises:
        TokenStateError: it is read-only.
        UnsupportedKeyError: it is a PIV card, which wants its management key for that.
    """
    if token.manufacturer == _PIV_MANUFACTURER or token.model.startswith(_YUBIKEY):
        raise UnsupportedKeyError(
            f"token {token} is a PIV card: keys and certificates are put into it with its management key, not the PIN",
            hint="use the card's own tool, such as `ykman piv keys generate` and `ykman piv certificates import`, or "
            "yubico-piv-tool; rolekey signs with the key then",
        )
    if token.write_protected:
        raise read_only(f"token {token} is read-only (CKF_WRITE_PROTECTED)")


@contextmanager
def writable_token(
    settings: KeySettings, uri: PKCS11URI, interaction: Interaction, deadline: Deadline
) -> Iterator[tuple[Token, TokenWriter]]:
    """Find the one token that a URI selects, open it for writing, then log in: one C_Login.

    Args:
        settings: which module, and where the PIN comes from.
        uri: selects the token.
        interaction: asks for a PIN that no source gives.
        deadline: for everything that the token does.

    Raises:
        AmbiguousMatchError: the URI selects several tokens; no PIN is sent then.
        SignerError, DeadlineError: the token cannot be found, opened or written to, or the PIN is not to be had.
    """
    login = TokenLogin(settings, (uri,), interaction, deadline)  # takes a PIN out of the environment

    def find() -> list[Token]:
        module = find_module(settings.pkcs11_module, uri, settings.default_pkcs11_module, settings.pkcs11_init_args)
        return await_tokens(module, uri, min(HOLDER_SECONDS, deadline.remaining() - 1))

    token = one_token(deadline.run("the PKCS#11 module", find), uri, ARGUMENT)
    check_writable(token)
    # Before the PIN is spent: a token that is read-only says so here. The login counts for this session, too.
    with open_writer(token, deadline) as writer:
        session = login.open(token, uri.object_label or "to be made").session
        try:
            yield token, writer
        finally:
            _close(session)


@contextmanager
def open_writer(token: Token, deadline: Deadline) -> Iterator[TokenWriter]:
    """A session for writing beside the one that logs in.

    Args:
        token: the token.
        deadline: for it.

    Raises:
        TokenStateError: the token is read-only.
    """
    session = deadline.run(f"token {token}", lambda: token.open(writable=True))
    try:
        yield session.write()
    finally:
        _close(session)


def _close(session: TokenSession) -> None:
    with suppress(DeadlineError):
        Deadline(CLOSE_SECONDS).run("the token to close", session.close)


def check_force(token: Token, found: Sequence[Stored], name: str, *, force: bool) -> None:
    """Refuse to replace what is there, unless that is wanted.

    Args:
        token: the token.
        found: what has the name.
        name: what the user named it.
        force: it may be replaced.

    Raises:
        TokenStateError: something is there.
    """
    if found and not force:
        kinds = ", ".join(dict.fromkeys(entry.what for entry in found))
        raise TokenStateError(
            f"token {token} already holds something that matches {name}: {kinds}",
            hint="choose another object or id, or have it replaced with --force (a key that is replaced is lost for "
            "good)",
        )


def remove_all(writer: TokenWriter, token: Token, found: Sequence[Stored], made: str) -> None:
    """Remove what was replaced.

    Args:
        writer: of the token.
        token: the token.
        found: what is removed.
        made: what took its place, which stays there whatever happens.

    Raises:
        TokenStateError: not all of it could be removed.
    """
    try:
        for entry in found:
            writer.remove(entry)
    except SignerError as error:
        raise TokenStateError(
            f"{made} was made in token {token}, but what it replaces could not be removed: {error.message}",
            hint="remove the old one with the token's own tool: while both are there, their name selects neither",
        ) from error
