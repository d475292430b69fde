"""A key in a PKCS#11 token, as far as it is seen without a login."""

import sys
from collections.abc import Iterator, Mapping
from functools import partial

from rolekey.base.local_sockets import local_socket
from rolekey.certificates import spki
from rolekey.doctor.configuration import uris_of
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, failed, known, ok, skipped, warning
from rolekey.errors import ModuleError, SignerError
from rolekey.exportability import verdict
from rolekey.key_settings import KeySettings
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.token_login import name_of_token
from rolekey.tokens.matching import (
    TokenContents,
    await_tokens,
    check_public_twin,
    key_token,
    match_private_key,
)
from rolekey.tokens.modules import Module, find_module
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.tokens.token import Token

_SMART_CARD_MODULES = ("opensc", "ykcs11")
# Where pcscd listens; its clients take another place from the variable.
_SOCKET, _SOCKET_VARIABLE = "/run/pcscd/pcscd.comm", "PCSCLITE_CSOCK_NAME"


def uri_of(key: KeySettings | None) -> PKCS11URI | None:
    """The URI that selects the token: the key's, else the certificate's; None where neither is in one."""
    return next(iter(uris_of(key)), None) if key else None


def check_module(context: Context) -> Iterator[Verdict]:
    """The PKCS#11 module: whether it is there, can be loaded and starts."""
    key, uri = context.facts.key, uri_of(context.facts.key)
    if key is None or uri is None:
        return

    def find() -> Module:
        return find_module(key.pkcs11_module, uri, key.default_pkcs11_module, key.pkcs11_init_args)

    try:
        module = context.facts.module = context.deadline().run("the PKCS#11 module", find)
    except ModuleError as error:
        yield failed(error.message, error.hint)
        return
    yield ok(f"{module.path} is loaded and initialised")


def _named_module(key: KeySettings, uri: PKCS11URI) -> str:
    return key.pkcs11_module or uri.module_path or uri.module_name or key.default_pkcs11_module or ""


def check_pcscd(context: Context) -> Iterator[Verdict]:
    """The service behind modules for smart cards."""
    key, uri = context.facts.key, uri_of(context.facts.key)
    if key is None or uri is None:
        return
    if sys.platform in ("win32", "darwin"):
        return
    path = context.facts.module.path if context.facts.module else _named_module(key, uri)
    if not any(name in path.lower() for name in _SMART_CARD_MODULES):
        return
    place = _socket_of(context.environment)
    context.facts.card_service = False
    connection = local_socket()
    try:
        connection.settimeout(2.0)
        connection.connect(place)
    except PermissionError as error:
        yield failed(
            f"pcscd's socket {place} may not be used: {error.strerror}",
            "run rolekey as a user who may use smart cards, or let this one (pcscd's group, polkit)",
        )
    except OSError as error:
        yield failed(
            f"pcscd, which the module needs for smart cards, does not run: {place}: {error.strerror or 'no answer'}",
            "start it (systemctl enable --now pcscd.socket); in a container, mount /run/pcscd",
        )
    else:
        context.facts.card_service = True
        yield ok(f"pcscd answers at {place}")
    finally:
        connection.close()


def _socket_of(environment: Mapping[str, str]) -> str:
    return environment.get(_SOCKET_VARIABLE) or _SOCKET


def check_token(context: Context) -> Iterator[Verdict]:
    """The token, and what it shows without a login."""
    uri = uri_of(context.facts.key)
    if uri is None:
        return
    module = known(context.facts.module, "the module")
    known(context.facts.card_service or None, "pcscd")
    deadline = context.deadline()
    tokens = deadline.run(f"the tokens of {module.path}", lambda: await_tokens(module, uri, 2.0))
    shown, failures = [], []
    for token in tokens:
        try:
            shown.append(deadline.run(f"token {token}", partial(_shown, token)))
        except SignerError as error:
            failures.append(error)
    if not shown:
        raise failures[0]
    context.facts.shown = shown
    yield from (warning(error.message, error.hint) for error in failures)
    yield ok("; ".join(f"{contents.token} in slot {contents.token.slot_id}" for contents, _ in shown))


def _shown(token: Token) -> tuple[TokenContents, list[TokenPrivateKey]]:
    session = token.open()
    try:
        return TokenContents.of(session), session.private_keys()
    finally:
        session.close()


def check_key_in_token(context: Context) -> Iterator[Verdict]:
    """The key: whether the token shows it, and whether it belongs to the certificate."""
    key = context.facts.key
    if key is None or not isinstance(uri := key.private_key, PKCS11URI):
        return
    shown = known(context.facts.shown, "the token")
    leaf = context.facts.certificate
    homes = (c.token for c, _ in shown if any(entry.certificate == leaf for entry in c.certificates))
    home = next(homes, None) if isinstance(key.certificate, PKCS11URI) else None
    token = key_token([contents for contents, _ in shown], leaf, home, uri)
    contents, keys = next(pair for pair in shown if pair[0].token is token)
    context.facts.contents = contents
    context.facts.holder = name_of_token(token) if token.login_required else None
    if leaf is None:
        yield skipped("which key belongs to the certificate is not known, see above")
        return
    derived = key.derived_private_key and isinstance(key.certificate, PKCS11URI)
    if not derived:
        check_public_twin(contents, uri, leaf)
    visible = keys if derived else [k for k in keys if k.selected_by(uri.object_label, uri.object_id)]
    if visible:
        yield from _of_visible(context, contents, visible, uri, derived=derived)
    else:
        yield _of_hidden(contents, uri, spki(leaf.public_key()), derived=derived)


def _of_visible(
    context: Context, contents: TokenContents, keys: list[TokenPrivateKey], uri: PKCS11URI, *, derived: bool
) -> Iterator[Verdict]:
    leaf = context.leaf
    key = match_private_key(contents, keys, uri, leaf, None, derived=derived)
    key.check_usage()
    attributes = context.deadline().run(f"token {contents.token}", key.attributes)
    context.admit(f"the key {key}", attributes)
    yield ok(f"the key {key} belongs to the certificate; {verdict(attributes)}")


def _of_hidden(contents: TokenContents, uri: PKCS11URI, wanted: bytes, *, derived: bool) -> Verdict:
    halves = [p for p in contents.public_keys if spki(p.public_key) == wanted]
    # Not every token gives both halves of a pair a label.
    fitting = [h for h in halves if derived or h.selected_by(h.label and uri.object_label, uri.object_id)]
    if fitting:
        return ok("its public half is there, and is the certificate's; the key itself is shown after the login")
    if halves:
        uris = "  ".join(contents.token.uri(half) for half in halves)
        return warning(
            f"the token shows no key that {uri.selector()} names, and the certificate's key under another name",
            f"name it with --private-key: {uris}",
        )
    return skipped("the token shows its keys after the login only: --sign finds out")


def check_pin_state(context: Context) -> Iterator[Verdict]:
    """What the token says of its PIN, without one being sent."""
    key = context.facts.key
    if key is None or not isinstance(key.private_key, PKCS11URI):
        return
    token = known(context.facts.contents, "the token").token
    if not token.login_required:
        yield ok("the token wants no PIN")
        return
    token.check_pin_state()
    if token.tries == "last" and not key.use_last_try:
        yield failed(
            f"one try of the PIN of token {token} is left, and it is not spent",
            "make sure of the PIN and give --use-last-try; or log in with the token's own tool, which resets the tries",
        )
    elif token.tries in ("low", "last"):
        yield warning(f"token {token} has seen a wrong PIN: few tries are left", "make sure of the PIN")
    else:
        yield ok(f"token {token} takes a PIN, and says nothing of wrong ones")
