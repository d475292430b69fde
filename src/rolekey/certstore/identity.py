"""A SigningIdentity whose certificate is in a certificate store of Windows, and whose key CNG has."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rolekey.certificates import Certificate
from rolekey.certstore.key import StoreKey
from rolekey.certstore.native import shows_windows
from rolekey.certstore.signer import SLOW_SECONDS, StoreSigner, check_kind
from rolekey.certstore.store import StoredCertificate, find_certificate, issuers_of
from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, RolekeyError
from rolekey.exportability import check_non_exportable
from rolekey.identity import Judge, SigningIdentity
from rolekey.interaction import Interaction, NoInteraction
from rolekey.key_settings import CertificateReference, KeySettings
from rolekey.store_reference import StoreReference

log = logging.getLogger(__name__)


class StoreIdentity:
    """Opens the identity that a store has.

    What keeps the key (a smart card's provider, Windows itself) asks for its PIN in a window of its own. It may, where
    somebody sees the window and the user has not said that nobody is asked.

    Args:
        settings: what is wanted of the key.
        reference: what selects certificate and key.
        interaction: whether somebody may be asked; not how.
        deadline: for everything that Windows does.
    """

    def __init__(
        self, settings: KeySettings, reference: StoreReference, interaction: Interaction, deadline: Deadline
    ) -> None:
        self._settings = settings
        self._reference = reference
        self._interaction = interaction
        self._deadline = deadline

    def open(self, certificate: CertificateReference, judge: Judge) -> SigningIdentity:  # noqa: ARG002 - the store's
        """Find, check, open the key; see identity.open_identity()."""
        stored = self._found()
        with closed_on_failure(stored):
            chain = judge(stored.certificate, issuers_of(stored, self._reference.store))
            signer = self._signer(stored)
        required = self._settings.require_non_exportable
        return SigningIdentity(stored.certificate, chain, signer, non_exportable=required)

    def open_signer(self) -> StoreSigner:
        """As open(), the key alone."""
        stored = self._found()
        with closed_on_failure(stored):
            return self._signer(stored)

    def _found(self) -> StoredCertificate:
        return self._deadline.run("the certificate store", lambda: find_certificate(self._reference))

    def _signer(self, stored: StoredCertificate) -> StoreSigner:
        public_key = stored.certificate.public_key()
        check_kind(public_key, stored.key_text)
        quiet = self._is_quiet()
        key = open_key(stored, self._deadline, quiet=quiet)
        if self._settings.require_non_exportable:
            try:
                check_non_exportable(key.text, key.attributes)
            except RolekeyError:
                key.close()
                raise
        if log.isEnabledFor(logging.DEBUG):
            log.debug("key: %s, %s, %s", key.text, key.provider, "silent" if quiet else "may ask")
        return StoreSigner(key, public_key, self._deadline, quiet=quiet)

    def _is_quiet(self) -> bool:
        source = self._settings.pin_source
        is_nobody = isinstance(self._interaction, NoInteraction) or (source is not None and source.kind == "none")
        return is_nobody or not shows_windows()


@contextmanager
def closed_on_failure(stored: StoredCertificate) -> Iterator[None]:
    """Close a certificate where a with block ends in an error.

    Args:
        stored: the certificate.
    """
    try:
        yield
    except (DeadlineError, KeyboardInterrupt, SystemExit):
        raise  # the thread that opens the key may still use the certificate
    except BaseException:
        stored.close()
        raise


def open_key(stored: StoredCertificate, deadline: Deadline, *, quiet: bool) -> StoreKey:
    """Open a certificate's key.

    Args:
        stored: the certificate, which the key closes.
        deadline: for its provider.
        quiet: nobody may be asked.

    Raises:
        RolekeyError: as StoreKey.acquire() says.
    """
    slow = None if quiet else (SLOW_SECONDS, deadline.expect_person)
    return deadline.run(stored.key_text, lambda: StoreKey.acquire(stored, quiet=quiet), slow=slow)


def shown_certificate(reference: StoreReference) -> tuple[Certificate, list[Certificate]]:
    """The certificate alone, and those that may stand above it; no key is opened.

    Args:
        reference: what selects it.

    Raises:
        RolekeyError: as find_certificate() says.
    """
    stored = find_certificate(reference)
    try:
        return stored.certificate, issuers_of(stored, reference.store)
    finally:
        stored.close()
