"""An open connection with a TPM: one command at a time, what its answers mean, and what stays loaded."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from tpm2_pytss import TPM2_CAP, TSS2_Exception

from rolekey.deadline import Deadline
from rolekey.errors import (
    PinIncorrectError,
    PinLockedError,
    SignerError,
    TokenNotFoundError,
    TokenOperationError,
    Tries,
)
from rolekey.pin_guard import Verdict
from rolekey.secret import Secret
from rolekey.signers.tpm_return_codes import AUTH_FAIL, BAD_AUTH, FAILURES, LOCKOUT, TRY_AGAIN, name_of, plain
from rolekey.signers.tpm_tcti import TPMAddress
from rolekey.value import Value

log = logging.getLogger(__name__)

T = TypeVar("T")
# Seconds before a busy TPM is asked again: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
_UNLOADING_TRIES = 50
_TCTI_LAYER = 0x0A
# TPM_PT: the three that tell of the lockout stand one after the other; maker and name of the TPM.
_PT_LOCKOUT_COUNTER, _PT_MANUFACTURER, _PT_VENDOR_STRING = 0x20E, 0x105, 0x106


@dataclass(slots=True)
class Trial:
    """A password that goes with commands, and what the TPM's answers say of it.

    Args:
        secret: the password; None for an empty one.
        verdict: as pin_guard means it.
    """

    secret: Secret | None
    verdict: Verdict = "unasked"


class Lockout(Value):
    """What the TPM says of wrong passwords.

    Args:
        counter: how many it holds against everybody.
        maximum: how many lock it.
        interval: seconds after which it forgets one.
    """

    counter: int
    maximum: int
    interval: int

    @property
    def tries(self) -> Tries:
        """What is left."""
        left = self.maximum - self.counter
        if left <= 0:
            return "none"
        return "last" if left == 1 else "low" if self.counter else "unknown"

    @property
    def remedy(self) -> str:
        """When the TPM takes a password again."""
        wait = f"{self.interval} seconds" + (f" ({self.interval // 60} minutes)" if self.interval >= 120 else "")
        return (
            f"it takes one again after at most {wait}; or reset it with the lockout password: "
            "tpm2_dictionarylockout --clear-lockout"
        )


class TPM:
    """An open connection. What `keep` was told of is unloaded when it closes.

    Args:
        esapi: the TSS's context.
        address: for messages.
        check: raises where nobody waits any more.
        note: is told each time that the TPM is busy.
        deadline: how long a busy TPM is asked again.

    Attributes:
        left: the TPM's handles of what could not be unloaded over this connection.
    """

    def __init__(
        self,
        esapi: Any,
        address: TPMAddress,
        check: Callable[[], None],
        note: Callable[[SignerError], None],
        deadline: Deadline,
    ) -> None:
        self.esapi = esapi
        self.address = address
        self._check = check
        self._note = note
        self._deadline = deadline
        self._loaded: list[Any] = []
        self.left: list[int] = []

    def call(self, doing: str, command: Callable[[], T], trial: Trial | None = None) -> T:
        """One command, sent again while the TPM says that it is busy.

        Args:
            doing: what is done, as in "DOING: the TPM answered TPM_RC_...".
            command: sends it.
            trial: the password that goes with it, if one does.

        Raises:
            SignerError: the TPM refused, or is gone.
        """
        pause = FIRST_PAUSE
        while True:
            self._check()
            try:
                if trial is not None:
                    trial.verdict = "unclear"
                result = command()
            except TSS2_Exception as error:
                code = plain(error.rc)
                if trial is not None and code is not None:
                    trial.verdict = "refused" if code in (AUTH_FAIL, BAD_AUTH) else "unasked"
                failure = self._failure(doing, error, trial)
                if code not in TRY_AGAIN or self._deadline.remaining() <= pause:
                    raise failure from error
                self._note(failure)
                log.debug("%s: %s, once more", doing, name_of(error.rc))
            else:
                if trial is not None:
                    trial.verdict = "unasked"
                return result
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def keep(self, handle: Any) -> Any:
        """Have an object or session unloaded when the connection closes.

        Returns:
            The same handle.
        """
        self._loaded.append(handle)
        return handle

    def unload(self, handle: Any) -> None:
        """Unload an object or session now, if it is one that was kept."""
        if handle not in self._loaded:
            return
        self._loaded.remove(handle)
        # Not with call(): what nobody waits for any more is unloaded all the same.
        for _ in range(_UNLOADING_TRIES):
            try:
                self.esapi.flush_context(handle)
            except TSS2_Exception as error:
                if plain(error.rc) not in TRY_AGAIN:
                    log.debug("unload: %s", error)
                    self.left.append(int(self.esapi.tr_get_tpm_handle(handle)))
                    return
                time.sleep(FIRST_PAUSE)
            else:
                return

    def unload_all(self) -> None:
        """Unload everything, last first."""
        while self._loaded:
            self.unload(self._loaded[-1])

    def lockout(self) -> Lockout:
        """How many wrong passwords the TPM has counted, and how many it takes."""
        counter, maximum, interval = self._properties(_PT_LOCKOUT_COUNTER, 3)
        return Lockout(counter, maximum, interval)

    def maker(self) -> tuple[str, str]:
        """The manufacturer and the name that the TPM gives itself."""
        (manufacturer,) = self._properties(_PT_MANUFACTURER, 1)
        return _text([manufacturer]), _text(self._properties(_PT_VENDOR_STRING, 4))

    def _properties(self, first: int, number: int) -> list[int]:
        _, answer = self.call(
            "read the TPM's properties",
            lambda: self.esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, first, number),
        )
        listed = answer.data.tpmProperties
        values = {int(item.property): int(item.value) for item in (listed[i] for i in range(len(listed)))}
        return [values.get(first + offset, 0) for offset in range(number)]

    def _failure(self, doing: str, error: TSS2_Exception, trial: Trial | None) -> SignerError:
        code = plain(error.rc)
        if code is None:
            gone = error.rc >> 16 == _TCTI_LAYER
            return (TokenNotFoundError if gone else TokenOperationError)(
                f"{doing}: the TPM at {self.address} is gone, or its answer cannot be understood ({error})",
                hint="see that the TPM and what stands before it run, and run the command again",
            )
        if code in (AUTH_FAIL, BAD_AUTH):
            return self._wrong_password(doing, error, trial)
        if code == LOCKOUT:
            return self._locked(doing, error)
        kind, hint = FAILURES.get(code, (TokenOperationError, "look the code up with: tpm2_rc_decode"))
        return kind(f"{doing}: the TPM answered {name_of(error.rc)}", hint=hint)

    def _wrong_password(self, doing: str, error: TSS2_Exception, trial: Trial | None) -> PinIncorrectError:
        which, hint = "password", "check the password"
        if trial is None or trial.secret is None:
            which, hint = "empty password", "it has a password: give it with --pin-source, or for a parent with "
            hint += "--tpm-parent-password-source"
        counted = "the TPM does not count that"
        tries: Tries = "unknown"
        if plain(error.rc) == AUTH_FAIL:
            counted = "the TPM has counted that"
            with suppress(SignerError):
                tries = self.lockout().tries
        return PinIncorrectError(
            f"{doing}: the {which} was not accepted; {counted} ({name_of(error.rc)})", hint=hint, tries=tries
        )

    def _locked(self, doing: str, error: TSS2_Exception) -> PinLockedError:
        hint = "wait, or reset it with the lockout password: tpm2_dictionarylockout --clear-lockout"
        with suppress(SignerError):
            hint = self.lockout().remedy
        return PinLockedError(
            f"{doing}: the TPM is locked after wrong passwords ({name_of(error.rc)})", hint=hint, tries="none"
        )


def return_code(error: SignerError) -> int | None:
    """The plain code with which the TPM refused, or None where something else failed."""
    cause = error.__cause__
    return plain(cause.rc) if isinstance(cause, TSS2_Exception) else None


def _text(numbers: list[int]) -> str:
    """What the TPM packs four characters at a time into numbers."""
    octets = b"".join(number.to_bytes(4) for number in numbers)
    return octets.decode("ascii", "replace").replace("\0", "").strip()
