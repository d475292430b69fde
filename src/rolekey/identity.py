"""An end-entity certificate, its chain and the Signer that belong together. The one place where a backend is chosen."""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from cryptography.exceptions import InvalidSignature

from rolekey.certificates import (
    Certificate,
    check_end_entity,
    describe,
    issuer_chain,
    read_certificates,
    read_file,
    utc_now,
)
from rolekey.config import Settings
from rolekey.deadline import Deadline
from rolekey.errors import CertificateError, KeyNotFoundError
from rolekey.exportability import check_non_exportable
from rolekey.interaction import Interaction
from rolekey.key_settings import CertificateReference, KeySettings
from rolekey.passphrases import Passphrases
from rolekey.pins import PinSupply
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.signers.base import HashName, Signer
from rolekey.sigv4_x509 import algorithm_name, verify_signature
from rolekey.tpm_handle import TPMHandle

if TYPE_CHECKING:
    from rolekey.signers.tpm_key import TPMKey

log = logging.getLogger(__name__)

# Refuses a certificate, or gives the path above it out of what was found beside it.
Judge = Callable[[Certificate, Iterable[Certificate]], tuple[Certificate, ...]]


class SigningIdentity:
    """A certificate whose private key can sign here and now. Close it, or use it as a context manager.

    Args:
        certificate: the end-entity certificate.
        chain: the issuers above it, leaf and self-signed root excluded, from the leaf's upwards.
        signer: signs with the certificate's private key.
        non_exportable: whoever opened it has seen that the key cannot leave its hardware.
    """

    def __init__(
        self,
        certificate: Certificate,
        chain: tuple[Certificate, ...],
        signer: Signer,
        *,
        non_exportable: bool = False,
    ) -> None:
        self.certificate = certificate
        self.chain = chain
        self.signer = signer
        self.non_exportable = non_exportable
        self.algorithm = algorithm_name(certificate.public_key())

    def sign(self, string_to_sign: str) -> bytes:
        """Sign with exactly one private-key operation, and verify with the certificate before anything is sent.

        Args:
            string_to_sign: from sigv4_x509.

        Returns:
            The signature, as Signer.sign() encodes it.

        Raises:
            CertificateError: the key does not belong to the certificate.
            SignerError: the key could not be used.
        """
        return self.sign_message(string_to_sign.encode())

    def sign_message(self, message: bytes, *, hash: HashName = "sha256") -> bytes:  # noqa: A002 - the word of the field
        """As sign(), any message.

        Args:
            message: the message itself.
            hash: as Signer.sign() takes it.
        """
        signature = self.signer.sign(message, hash=hash)
        try:
            verify_signature(self.certificate.public_key(), signature, message, hash=hash)
        except InvalidSignature as error:
            raise mismatch(self.certificate) from error
        return signature

    def close(self) -> None:
        """Give up the key."""
        self.signer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Backend(Protocol):
    """Opens a private key of one kind, by itself or with its certificate."""

    def open(self, certificate: CertificateReference, judge: Judge) -> SigningIdentity:
        """Find both; see open_identity().

        Args:
            certificate: where the certificate is.
            judge: is asked about it before a PIN is.
        """

    def open_signer(self) -> Signer:
        """As open(), the key alone."""


def open_identity(
    settings: Settings,
    interaction: Interaction,
    deadline: Deadline,
    *,
    now: datetime | None = None,
    pins: PinSupply | None = None,
) -> SigningIdentity:
    """Find the certificate, its chain and its key, and make them ready to sign.

    Files and tokens are read anew at each call. Everything that can fail without a PIN fails before one is asked for.

    Args:
        settings: where certificate and key are.
        interaction: asks for a PIN or passphrase that no source gives.
        deadline: for everything that a token does.
        now: aware datetime at which the certificate must be valid; the system's clock if None.
        pins: gives the configured PIN of a token, or password of a TPM key, in place of its source.

    Raises:
        CertificateError: the certificate is unreadable, not valid now, or not the key's.
        SignerError: the key cannot be found or used.
        DeadlineError: the token did not answer in time.
    """
    at = now or utc_now()

    def judge(leaf: Certificate, others: Iterable[Certificate]) -> tuple[Certificate, ...]:
        return checked_chain(settings, leaf, others, at)

    return _backend(settings, interaction, deadline, pins).open(settings.certificate, judge)


def open_pair(
    settings: KeySettings, certificate: CertificateReference, interaction: Interaction, deadline: Deadline
) -> SigningIdentity:
    """As open_identity(), with any certificate of the key: it may be expired, or a CA's, and has no chain.

    Args:
        settings: where the key is.
        certificate: where its certificate is.
        interaction: asks for a PIN or passphrase that no source gives.
        deadline: for everything that a token does.

    Raises:
        CertificateError: the certificate is unreadable or not the key's.
        SignerError, DeadlineError: as open_identity() says.
    """
    return _backend(settings, interaction, deadline, None).open(certificate, lambda _leaf, _others: ())


