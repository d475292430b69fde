"""The one private key that a URI names in a PKCS#11 token, without a certificate that it would have to fit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from rolekey.deadline import Deadline
from rolekey.errors import AmbiguousMatchError, DeadlineError
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.signers.pkcs11 import CLOSE_SECONDS
from rolekey.token_identity import search_tokens
from rolekey.token_login import Login, TokenLogin
from rolekey.tokens.matching import MAX_LISTED, TokenContents, match_private_key
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.tokens.token import Token
from rolekey.value import Value

ARGUMENT = "KEY"  # what the command line calls the URI


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


@contextmanager
def open_token_key(
    settings: KeySettings, uri: PKCS11URI, interaction: Interaction, deadline: Deadline
) -> Iterator[FoundKey]:
    """Log in and find the key, for the length of a with block.

    Args:
        settings: where the PIN comes from.
        uri: selects the key.
        interaction: asks for the PIN where no source is configured.
        deadline: for everything that the token does.

    Raises:
        SignerError: as search_tokens(), TokenLogin.open() and match_private_key() say.
    """
    token_login = TokenLogin(settings, (uri,), interaction, deadline)
    token = _one_token(search_tokens(settings, uri, deadline), uri)
    login = token_login.open(token, uri.object_label or (f"id {uri.object_id.hex(':')}" if uri.object_id else "any"))
    session = login.session
    try:
        contents = deadline.run(f"token {token}", lambda: TokenContents.of(session))
        keys = deadline.run(f"token {token}", session.private_keys)
        key = match_private_key(contents, keys, uri, None, None, derived=False, option=ARGUMENT)
        yield FoundKey(key, contents, login)
    finally:
        with suppress(DeadlineError):
            Deadline(CLOSE_SECONDS).run("the token to close", session.close)


def _one_token(shown: Sequence[TokenContents], uri: PKCS11URI) -> Token:
    """The token to log in to; never one of several, since a PIN may be meant for another of them."""
    if len(shown) > 1:
        uris = tuple(contents.token.uri() for contents in shown)
        raise AmbiguousMatchError(
            f"{len(uris)} tokens match {uri.selector()}",
            hint=f"name one in {ARGUMENT}: " + "  ".join(uris[:MAX_LISTED]),
            candidates=uris,
        )
    return shown[0].token
