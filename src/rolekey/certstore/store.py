"""What is in the certificate stores of this user and of this computer. They are opened for reading, and never made."""

import ctypes
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rolekey.cert_selector import only_selectors
from rolekey.certificates import Certificate, describe, load_certificate
from rolekey.certstore import native
from rolekey.certstore.codes import ERROR_ACCESS_DENIED, ERROR_FILE_NOT_FOUND, error_of
from rolekey.errors import AmbiguousMatchError, KeyNotFoundError, printable
from rolekey.go_name import go_name
from rolekey.store_reference import StoreReference

log = logging.getLogger(__name__)

# In this order: of one certificate in both, the user's own is taken.
PLACES = {
    "CurrentUser": native.CERT_SYSTEM_STORE_CURRENT_USER,
    "LocalMachine": native.CERT_SYSTEM_STORE_LOCAL_MACHINE,
}
# Where Windows keeps issuers, beside the store with the certificate.
_ISSUERS = ("CA", "Root")
_MAX_LISTED = 8


class StoredCertificate:
    r"""A certificate in a store, and Windows' own hold on it, which is given up with close().

    Args:
        certificate: it.
        place: such as ``CurrentUser\MY``.
        context: PCCERT_CONTEXT, whose owner this is from now on; None in tests of what is chosen.
        has_key: the store says that there is a private key; whether it is there shows when it is used.
    """

    def __init__(self, certificate: Certificate, place: str, context: int | None, *, has_key: bool) -> None:
        self.certificate = certificate
        self.place = place
        self.context = context
        self.has_key = has_key

    @property
    def key_text(self) -> str:
        """What an error calls the key."""
        return f"the key of {describe(self.certificate)} in {self.place}"

    @property
    def csp(self) -> str | None:
        """The provider of CryptoAPI that the store says the key belongs to; None of a key of CNG."""
        size = native.DWORD()
        arguments = self.context, native.CERT_KEY_PROV_INFO_PROP_ID
        read = native.crypt32().CertGetCertificateContextProperty
        if not read(*arguments, None, ctypes.byref(size)):
            return None
        buffer = ctypes.create_string_buffer(size.value)
        if not read(*arguments, buffer, ctypes.byref(size)):
            return None
        info = native.KeyProvInfo.from_buffer(buffer)
        return (info.provider or "a provider without a name") if info.provider_type else None

    def kept(self) -> "StoredCertificate":
        """The same, held once more."""
        context = native.crypt32().CertDuplicateCertificateContext(self.context)
        return StoredCertificate(self.certificate, self.place, context, has_key=self.has_key)

    def close(self) -> None:
        """Give up the hold."""
        context, self.context = self.context, None
        if context is not None:
            native.crypt32().CertFreeCertificateContext(context)


def find_certificate(reference: StoreReference) -> StoredCertificate:
    """The one certificate with a private key that is meant. Close it.

    Args:
        reference: what selects it.

    Raises:
        KeyNotFoundError: there is none, or no such store.
        AmbiguousMatchError: there are several.
        ConfigurationError: the selector's file cannot be read.
    """
    selects = reference.loaded().selects
    with _read(reference.store) as entries:
        return choose(entries, reference, selects).kept()


def find_all(reference: StoreReference) -> list[Certificate]:
    """Every certificate with a private key that the selector selects, each once.

    Args:
        reference: as find_certificate() takes it.

    Raises:
        KeyNotFoundError: there is no such store.
        ConfigurationError: as find_certificate() says.
    """
    selects = reference.loaded().selects
    with _read(reference.store) as entries:
        return list(dict.fromkeys(e.certificate for e in entries if e.has_key and selects(e.certificate)))


def choose(
    entries: list[StoredCertificate], reference: StoreReference, selects: Callable[[Certificate], bool]
) -> StoredCertificate:
    """The one that is meant; the same certificate in both places is one. See find_certificate().

    Args:
        entries: everything in the stores of that name, the user's first.
        reference: what the user named.
        selects: its selector's.
    """
    selected = [entry for entry in entries if selects(entry.certificate)]
    found = {entry.certificate: entry for entry in reversed(selected) if entry.has_key}
    if not found:
        raise _none(selected, reference)
    if reference.use_latest:
        latest = max(certificate.not_valid_after_utc for certificate in found)
        found = {c: entry for c, entry in found.items() if c.not_valid_after_utc == latest}
    if len(found) > 1:
        in_order = [entry for entry in entries if found.get(entry.certificate) is entry]
        raise _ambiguous(in_order, entries, reference)
    (entry,) = found.values()
    return entry


def _none(selected: list[StoredCertificate], reference: StoreReference) -> KeyNotFoundError:
    if len({entry.certificate for entry in selected}) == 1:
        return KeyNotFoundError(
            f"the store has no private key of {describe(selected[0].certificate)} in {selected[0].place}",
            hint="import certificate and key together (a PFX file), or put the smart card with the key in",
        )
    return KeyNotFoundError(
        f"no certificate with a private key in the certificate store {reference.store} matches",
        hint=f"`rolekey read-certificate-data --system-store-name {reference.store}` lists what there is; names are "
        "compared to the letter",
    )


