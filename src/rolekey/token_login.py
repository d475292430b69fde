"""The login with a token: which PIN is sent, and that no wrong one is sent twice.

A token counts wrong PINs and locks after a few, for good where there is no PUK. What is sent here is one PIN from one
source, once: a refusal ends the run, and pin_record keeps the next run from sending the same again.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Literal

from rolekey.config import Settings
from rolekey.deadline import Deadline
from rolekey.errors import (
    DeadlineError,
    PinIncorrectError,
    PinNotUsableError,
    PinRequiredError,
    SignerError,
    Tries,
    printable,
)
from rolekey.interaction import Interaction
from rolekey.pin_record import Directories, Entry, PinRecord, TokenName
from rolekey.pin_source import FORMS, PinSource
from rolekey.pins import PinReader, record_directories, usable_pin
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret
from rolekey.tokens.token import PROTECTED, ProtectedAuthentication, Token, TokenSession
from rolekey.tokens.token_info import pin_limits, verdict

log = logging.getLogger(__name__)

_RANK: dict[Tries, int] = {"unknown": 0, "low": 1, "last": 2, "none": 3}
_TRIES_LEFT: dict[Tries, str] = {"low": " (few tries are left)", "last": " (THE LAST TRY)"}


@dataclass(frozen=True, slots=True)
class Login:
    """An open session, and the PIN that the token accepted for it.

    Args:
        session: logged in, where the token wants that.
        accepted: None where the token wants no login.
    """

    session: TokenSession
    accepted: "AcceptedPin | None"

    @property
    def pin(self) -> Secret | None:
        """The PIN itself, for context logins; None where there is none, or where the token's own pad asks for it."""
        secret = self.accepted.secret if self.accepted else None
        return secret if isinstance(secret, Secret) else None


class AcceptedPin:
    """A PIN that a token accepted from this process. It may be sent once more after each recovery of the token.

    Args:
        secret: the PIN, or PROTECTED.
        send: logs in with it as the first login did: under the lock, and noting the result.
    """

    def __init__(
        self,
        secret: Secret | ProtectedAuthentication,
        send: Callable[[Token], TokenSession],
    ) -> None:
        self.secret = secret
        self._send = send
        self._usable = True

    def open(self, token: Token) -> TokenSession:
        """Open a session with the same token, found anew, and log in: one C_Login.

        A PIN that is not accepted this time, or whose answer is not known, is not sent by this process again.

        Args:
            token: the same token after a recovery.

        Raises:
            PinIncorrectError: it was refused, or failed, before.
            SignerError: as Token.open() says.
        """
        if not self._usable:
            raise PinIncorrectError(
                f"the PIN that token {token} accepted before was not accepted again, and is not sent any more",
                hint="start the program anew when the token and the PIN are in order",
                tries=token.tries,
            )
        self._usable = False
        try:
            session = self._send(token)
        except SignerError as error:
            self._usable = verdict(error, tries_lost=False) == "unasked"
            raise
        self._usable = True
        return session


class TokenLogin:
    """Logs in as the settings say. Make it before a module is loaded: a PIN in a variable is taken out of it then.

    Args:
        settings: where the PIN comes from.
        uris: of key and certificate; the first that configures a PIN counts.
        interaction: asks where no source is configured.
        deadline: for the source, for other logins with the same token, and for the token.
        directory: where the record of refused PINs is; as the environment says if not given.
    """

    def __init__(
        self,
        settings: Settings,
        uris: tuple[PKCS11URI | None, ...],
        interaction: Interaction,
        deadline: Deadline,
        directory: Directories | Literal["default"] = "default",
    ) -> None:
        self._settings = settings
        self._reader = PinReader(settings.pin_source, *uris, group_readable=settings.pin_file_group_readable)
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

        def send(found: Token) -> TokenSession:
            return self._send(found, secret, source)

        session = self._deadline.run(f"the login of token {token}", lambda: send(token))
        log.debug("login: token %s", token)
        return Login(session, AcceptedPin(secret, send))

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
            pin = self._deadline.run("the PIN's source", self._reader.read)
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
        role = self._settings.role_arn.role_name
        tries = _TRIES_LEFT.get(token.tries, "")
        answer = self._interaction.ask(printable(f"PIN of token {token}, key {key}{tries} for role {role}: "))
        if answer is None:
            no_source = (
                "no --pin-source, no pin-source in the URI, no PIN pad, " if not self._settings.pin_source else ""
            )
            raise PinRequiredError(
                f"token {token} needs a PIN and there is none to be had: {no_source}"
                "no terminal, no display with a pinentry",
                hint="put it into a file that only you can read and add ?pin-source=file:/absolute/path to the URI, or "
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

    def _send(self, token: Token, secret: Secret | ProtectedAuthentication, source: PinSource) -> TokenSession:
        """Everything between taking the token's lock and giving it back."""
        record = PinRecord(self._directory, TokenName(token.label, token.serial, token.manufacturer, token.model))
        attended = source.kind == "prompt"
        with ExitStack() as stack:
            try:
                stack.enter_context(record.locked(self._deadline))
            except PinNotUsableError as error:
                if not attended:
                    raise _not_sent(error, source) from error
                log.debug("%s: the login is not guarded against others", error.message)
            if not attended and (entry := record.find(source)):
                raise _refused_before(token, entry)
            # Others may have logged in while we waited, or while somebody typed.
            token.refresh()
            self._check_state(token)
            if self._deadline.remaining() <= 0:  # nobody waits for this login any more
                raise DeadlineError(f"no time is left for the login of token {token}", hint="allow more with --timeout")
            if attended:
                return token.open(secret)
            return _send_recorded(token, secret, source, record)


def _send_recorded(
    token: Token, secret: Secret | ProtectedAuthentication, source: PinSource, record: PinRecord
) -> TokenSession:
    try:
        record.write(source, "trying")
    except PinNotUsableError as error:
        raise _not_sent(error, source) from error
    before = token.tries
    try:
        session = token.open(secret)
    except SignerError as error:
        with suppress(SignerError):
            token.refresh()
        judged = verdict(error, tries_lost=_RANK[token.tries] > _RANK[before])
        log.debug("login: the answer says of the PIN from %s: %s", source, judged)
        # What cannot be written now leaves "trying", which counts as much.
        with suppress(PinNotUsableError):
            record.write(source, None if judged == "unasked" else judged)
        if judged != "unasked":
            error.hint = printable(f"correct {source}; the PIN is not sent again {_until(token, source)}")
        raise
    with suppress(PinNotUsableError):
        record.write(source, None)
    return session


def _until(token: Token, source: PinSource) -> str:
    changed = "until the file changes, or " if source.version else ""
    return f"{changed}until you run `rolekey pin forget '{token.uri()}'`"


def _refused_before(token: Token, entry: Entry) -> PinIncorrectError:
    said = "was refused" if entry.state == "refused" else "may have been refused (the answer is not known)"
    return PinIncorrectError(
        f"the PIN from {entry.source} {said} by token {token} at {entry.at} and has not changed: it is not sent again",
        hint=f"correct it; it is not sent {_until(token, entry.source)}",
        tries=token.tries,
    )


def _not_sent(error: PinNotUsableError, source: PinSource) -> PinNotUsableError:
    return PinNotUsableError(f"the PIN from {source} is not sent: {error.message}", hint=error.hint)
