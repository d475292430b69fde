"""The public area of a key that a TPM keeps; no password is needed for it."""

from rolekey.deadline import Deadline
from rolekey.key_settings import KeySettings
from rolekey.pins import record_directories
from rolekey.signers.tpm_device import TPMDevice
from rolekey.signers.tpm_objects import read_public
from rolekey.signers.tpm_public import PublicArea
from rolekey.signers.tpm_tcti import TPMAddress
from rolekey.tpm_handle import TPMHandle


def public_area_of(settings: KeySettings, handle: TPMHandle, deadline: Deadline) -> tuple[PublicArea, str]:
    """Read it.

    Args:
        settings: where the TPM is.
        handle: the key's.
        deadline: for the TPM.

    Returns:
        The public area, and what the TPM is called.

    Raises:
        SignerError: the TPM cannot be reached, or keeps no such key.
    """
    address = TPMAddress.choose(settings.tpm.tcti, settings.tpm.device)
    device = TPMDevice(address, deadline, record_directories())
    text = f"the TPM key {handle}"
    return device.run(text, lambda tpm: read_public(tpm, handle.value, text)), f"TPM at {address}"
