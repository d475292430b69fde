"""An end-entity certificate, its chain and the Signer that belong together. The one place where a backend is chosen."""

import logging
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import InvalidSignature

from rolekey.certificates import (
    Certificate,
    check_end_entity,
    describe,
    issuer_chain,
    read_certificates,
    read_file,
    spki,
    utc_now,
)
from rolekey.config import Settings
from rolekey.deadline import Deadline
from rolekey.errors import (
    CertificateError,
    ConfigurationError,
    KeyNotFoundError,
    PinRequiredError,
)
from rolekey.exportability import check_non_exportable
from rolekey.interaction import Interaction
from rolekey.pins import PinSupply, usable_passphrase
from rolekey.secret import Secret
from rolekey.signers.base import Signer
from rolekey.sigv4_x509 import algorithm_name, verify_signature
from rolekey.tpm_handle import TPMHandle

if TYPE_CHECKING:
    from rolekey.signers.tpm_key import TPMKey

log = logging.getLogger(__name__)


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
        message = string_to_sign.encode()
        signature = self.signer.sign(message)
        try:
            verify_signature(self.certificate.public_key(), signature, message)
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
    key = settings.private_key
    now = now or utc_now()
    if isinstance(key, TPMHandle):
        return _open_tpm_identity(settings, key, interaction, deadline, now, pins=pins)
    if isinstance(key, Path):
        # Not imported for a key in a token, as the token's libraries are not for one in a file.
        from rolekey.tss2_key import is_tss2  # noqa: PLC0415

        content = _key_file(key)
        if content is not None and is_tss2(content):
            from rolekey.signers.tpm_key import read_key_file  # noqa: PLC0415

            return _open_tpm_identity(settings, read_key_file(key, content), interaction, deadline, now, pins=pins)
        return _open_file_identity(settings, key, interaction, deadline, now, content=content)
    from rolekey.token_identity import TokenIdentity  # noqa: PLC0415

    return TokenIdentity(settings, key, interaction, deadline, now, pins=pins).open()


def _key_file(path: Path) -> bytes | None:
    """Its content, read once: it may be a pipe. None where it cannot be read: said after the certificate's faults."""
    try:
        return read_file(path, "private key file", KeyNotFoundError)
    except KeyNotFoundError:
        return None


def _open_tpm_identity(
    settings: Settings,
    key: "TPMKey | TPMHandle",
    interaction: Interaction,
    deadline: Deadline,
    now: datetime,
    *,
    pins: PinSupply | None,
) -> SigningIdentity:
    from rolekey.signers.tpm_key import tpm_library  # noqa: PLC0415 - not for a key elsewhere

    with tpm_library():
        from rolekey.tpm_identity import TPMIdentity  # noqa: PLC0415 - as above
    return TPMIdentity(settings, key, interaction, deadline, now, pins=pins).open()


def _open_file_identity(
    settings: Settings,
    key_path: Path,
    interaction: Interaction,
    deadline: Deadline,
    now: datetime,
    *,
    content: bytes | None,
) -> SigningIdentity:
    if settings.require_non_exportable:
        check_non_exportable(f"the private key {key_path}", None)
    certificate, chain = named_certificate(settings, deadline, now)
    if settings.pin_source is not None and settings.pin_source.kind not in ("prompt", "none"):
        raise ConfigurationError(
            "--pin-source is for a key in a token or a TPM, and --private-key names a file with the key itself",
            hint="leave out --pin-source; the passphrase of a key file is given with --pkcs8-password",
        )
    from rolekey.signers.file import open_file_signer  # noqa: PLC0415 - as in open_identity()

    signer = open_file_signer(
        key_path,
        content if content is not None else read_file(key_path, "private key file", KeyNotFoundError),
        lambda: passphrase(settings, interaction, key_path),
        passphrase_given=settings.pkcs8_password is not None,
    )
    if spki(signer.public_key) != spki(certificate.public_key()):
        raise mismatch(certificate)
    log.debug("key: file %s", key_path)
    return SigningIdentity(certificate, chain, signer)


def named_certificate(
    settings: Settings, deadline: Deadline, now: datetime
) -> tuple[Certificate, tuple[Certificate, ...]]:
    """The end-entity certificate of a key that is in no token, and the path above it; see checked_certificate().

    Args:
        settings: name the certificate: a file, or what a token shows without a login.
        deadline: for the token.
        now: aware datetime.
    """
    if isinstance(settings.certificate, Path):
        leaf, *others = read_certificates(settings.certificate)
    else:
        from rolekey.token_identity import find_certificate  # noqa: PLC0415 - as above

        leaf, others = find_certificate(settings, settings.certificate, deadline)
    return checked_certificate(settings, leaf, others, now)


def passphrase(settings: Settings, interaction: Interaction, path: Path) -> Secret:
    """The passphrase of an encrypted key file: the configured one, else the answer of whoever sits here."""
    if settings.pkcs8_password is not None:
        return usable_passphrase(settings.pkcs8_password, "--pkcs8-password")
    answer = interaction.ask(f"Passphrase of the private key {path}: ", str(path.absolute()))
    if answer is None:
        raise PinRequiredError(
            f"the private key {path} is encrypted, no passphrase is configured and there is no terminal to ask on",
            hint="give --pkcs8-password, or keep the key where it needs none: in a token, or in a file of mode 0600",
        )
    return usable_passphrase(answer, "the terminal")


def checked_certificate(
    settings: Settings,
    leaf: Certificate,
    others: Iterable[Certificate],
    now: datetime,
) -> tuple[Certificate, tuple[Certificate, ...]]:
    """An end-entity certificate that is valid now, and the path above it.

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
    return leaf, chain


def mismatch(certificate: Certificate) -> CertificateError:
    """The error for a key and a certificate that do not belong together."""
    return CertificateError(
        f"the private key does not belong to the certificate {describe(certificate)}",
        hint="name the certificate and the key of one pair",
    )
