"""A TPM as all of this user's processes share it: one at a time, and nothing stays loaded.

A TPM without a resource manager has room for three objects, for everybody. What is loaded here is unloaded before the
connection is closed, whatever happens; whoever gives up waiting lets that be done first.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tpm2_pytss import ESAPI, TSS2_Exception

from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, SignerError, TokenOperationError, TokenStateError
from rolekey.private_files import make_directory, take_lock
from rolekey.signers.tpm_connection import FIRST_PAUSE, LONGEST_PAUSE, TPM, return_code
from rolekey.signers.tpm_return_codes import NO_ROOM
from rolekey.signers.tpm_tcti import TPMAddress, open_tcti

log = logging.getLogger(__name__)

T = TypeVar("T")
# How long one who gives up waits for what is loaded to be unloaded.
CLEAN_SECONDS = 2.0
# TPM2_FlushContext up to the handle: without sessions, 14 bytes.
_FLUSH_CONTEXT = bytes.fromhex("8001 0000000e 00000165")


class Errand:
    """Work at a TPM that its sender may give up: what is loaded then is unloaded first."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._done = threading.Event()
        self._begun = self._given_up = False
        #: The last one of a TPM that is asked again.
        self.refusal: SignerError | None = None

    def begin(self) -> None:
        """From here on there is something to unload or to note."""
        with self._mutex:
            self.check()
            self._begun = True

    def check(self) -> None:
        """Stop, if nobody waits any more.

        Raises:
            TokenOperationError: the sender has given up; he does not see this.
        """
        if self._given_up:
            raise TokenOperationError("the work at the TPM was given up", hint="run the command again")

    def note(self, refusal: SignerError) -> None:
        """The TPM is full or busy, and is asked again."""
        self.refusal = refusal

    def end(self) -> None:
        """Everything is unloaded and noted."""
        self._done.set()

    def give_up(self) -> None:
        """Have the work end at the next opportunity, and wait for that, if it has begun."""
        with self._mutex:
            self._given_up = True
            begun = self._begun
        if begun:
            self._done.wait(CLEAN_SECONDS)


class TPMDevice:
    """Opens connections with one TPM, one at a time for all of this user's processes.

    Args:
        address: where it is.
        deadline: for everything that is done with it.
        directories: for the lock; the first that can be used. Without one, nobody is waited for.
    """

    def __init__(self, address: TPMAddress, deadline: Deadline, directories: Iterable[Path | None]) -> None:
        self.address = address
        self._deadline = deadline
        self._directories = tuple(directories)

    def run(self, what: str, work: Callable[[TPM], T]) -> T:
        """Do some work over a new connection.

        Where others fill the TPM, everything is unloaded and the work is done anew, as long as there is time.

        Args:
            what: what is being waited for, for the error's text.
            work: gets the connection.

        Raises:
            SignerError: as the work does; or the TPM cannot be reached.
            DeadlineError: the time was over.
        """
        errand = Errand()

        def run() -> T:
            try:
                return self._while_full(lambda: self._once(errand, work), errand)
            finally:
                errand.end()

        try:
            return self._deadline.run(what, run)
        except DeadlineError as error:
            errand.give_up()
            if errand.refusal is None:
                raise
            raise errand.refusal from error  # it says more than the deadline that came after it
        except BaseException:
            errand.give_up()
            raise

    def _while_full(self, attempt: Callable[[], T], errand: Errand) -> T:
        pause = FIRST_PAUSE
        while True:
            try:
                return attempt()
            except TokenStateError as error:
                if return_code(error) not in NO_ROOM or self._deadline.remaining() <= pause:
                    raise
                log.debug("%s; once more", error.message)
                errand.note(error)
            errand.check()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _once(self, errand: Errand, work: Callable[[TPM], T]) -> T:
        with self._locked():
            errand.begin()
            left: list[int] = []
            try:
                return self._connected(errand, work, left)
            finally:
                self._unload(left)

    def _connected(self, errand: Errand, work: Callable[[TPM], T], left: list[int]) -> T:
        with open_tcti(self.address) as tcti:
            try:
                esapi = ESAPI(tcti)
            except TSS2_Exception as error:
                raise self.address.unreachable(str(error)) from error
            tpm = TPM(esapi, self.address, errand.check, errand.note, self._deadline)
            try:
                return work(tpm)
            finally:
                tpm.unload_all()
                left += tpm.left
                esapi.close()

    def _unload(self, handles: list[int]) -> None:
        """Unload over a new connection what the old one did not get unloaded when it broke."""
        for handle in handles:
            with suppress(SignerError, TSS2_Exception), open_tcti(self.address) as tcti:
                tcti.transmit(_FLUSH_CONTEXT + handle.to_bytes(4))
                tcti.receive()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = None
        for directory in self._directories:
            if directory is not None and descriptor is None:
                descriptor = self._take_lock(directory)
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _take_lock(self, base: Path) -> int | None:
        directory = base / "tpm"
        name = hashlib.sha256(str(self.address).encode()).hexdigest()[:32]
        try:
            make_directory(base)
            make_directory(directory)
            return take_lock(directory / f"{name}.lock", self._deadline, "other users of the TPM")
        except OSError as error:
            log.debug("no lock for the TPM in %s: %s", base, error.strerror)
            return None
