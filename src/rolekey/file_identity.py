"""A SigningIdentity whose key is in a file: PEM or PKCS#12."""

import logging
from pathlib import Path

from rolekey.certificates import read_file, spki
from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError, KeyNotFoundError
from rolekey.identity import Judge, SigningIdentity, found_certificate, mismatch
from rolekey.interaction import Interaction
from rolekey.key_settings import CertificateReference, KeySettings
from rolekey.passphrases import Passphrases
from rolekey.signers.file import FileSigner, open_file_signer

log = logging.getLogger(__name__)


class FileIdentity:
    """Opens the identity whose key is in a file.

    Args:
        settings: where certificate and key are.
        path: the key's.
        interaction: asks for the passphrase where none is configured.
        deadline: for a token that holds the certificate.
        content: of the key's file, read already: it may be a pipe. None where it could not be read.
    """

    def __init__(
        self,
        settings: KeySettings,
        path: Path,
        interaction: Interaction,
        deadline: Deadline,
        *,
        content: bytes | None,
    ) -> None:
        self._settings = settings
        self._path = path
        self._passphrases = Passphrases(settings, interaction)
        self._deadline = deadline
        self._content = content

    def open(self, certificate: CertificateReference, judge: Judge) -> SigningIdentity:
        """Find, check, read the key; see identity.open_identity()."""
        self._check_pin_source()
        leaf, others = found_certificate(self._settings, certificate, self._passphrases, self._deadline)
        chain = judge(leaf, others)
        signer = self.open_signer()
        if spki(signer.public_key) != spki(leaf.public_key()):
            raise mismatch(leaf)
        return SigningIdentity(leaf, chain, signer)

    def open_signer(self) -> FileSigner:
        """Read the key; see identity.open_signer()."""
        self._check_pin_source()
        content = self._content
        signer = open_file_signer(
            self._path,
            content if content is not None else read_file(self._path, "private key file", KeyNotFoundError),
            lambda what: self._passphrases.of(self._path, what),
            passphrase_given=self._passphrases.unused,
        )
        log.debug("key: file %s", self._path)
        return signer

    def _check_pin_source(self) -> None:
        source = self._settings.pin_source
        if source is not None and source.kind not in ("prompt", "none"):
            raise ConfigurationError(
                "--pin-source is for a key in a token or a TPM, and --private-key names a file with the key itself",
                hint="leave out --pin-source; the passphrase of a key file is given with --pkcs8-password",
            )
