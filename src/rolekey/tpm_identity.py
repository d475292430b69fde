"""A SigningIdentity whose key is in a TPM: one that the TPM keeps, or one in a TSS2 key file."""

import logging
from datetime import datetime

from rolekey.certificates import spki
from rolekey.config import Settings
from rolekey.deadline import Deadline
from rolekey.exportability import check_non_exportable
from rolekey.identity import SigningIdentity, mismatch, named_certificate
from rolekey.interaction import Interaction
from rolekey.pins import PinSupply, record_directories
from rolekey.signers.tpm import TPMSigner
from rolekey.signers.tpm_device import TPMDevice
from rolekey.signers.tpm_key import TPMKey
from rolekey.signers.tpm_objects import read_public
from rolekey.signers.tpm_policy import without_policy
from rolekey.signers.tpm_public import USER_WITH_AUTH
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
        now: aware datetime at which the certificate must be valid.
        pins: gives the configured password in place of its source.
    """

    def __init__(
        self,
        settings: Settings,
        key: TPMKey | TPMHandle,
        interaction: Interaction,
        deadline: Deadline,
        now: datetime,
        *,
        pins: PinSupply | None = None,
    ) -> None:
        self._settings = settings
        self._key = key
        self._deadline = deadline
        self._now = now
        self._directories = record_directories()
        self._login = TPMLogin(settings, interaction, deadline, self._directories, pins=pins)

    def open(self) -> SigningIdentity:
        """Find, check, and see to the passwords; see identity.open_identity(). Nothing is loaded into the TPM yet."""
        settings = self._settings
        certificate, chain = named_certificate(settings, self._deadline, self._now)
        address = TPMAddress.choose(settings.tpm.tcti, settings.tpm.device)
        device = TPMDevice(address, self._deadline, self._directories)
        key = self._key if isinstance(self._key, TPMKey) else _key_of_handle(device, self._key)
        if spki(key.area.public_key) != spki(certificate.public_key()):
            raise mismatch(certificate)
        key.area.check_can_sign(key.text)
        if settings.require_non_exportable:
            # Of a key file this is what the file says. The TPM loads none that says something else than the key is.
            check_non_exportable(key.text, key.area.key_attributes)
        log.debug("key: %s, TPM at %s, scheme %s", key.text, address, key.area.scheme_name)
        signer = TPMSigner(key, device, self._login.open(device, key))
        return SigningIdentity(certificate, chain, signer, non_exportable=settings.require_non_exportable)


def _key_of_handle(device: TPMDevice, handle: TPMHandle) -> TPMKey:
    text = f"the TPM key {handle}"
    area = device.run(text, lambda tpm: read_public(tpm, handle.value, text))
    if not area.attributes & USER_WITH_AUTH:
        raise without_policy(text)
    return TPMKey(text=text, area=area, handle=handle.value)