def _ambiguous(
    found: list[StoredCertificate], entries: list[StoredCertificate], reference: StoreReference
) -> AmbiguousMatchError:
    everything = list(dict.fromkeys(entry.certificate for entry in entries if entry.has_key))
    selectors = only_selectors((entry.certificate for entry in found), everything)
    shown = (f'"{selector}"' for selector in selectors[:_MAX_LISTED])
    more = f" and {len(selectors) - _MAX_LISTED} more" if len(selectors) > _MAX_LISTED else ""
    named = (
        f"{printable(go_name(e.certificate.subject)) or 'no subject'} "
        f"until {e.certificate.not_valid_after_utc:%Y-%m-%d} in {e.place}"
        for e in found[:_MAX_LISTED]
    )
    latest = "" if reference.use_latest else ", or the one that expires last with --use-latest-expiring-certificate"
    hint = f"name one with --cert-selector: {'  '.join(shown)}{more}{latest}"
    return AmbiguousMatchError(
        f"{len(found)} certificates in the certificate store {reference.store} match: {'; '.join(named)}",
        hint=hint if selectors else "remove the others: no selector tells these apart",
        candidates=selectors,
    )


def issuers_of(entry: StoredCertificate, store: str) -> list[Certificate]:
    """Certificates that may stand above one: by their names, from its own store and from those for issuers.

    Nothing is fetched over the network.

    Args:
        entry: the certificate.
        store: the name of its store.
    """
    found: dict[Certificate, None] = {}
    with ExitStack() as stack:
        names = dict.fromkeys((store, *_ISSUERS))
        handles = [stack.enter_context(_opened(name, flags)) for name in names for flags in PLACES.values()]
        assert entry.context is not None  # noqa: S101 - it is not closed
        below = [entry.context]
        for context in below:  # it grows
            info = native.CertContext.from_address(context).info
            issuer = ctypes.byref(native.CertInfo.from_address(info).issuer)
            for handle in filter(None, handles):
                for above in _contexts(handle, issuer):
                    certificate = _certificate_of(above)
                    if certificate is not None and certificate not in found:
                        found[certificate] = None
                        below.append(native.crypt32().CertDuplicateCertificateContext(above))
                        stack.callback(native.crypt32().CertFreeCertificateContext, below[-1])
    return list(found)


@contextmanager
def _read(store: str) -> Iterator[list[StoredCertificate]]:
    """Everything in the stores of a name, for as long as a block lasts."""
    with ExitStack() as stack:
        entries, is_there = [], False
        for place, flags in PLACES.items():
            handle = stack.enter_context(_opened(store, flags))
            if handle is None:
                continue
            is_there = True
            for context in _contexts(handle):
                certificate = _certificate_of(context)
                if certificate is not None:
                    kept = native.crypt32().CertDuplicateCertificateContext(context)
                    entry = StoredCertificate(certificate, f"{place}\\{store}", kept, has_key=_has_key(context))
                    stack.callback(entry.close)
                    entries.append(entry)
        if not is_there:
            raise KeyNotFoundError(
                f"there is no certificate store {store}, neither this user's nor this computer's",
                hint="name another with --system-store-name: MY is the one that certmgr.msc calls Personal",
            )
        log.debug("certificate store %s: %d certificates", store, len(entries))
        yield entries


@contextmanager
def _opened(store: str, place: int) -> Iterator[int | None]:
    """A store, open for reading; None where there is none, or it is closed to this user."""
    flags = place | native.CERT_STORE_OPEN_EXISTING_FLAG | native.CERT_STORE_READONLY_FLAG
    handle = native.crypt32().CertOpenStore(native.CERT_STORE_PROV_SYSTEM_W, 0, None, flags, store)
    if handle is None and (code := native.last_error()) not in (ERROR_FILE_NOT_FOUND, ERROR_ACCESS_DENIED):
        raise error_of(code, f"open the certificate store {store}")
    try:
        yield handle
    finally:
        if handle is not None:
            native.crypt32().CertCloseStore(handle, 0)


def _contexts(store: int, subject: object = None) -> Iterator[int]:
    """The certificates in a store, each valid until the next; those with a subject alone, where one is given."""
    crypt32 = native.crypt32()
    context = None
    try:
        while True:
            if subject is None:
                context = crypt32.CertEnumCertificatesInStore(store, context)
            else:
                kinds = native.X509_ASN_ENCODING, 0, native.CERT_FIND_SUBJECT_NAME
                context = crypt32.CertFindCertificateInStore(store, *kinds, subject, context)
            if context is None:
                return
            yield context
    finally:
        if context is not None:
            crypt32.CertFreeCertificateContext(context)


def _certificate_of(context: int) -> Certificate | None:
    found = native.CertContext.from_address(context)
    der = ctypes.string_at(found.encoded, found.size)
    try:
        # Of somebody else's certificate nothing is to be said on stderr.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = load_certificate(der)
            _ = certificate.subject, certificate.issuer, certificate.serial_number  # read when they are looked at
            return certificate
    except ValueError:
        log.debug("a certificate in a store cannot be read, and is left out")
        return None


def _has_key(context: int) -> bool:
    size = native.DWORD()
    return any(
        native.crypt32().CertGetCertificateContextProperty(context, name, None, ctypes.byref(size))
        for name in native.KEY_PROPERTIES
    )