def open_signer(settings: KeySettings, interaction: Interaction, deadline: Deadline) -> Signer:
    """Find a key without its certificate. Close it.

    Args:
        settings: where the key is.
        interaction: asks for a PIN or passphrase that no source gives.
        deadline: for everything that a token does.

    Raises:
        SignerError, DeadlineError: as open_identity() says.
    """
    return _backend(settings, interaction, deadline, None).open_signer()


def _backend(settings: KeySettings, interaction: Interaction, deadline: Deadline, pins: PinSupply | None) -> Backend:
    # Each is imported for its own kind of key only: their libraries are slow to load.
    key = settings.private_key
    if isinstance(key, TPMHandle):
        return _tpm_backend(settings, key, interaction, deadline, pins)
    if isinstance(key, Path):
        from rolekey.tss2_key import is_tss2  # noqa: PLC0415

        content = _key_file(key)
        if content is not None and is_tss2(content):
            from rolekey.signers.tpm_key import read_key_file  # noqa: PLC0415

            return _tpm_backend(settings, read_key_file(key, content), interaction, deadline, pins)
        if settings.require_non_exportable:
            check_non_exportable(f"the private key {key}", None)
        from rolekey.file_identity import FileIdentity  # noqa: PLC0415

        return FileIdentity(settings, key, interaction, deadline, content=content)
    if not isinstance(key, PKCS11URI):
        from rolekey.certstore.identity import StoreIdentity  # noqa: PLC0415

        return StoreIdentity(settings, key, interaction, deadline)
    from rolekey.token_identity import TokenIdentity  # noqa: PLC0415

    return TokenIdentity(settings, key, interaction, deadline, pins=pins)


def _key_file(path: Path) -> bytes | None:
    """Its content, read once: it may be a pipe. None where it cannot be read: said after the certificate's faults."""
    try:
        return read_file(path, "private key file", KeyNotFoundError)
    except KeyNotFoundError:
        return None


def _tpm_backend(
    settings: KeySettings,
    key: "TPMKey | TPMHandle",
    interaction: Interaction,
    deadline: Deadline,
    pins: PinSupply | None,
) -> Backend:
    from rolekey.signers.tpm_key import tpm_library  # noqa: PLC0415 - not for a key elsewhere

    with tpm_library():
        from rolekey.tpm_identity import TPMIdentity  # noqa: PLC0415 - as above
    return TPMIdentity(settings, key, interaction, deadline, pins=pins)


def found_certificate(
    settings: KeySettings, reference: CertificateReference, passphrases: Passphrases, deadline: Deadline
) -> tuple[Certificate, list[Certificate]]:
    """The certificate of a key that is in no token, and what was found beside it.

    Args:
        settings: where a token is.
        reference: a file, what a token shows without a login, or what is in a certificate store.
        passphrases: of a PKCS#12 file.
        deadline: for the token.
    """
    if isinstance(reference, Path):
        return certificates_of_file(reference, passphrases)
    if not isinstance(reference, PKCS11URI):
        from rolekey.certstore.identity import shown_certificate  # noqa: PLC0415 - as above

        return shown_certificate(reference)
    from rolekey.token_identity import find_certificate  # noqa: PLC0415 - as above

    return find_certificate(settings, reference, deadline)


def certificates_of_file(path: Path, passphrases: Passphrases) -> tuple[Certificate, list[Certificate]]:
    """As found_certificate(), of a file."""
    leaf, *others = read_certificates(path, passphrase=lambda: passphrases.of(path, "the PKCS#12 file"))
    return leaf, others


def checked_chain(
    settings: Settings,
    leaf: Certificate,
    others: Iterable[Certificate],
    now: datetime,
) -> tuple[Certificate, ...]:
    """The path above an end-entity certificate that is valid now.

    Args:
        settings: may name intermediates.
        leaf: the end-entity certificate.
        others: what was found beside it.
        now: aware datetime.

    Raises:
        CertificateError: as check_end_entity() and issuer_chain() say.
        UnsupportedKeyError: no signature algorithm for its key.
    """
    check_end_entity(leaf, now)
    intermediates = read_certificates(settings.intermediates, "intermediates") if settings.intermediates else ()
    chain = issuer_chain(leaf, (*intermediates, *others))
    log.debug(
        "certificate: %s, serial number %d, %s, until %s, %d intermediates",
        describe(leaf),
        leaf.serial_number,
        algorithm_name(leaf.public_key()),
        leaf.not_valid_after_utc,
        len(chain),
    )
    return chain


def mismatch(certificate: Certificate) -> CertificateError:
    """The error for a key and a certificate that do not belong together."""
    return CertificateError(
        f"the private key does not belong to the certificate {describe(certificate)}",
        hint="name the certificate and the key of one pair",
    )
