"""A SigningIdentity whose key is in a TPM: one that the TPM keeps, or one in a TSS2 key file."""

import logging
from collections.abc import Iterable
from pathlib import Path

from rolekey.certificates import spki
from rolekey.deadline import Deadline
from rolekey.exportability import check_non_exportable
from rolekey.identity import Judge, SigningIdentity, found_certificate, mismatch
from rolekey.interaction import Interaction
from rolekey.key_settings import CertificateReference, KeySettings
from rolekey.passphrases import Passphrases
from rolekey.pins import PinSupply, record_directories
from rolekey.signers.tpm import TPMSigner
from rolekey.signers.tpm_device import TPMDevice
from rolekey.signers.tpm_key import TPMKey
from rolekey.signers.tpm_objects import read_public
from rolekey.signers.tpm_policy import without_policy
from rolekey.signers.tpm_public import USER_WITH_AUTH, PublicArea
from rolekey.signers.tpm_tcti import TPMAddress
from rolekey.tpm_handle import TPMHandle
from rolekey.tpm_login import TPMLogin

log = logging.getLogger(__name__)


class TPMIdentity:
    """Opens the identity whose key is in a TPM.

    Args:
        settings: where certificate and key are, and where the TPM is.
        key: what its file says, or its handle.
        interaction: asks for the password where no source is configured.
        deadline: for everything that the TPM does.
        pins: gives the configured password in place of its source.
    """

    def __init__(
        self,
        settings: KeySettings,
        key: TPMKey | TPMHandle,
        interaction: Interaction,
        deadline: Deadline,
        *,
        pins: PinSupply | None = None,
    ) -> None:
        self._settings = settings
        self._key = key
        self._deadline = deadline
        self._passphrases = Passphrases(settings, interaction)
        self._directories = record_directories()
        self._login = TPMLogin(settings, interaction, deadline, self._directories, pins=pins)

    def open(self, certificate: CertificateReference, judge: Judge) -> SigningIdentity:
        """Find, check, and see to the passwords; see identity.open_identity(). Nothing is loaded into the TPM yet."""
        leaf, others = found_certificate(self._settings, certificate, self._passphrases, self._deadline)
        chain = judge(leaf, others)
        device, key = self._found_key()
        if spki(key.area.public_key) != spki(leaf.public_key()):
            raise mismatch(leaf)
        required = self._settings.require_non_exportable
        return SigningIdentity(leaf, chain, self._signer(device, key), non_exportable=required)

    def open_signer(self) -> TPMSigner:
        """As open(), the key alone."""
        return self._signer(*self._found_key())

    def _found_key(self) -> tuple[TPMDevice, TPMKey]:
        device = find_tpm(self._settings, self._deadline, self._directories)
        return device, self._key if isinstance(self._key, TPMKey) else _key_of_handle(device, self._key)

    def _signer(self, device: TPMDevice, key: TPMKey) -> TPMSigner:
        key.area.check_can_sign(key.text)
        if self._settings.require_non_exportable:
            # Of a key file this is what the file says. The TPM loads none that says something else than the key is.
            check_non_exportable(key.text, key.area.key_attributes)
        log.debug("key: %s, TPM at %s, scheme %s", key.text, device.address, key.area.scheme_name)
        return TPMSigner(key, device, self._login.open(device, key))


def find_tpm(settings: KeySettings, deadline: Deadline, directories: Iterable[Path | None]) -> TPMDevice:
    """The TPM that the settings name. Nothing is sent yet.

    Args:
        settings: where it is.
        deadline: for everything that it does.
        directories: where its users' locks are.

    Raises:
        SignerError: there is none.
    """
    return TPMDevice(TPMAddress.choose(settings.tpm.tcti, settings.tpm.device), deadline, directories)


def area_of_handle(device: TPMDevice, handle: TPMHandle) -> tuple[str, PublicArea]:
    """The public area of a key that a TPM keeps, and what an error calls the key; no password is needed.

    Args:
        device: the TPM.
        handle: the key's.

    Raises:
        SignerError: the TPM cannot be reached, or keeps no such key.
    """
    text = f"the TPM key {handle}"
    return text, device.run(text, lambda tpm: read_public(tpm, handle.value, text))


def _key_of_handle(device: TPMDevice, handle: TPMHandle) -> TPMKey:
    text, area = area_of_handle(device, handle)
    if not area.attributes & USER_WITH_AUTH:
        raise without_policy(text)
    return TPMKey(text=text, area=area, handle=handle.value)
