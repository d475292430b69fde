"""The guard around every PIN that is sent: what counts wrong ones gets none twice.

Between taking a device's lock and giving it back, the record is read, "trying" is written, the PIN is sent and what
came of it is written. Nothing of PKCS#11 or of a TPM is known here: whoever sends says how, and what an answer means.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Literal, TypeVar

from rolekey.base.advice import in_quotes
from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, PinIncorrectError, PinNotUsableError, SignerError, Tries, printable
from rolekey.pin_record import Directories, Entry, PinRecord, TokenName
from rolekey.pin_source import PinSource
from rolekey.value import Value

log = logging.getLogger(__name__)

T = TypeVar("T")
Verdict = Literal["refused", "unasked", "unclear"]


class PinTarget(Value):
    """What counts wrong PINs: a token, or a key in a TPM.

    Args:
        name: under which it is recorded.
        text: what messages call it, such as ``token a (serial 1)``.
        forget: the URI with which ``rolekey pin forget`` selects it.
        tries: gives what it said last of the tries that are left.
        secret: what messages call what is sent.
    """

    name: TokenName
    text: str
    forget: str
    tries: Callable[[], Tries]
    secret: str = "PIN"  # noqa: S105 - the word, not one


class PinGuard:
    """Sends PINs from one source to one target.

    A typed PIN (the source is ``prompt``) is not recorded, and is sent where no record can be kept.

    Args:
        directories: where the record is, as PinRecord has them.
        target: what the PIN is sent to.
        source: where the PIN comes from, as it was when the PIN was read.
        deadline: for other processes that send a PIN to the same target.
    """

    def __init__(self, directories: Directories, target: PinTarget, source: PinSource, deadline: Deadline) -> None:
        self._record = PinRecord(directories, target.name)
        self._target = target
        self._source = source
        self._attended = source.kind == "prompt"
        self._deadline = deadline

    def attempt(
        self,
        send: Callable[[], T],
        judge: Callable[[SignerError], Verdict],
        *,
        ready: Callable[[], None] = lambda: None,
    ) -> T:
        """Send a PIN once: everything between taking the target's lock and giving it back.

        Args:
            send: sends it; its result is this call's.
            judge: what an error of `send` says of the PIN: ``refused``; ``unasked``, where the PIN was right or not
                looked at; ``unclear``, where it does not tell. Anything but ``unasked`` is held against the source.
            ready: called before anything is noted or sent, while the lock is held; raises where nothing is to be sent.

        Raises:
            PinIncorrectError: the source was refused before and has not changed.
            PinNotUsableError: no record can be kept.
            DeadlineError: others held the lock all the time.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._record.locked(self._deadline))
            except PinNotUsableError as error:
                if not self._attended:
                    raise self._not_sent(error) from error
                log.debug("%s: the login is not guarded against others", error.message)
            if not self._attended and (entry := self._record.find(self._source)):
                raise self._refused_before(entry)
            ready()
            if self._deadline.remaining() <= 0:  # nobody waits for this login any more
                raise DeadlineError(
                    f"no time is left for the login of {self._target.text}", hint="allow more with --timeout"
                )
            return send() if self._attended else self._send_recorded(send, judge)

    def _send_recorded(self, send: Callable[[], T], judge: Callable[[SignerError], Verdict]) -> T:
        try:
            self._record.write(self._source, "trying")
        except PinNotUsableError as error:
            raise self._not_sent(error) from error
        try:
            result = send()
        except SignerError as error:
            judged = judge(error)
            log.debug("login: the answer says of the %s from %s: %s", self._target.secret, self._source, judged)
            # What cannot be written now leaves "trying", which counts as much.
            with suppress(PinNotUsableError):
                self._record.write(self._source, None if judged == "unasked" else judged)
            if judged != "unasked":
                again = f"the {self._target.secret} is not sent again {self._until(self._source)}"
                error.hint = printable(f"correct {self._source}; {again}")
            raise
        with suppress(PinNotUsableError):
            self._record.write(self._source, None)
        return result

    def _until(self, source: PinSource) -> str:
        changed = "until the file changes, or " if source.version else ""
        return f"{changed}until you run `rolekey pin forget {in_quotes(self._target.forget)}`"

    def _refused_before(self, entry: Entry) -> PinIncorrectError:
        said = "was refused" if entry.state == "refused" else "may have been refused (the answer is not known)"
        return PinIncorrectError(
            f"the {self._target.secret} from {entry.source} {said} by {self._target.text} at {entry.at} and has not "
            "changed: it is not sent again",
            hint=f"correct it; it is not sent {self._until(entry.source)}",
            tries=self._target.tries(),
        )

    def _not_sent(self, error: PinNotUsableError) -> PinNotUsableError:
        return PinNotUsableError(
            f"the {self._target.secret} from {self._source} is not sent: {error.message}", hint=error.hint
        )
