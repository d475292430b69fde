"""The login with a token: which PIN is sent, and that no wrong one is sent twice.

A token counts wrong PINs and locks after a few, for good where there is no PUK. What is sent here is one PIN from one
source, once: a refusal ends the run, and pin_guard keeps the next run from sending the same again.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Protocol, TypeVar

from rolekey.base.advice import FILE_FORM, NOBODY_TO_ASK
from rolekey.deadline import Deadline
from rolekey.errors import (
    PinIncorrectError,
    PinNotUsableError,
    PinRequiredError,
    SignerError,
    Tries,
    printable,
)
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.pin_guard import PinGuard, PinTarget, Verdict
from rolekey.pin_record import Directories, TokenName
from rolekey.pin_source import FORMS, PinSource
from rolekey.pins import PinReader, PinSupply, record_directories, usable_pin
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret
from rolekey.tokens.context_signature import ContextSignature
from rolekey.tokens.token import PROTECTED, ProtectedAuthentication, Token, TokenSession
from rolekey.tokens.token_info import pin_limits, verdict
from rolekey.value import Value

log = logging.getLogger(__name__)

T = TypeVar("T")
_RANK: dict[Tries, int] = {"unknown": 0, "low": 1, "last": 2, "none": 3}
_TRIES_LEFT: dict[Tries, str] = {"low": " (few tries are left)", "last": " (THE LAST TRY)"}


class Attempt(Protocol):
    """Has a PIN sent under the lock of its token, and notes the result."""

    def __call__(self, token: Token, send: Callable[[], T], asked: Callable[[], bool]) -> T:
        """Send it once.

        Args:
            token: the token.
            send: sends it.
            asked: whether `send`, which failed, has come to the sending.
        """


class AcceptedPin:
    """A PIN that a token accepted from this process.

    It may be sent once more for each signature that wants it, and after each recovery of the token. One that is not
    accepted then, or whose answer is not known, is not sent by this process again.

    Args:
        secret: the PIN, or PROTECTED.
        attempt: has it sent.
        supply: is told whether it may be sent again.
    """

    def __init__(self, secret: Secret | ProtectedAuthentication, attempt: Attempt, supply: PinSupply) -> None:
        self.secret = secret
        self.usable = True
        self._attempt = attempt
        self._supply = supply

    def open(self, token: Token) -> TokenSession:
        """Open a session with the same token, found anew, and log in: one C_Login.

        Args:
            token: the same token after a recovery.

        Raises:
            PinIncorrectError: it was refused, or failed, before.
            SignerError: as Token.open() says.
        """
        return self._send(token, lambda: token.open(self.secret), lambda: True)

    def confirm(self, token: Token, signature: ContextSignature) -> None:
        """Begin a signature with one context login, as ContextLogin.confirm() says.

        Raises:
            PinIncorrectError: it was refused, or failed, before.
            SignerError: as ContextSignature.begin() says.
        """
        self._send(token, lambda: signature.begin(self.secret), lambda: signature.asked)

    def _send(self, token: Token, send: Callable[[], T], asked: Callable[[], bool]) -> T:
        if not self.usable:
            raise PinIncorrectError(
                f"the PIN that token {token} accepted before was not accepted again, and is not sent any more",
                hint="start the program anew when the token and the PIN are in order",
                tries=token.tries,
            )

        def sending() -> T:
            self._note(usable=False)
            return send()

        try:
            result = self._attempt(token, sending, asked)
        except SignerError as error:
            if not self.usable and (not asked() or verdict(error, tries_lost=False) == "unasked"):
                self._note(usable=True)
            raise
        self._note(usable=True)
        return result

    def _note(self, *, usable: bool) -> None:
        self.usable = usable
        self._supply.note(usable=usable)


class Login(Value):
    """An open session, and the PIN that the token accepted for it.

    Args:
        session: logged in, where the token wants that.
        accepted: None where the token wants no login.
    """

    session: TokenSession
    accepted: AcceptedPin | None


class TokenLogin:
    """Logs in as the settings say. Make it before a module is loaded: a PIN in a variable is taken out of it then.

    Args:
        settings: where the PIN comes from.
        uris: of key and certificate; the first that configures a PIN counts.
        interaction: asks where no source is configured.
        deadline: for the source, for other logins with the same token, and for the token.
        directory: where the record of refused PINs is; as the environment says if not given.
        pins: gives the configured PIN in place of a PinReader.
    """

    def __init__(
        self,
        settings: KeySettings,
        uris: tuple[PKCS11URI | None, ...],
        interaction: Interaction,
        deadline: Deadline,
        directory: Directories | Literal["default"] = "default",
        *,
        pins: PinSupply | None = None,
    ) -> None:
        self._settings = settings
        self._pins = pins or PinReader(settings.pin_source, *uris, group_readable=settings.pin_file_group_readable)
        self._interaction = interaction
        self._deadline = deadline
        self._directory = record_directories() if directory == "default" else directory

    def open(self, token: Token, key: str) -> Login:
        """Open a session and log in, if the token wants that: at most one C_Login.

        Args:
            token: the token.
            key: what the question calls the key.

        Raises:
            PinError: there is no PIN, it cannot be one, it is not to be sent, or it was not accepted.
            SignerError: the token failed.
            DeadlineError: the time was over.
        """
        if not token.login_required:
            session = self._deadline.run(f"token {token}", token.open)
            log.debug("login: token %s wants none", token)
            return Login(session, None)
        self._check_state(token)
        secret, source = self._pin(token, key)
        if isinstance(secret, Secret):
            self._check_length(token, secret, source)

        accepted = AcceptedPin(secret, self._attempt_with(secret, source), self._pins)
        session = self._deadline.run(f"the login of token {token}", lambda: accepted.open(token))
        log.debug("login: token %s", token)
        return Login(session, accepted)

    def _check_state(self, token: Token) -> None:
        token.check_pin_state()
        if token.tries == "last" and not self._settings.use_last_try:
            raise PinNotUsableError(
                f"one try of the PIN of token {token} is left, and it is not spent",
                hint="make sure of the PIN and give --use-last-try; or log in with the token's own tool, which resets "
                "the tries",
                tries="last",
            )

    def _pin(self, token: Token, key: str) -> tuple[Secret | ProtectedAuthentication, PinSource]:
        named = self._settings.pin_source
        if named is None or named.kind not in ("prompt", "none"):
            pin = self._deadline.run("the PIN's source", self._pins.read)
            if pin is not None:
                return pin.secret, pin.source
        if named is None and token.protected_authentication_path:
            return PROTECTED, PinSource("prompt")
        if named is not None and named.kind == "none":
            raise PinRequiredError(
                f"token {token} needs a PIN, and --pin-source is none", hint=f"give one of {FORMS} to --pin-source"
            )
        return self._ask(token, key), PinSource("prompt")

    def _ask(self, token: Token, key: str) -> Secret:
        tries = _TRIES_LEFT.get(token.tries, "")
        question = printable(f"PIN of token {token}, key {key}{tries}{self._settings.purpose}: ")
        answer = self._interaction.ask(question, token.uri())
        if answer is None:
            no_source = (
                "no --pin-source, no pin-source in the URI, no PIN pad, " if not self._settings.pin_source else ""
            )
            raise PinRequiredError(
                f"token {token} needs a PIN and there is none to be had: {no_source}{NOBODY_TO_ASK}",
                hint=f"put it into a file that only you can read and add ?pin-source={FILE_FORM} to the URI, or "
                f"give --pin-source one of {FORMS}",
            )
        return usable_pin(answer, "the terminal")

    def _check_length(self, token: Token, pin: Secret, source: PinSource) -> None:
        limits = self._deadline.run(f"token {token}", lambda: pin_limits(token))
        if not limits.allow(len(pin.reveal().encode())):
            upper = f" to {limits.maximum}" if limits.maximum is not None else " or more"
            raise PinNotUsableError(
                f"the PIN from {source} is not of a length that token {token} takes",
                hint=f"it was not sent; the token takes {limits.minimum}{upper} bytes; correct the source",
                tries=token.tries,
            )

    def _attempt_with(self, secret: Secret | ProtectedAuthentication, source: PinSource) -> Attempt:
        def attempt(token: Token, send: Callable[[], T], asked: Callable[[], bool]) -> T:
            before: list[Tries] = []

            def ready() -> None:
                # Others may have logged in while we waited, or while somebody typed.
                token.refresh()
                self._check_state(token)
                before.append(token.tries)
                if secret is PROTECTED:
                    self._interaction.remind(printable(f"Use the token's PIN pad: token {token} asks for its PIN."))

            def judge(error: SignerError) -> Verdict:
                if not asked():
                    return "unasked"
                with suppress(SignerError):
                    token.refresh()
                return verdict(error, tries_lost=_RANK[token.tries] > _RANK[before[0]])

            guard = PinGuard(self._directory, _target(token), source, self._deadline)
            return guard.attempt(send, judge, ready=ready)

        return attempt


def _target(token: Token) -> PinTarget:
    name = name_of_token(token)
    return PinTarget(name, f"token {token}", token.uri(), lambda: token.tries)


def name_of_token(token: Token) -> TokenName:
    """What the record of refused PINs calls a token.

    Args:
        token: the token.
    """
    return TokenName(token.label, token.serial, token.manufacturer, token.model)
