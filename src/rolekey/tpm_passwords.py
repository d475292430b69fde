"""Sending the passwords of a key in a TPM and of its parent: each once, and no wrong one twice.

Most TPM keys count wrong passwords, all against one counter of the TPM, which then locks all of them for a time.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rolekey.deadline import Deadline
from rolekey.errors import PinIncorrectError, PinLockedError, PinNotUsableError, Tries
from rolekey.pin_guard import PinGuard, PinTarget
from rolekey.pin_record import PinRecord, TokenName
from rolekey.pin_source import PinSource
from rolekey.pins import Pin, PinSupply
from rolekey.signers.tpm_authorization import Trials
from rolekey.signers.tpm_connection import TPM, Lockout, Trial


@dataclass(frozen=True, slots=True)
class Holder:
    """What a password belongs to.

    Args:
        name: under which refused sources are recorded.
        text: what messages call it.
        longest: how many bytes its password can have.
        counted: wrong ones count against the TPM's lockout.
    """

    name: TokenName
    text: str
    longest: int
    counted: bool

    def target(self, tries: Callable[[], Tries]) -> PinTarget:
        """As pin_guard wants it."""
        return PinTarget(self.name, self.text, f"pkcs11:serial={self.name.serial}", tries, "password")


class TPMPasswords:
    """Sends the passwords of one key and its parent with its signatures, each guarded.

    Args:
        directory: rolekey's state directory.
        deadline: for other processes that send a password to the same key.
        supply: is told whether the key's password may be sent again.
        use_last_try: the TPM's last try may be spent.

    Attributes:
        key, parent: a password, and what it belongs to.
        empty: the key, and who says that it has none.
    """

    def __init__(self, directory: Path | None, deadline: Deadline, supply: PinSupply, *, use_last_try: bool) -> None:
        self.key: tuple[Holder, Pin] | None = None
        self.parent: tuple[Holder, Pin] | None = None
        self.empty: tuple[Holder, PinSource] | None = None
        self._directory = directory
        self._deadline = deadline
        self._supply = supply
        self._use_last_try = use_last_try
        self._spent = False

    def send(self, tpm: TPM, work: Callable[[Trials], bytes]) -> bytes:
        """Do the work with the passwords, as signers.tpm.Passwords says.

        Raises:
            PinIncorrectError: one was refused, now or before.
            PinNotUsableError: no record can be kept, or the TPM's last try is left.
        """
        if self._spent:
            raise PinIncorrectError(
                "a password was not accepted by the TPM before, and is not sent any more",
                hint="start the program anew when the TPM and the password are in order",
            )
        trials = Trials(_trial(self.key), _trial(self.parent))

        def run() -> bytes:
            return work(trials)

        if self.empty is not None and self.empty[0].counted:
            run = self._watched(run, *self.empty)
        for password, trial in ((self.key, trials.key), (self.parent, trials.parent)):
            if password is not None and trial is not None:
                run = self._guarded(tpm, run, password, trial)
        self._note(usable=False)
        try:
            return run()
        finally:
            self._spent |= any(trial.verdict != "unasked" for trial in (trials.key, trials.parent) if trial)
            self._note(usable=trials.key is None or trials.key.verdict == "unasked")

    def _note(self, *, usable: bool) -> None:
        if self.key is not None:
            self._supply.note(usable=usable)

    def _guarded(
        self, tpm: TPM, run: Callable[[], bytes], password: tuple[Holder, Pin], trial: Trial
    ) -> Callable[[], bytes]:
        holder, pin = password
        seen: list[Lockout] = []

        def ready() -> None:
            # Others may have spent tries while we waited, or while somebody typed.
            if holder.counted:
                seen.append(tpm.lockout())
                check_lockout(seen[-1], use_last_try=self._use_last_try)

        target = holder.target(lambda: seen[-1].tries if seen else "unknown")
        guard = PinGuard(self._directory, target, pin.source, self._deadline)
        return lambda: guard.attempt(run, lambda _error: trial.verdict, ready=ready)

    def _watched(self, run: Callable[[], bytes], holder: Holder, source: PinSource) -> Callable[[], bytes]:
        """The guard for a key that is said to have no password: whoever is killed meanwhile has done nothing wrong.

        Nothing is noted before the TPM has refused, and where nothing can be noted the key is used all the same.
        """

        def watched() -> bytes:
            record = PinRecord(self._directory, holder.name)
            entry = None
            with suppress(PinNotUsableError):
                entry = record.find(source)
            if entry is not None:
                raise PinIncorrectError(
                    f"{holder.text} has a password: without one it was refused at {entry.at}, which is not tried again",
                    hint="give the password with --pin-source; if it has none now, run "
                    f"`rolekey pin forget 'pkcs11:serial={holder.name.serial}'`",
                )
            try:
                return run()
            except PinIncorrectError:
                self._spent = True
                with suppress(PinNotUsableError), record.locked(self._deadline):
                    record.write(source, "refused")
                raise

        return watched


def check_lockout(lockout: Lockout, *, use_last_try: bool) -> None:
    """Refuse to send a password that the TPM would not take, or the last one before it locks.

    Args:
        lockout: what the TPM says.
        use_last_try: the last one may be sent.

    Raises:
        PinLockedError: the TPM takes none.
        PinNotUsableError: one try is left.
    """
    if lockout.tries == "none":
        raise PinLockedError(
            f"the TPM is locked after {lockout.counter} wrong passwords", hint=lockout.remedy, tries="none"
        )
    if lockout.tries == "last" and not use_last_try:
        raise PinNotUsableError(
            "one more wrong password would lock the TPM, and none is sent",
            hint=f"make sure of the password and give --use-last-try; the TPM forgets a wrong one every "
            f"{lockout.interval} seconds, and all with tpm2_dictionarylockout --clear-lockout",
            tries="last",
        )


def _trial(password: tuple[Holder, Pin] | None) -> Trial | None:
    return Trial(password[1].secret) if password is not None else None
