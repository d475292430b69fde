"""Sending the passwords of a key in a TPM and of its parent: each once, and no wrong one twice.

Most TPM keys count wrong passwords, all against one counter of the TPM, which then locks all of them for a time.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from rolekey.base.advice import in_quotes
from rolekey.deadline import Deadline
from rolekey.errors import PinIncorrectError, PinLockedError, PinNotUsableError, Tries
from rolekey.pin_guard import PinGuard, PinTarget
from rolekey.pin_record import Directories, PinRecord, TokenName
from rolekey.pin_source import PinSource
from rolekey.pins import PinSupply
from rolekey.secret import Secret
from rolekey.signers.tpm_authorization import Trials
from rolekey.signers.tpm_connection import TPM, Lockout, Trial
from rolekey.value import Value

T = TypeVar("T")


class Holder(Value):
    """What a password belongs to.

    Args:
        name: under which refused sources are recorded.
        text: what messages call it.
        option: what gives its password.
        longest: how many bytes its password can have.
        counted: wrong ones may count against the TPM's lockout.
    """

    name: TokenName
    text: str
    option: str
    longest: int
    counted: bool

    @property
    def forget(self) -> str:
        """The URI with which ``rolekey pin forget`` selects it."""
        return f"pkcs11:serial={self.name.serial}"


class Password(Value):
    """A password, or that there is none, and who says so.

    Args:
        holder: what it belongs to.
        source: where it comes from.
        secret: the password; None where it is empty.
    """

    holder: Holder
    source: PinSource
    secret: Secret | None


class TPMPasswords:
    """Sends the passwords of one key and its parent with its signatures, each guarded.

    Args:
        key: the key's; None where it is used without one.
        parent: the parent's; None where the key is used without it.
        directories: where the record of refused sources is.
        deadline: for other processes that send a password to the same key.
        supply: is told whether the key's password may be sent again.
        use_last_try: the TPM's last try may be spent.
    """

    def __init__(
        self,
        key: Password | None,
        parent: Password | None,
        directories: Directories,
        deadline: Deadline,
        supply: PinSupply,
        *,
        use_last_try: bool,
    ) -> None:
        self._key = key
        self._parent = parent
        self._directories = directories
        self._deadline = deadline
        self._supply = supply
        self._use_last_try = use_last_try
        self._spent = False

    def send(self, tpm: TPM, work: Callable[[Trials], T]) -> T:
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
        trials = Trials(_trial(self._key), _trial(self._parent))

        def run() -> T:
            return work(trials)

        for password, trial in ((self._key, trials.key), (self._parent, trials.parent)):
            if password is not None and trial is not None:
                guard = self._watched if password.secret is None else self._guarded
                run = guard(tpm, run, password, trial)
        self._note(usable=False)
        try:
            return run()
        finally:
            self._spent = any(_is_spent(trial) for trial in (trials.key, trials.parent) if trial is not None)
            self._note(usable=trials.key is None or not _is_spent(trials.key))

    def _note(self, *, usable: bool) -> None:
        if self._key is not None and self._key.secret is not None:
            self._supply.note(usable=usable)

    def _guarded(self, tpm: TPM, run: Callable[[], T], password: Password, trial: Trial) -> Callable[[], T]:
        holder = password.holder
        seen: list[Lockout] = []

        def ready() -> None:
            # Others may have spent tries while we waited, or while somebody typed.
            if holder.counted:
                seen.append(tpm.lockout())
                check_lockout(seen[-1], use_last_try=self._use_last_try)

        def tries() -> Tries:
            return seen[-1].tries if seen else "unknown"

        target = PinTarget(holder.name, holder.text, holder.forget, tries, "password")
        guard = PinGuard(self._directories, target, password.source, self._deadline)
        return lambda: guard.attempt(run, lambda _error: trial.verdict, ready=ready)

    def _watched(self, _tpm: TPM, run: Callable[[], T], password: Password, trial: Trial) -> Callable[[], T]:
        """The guard for what is said to have no password: whoever is killed meanwhile has done nothing wrong.

        Nothing is noted before the TPM has refused, and where nothing can be noted the key is used all the same.
        """
        holder = password.holder
        record = PinRecord(self._directories, holder.name)

        def watched() -> T:
            entry = None
            with suppress(PinNotUsableError):
                entry = record.find(password.source) if holder.counted else None
            if entry is not None:
                raise PinIncorrectError(
                    f"{holder.text} has a password: without one it was refused at {entry.at}, which is not tried again",
                    hint=f"give the password with {holder.option}; if it has none now, run "
                    f"`rolekey pin forget {in_quotes(holder.forget)}`",
                )
            try:
                return run()
            except PinIncorrectError:
                if holder.counted and trial.verdict == "refused":
                    with suppress(PinNotUsableError), record.locked(self._deadline):
                        record.write(password.source, "refused")
                raise

        return watched


def _trial(password: Password | None) -> Trial | None:
    return Trial(password.secret) if password is not None else None


def _is_spent(trial: Trial) -> bool:
    """Whether this process does not send a password again; one that is empty tells nobody anything."""
    return trial.verdict == "refused" or (trial.verdict == "unclear" and trial.secret is not None)


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
