"""The keys that a TPM keeps under persistent handles; no password is needed to list them."""

from collections.abc import Iterator

from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, SignerError, TokenNotFoundError, UnsupportedKeyError
from rolekey.key_settings import KeySettings
from rolekey.keys.inspect import kind_of
from rolekey.keys.rows import Listing, Row
from rolekey.pins import record_directories
from rolekey.signers.tpm_connection import TPM
from rolekey.signers.tpm_device import TPMDevice
from rolekey.signers.tpm_objects import persistent_handles, read_public
from rolekey.signers.tpm_tcti import TPMAddress
from rolekey.tpm_handle import TPMHandle


def tpm_listings(settings: KeySettings, deadline: Deadline) -> list[Listing]:
    """What the TPM keeps; nothing where there is none and none is named.

    Args:
        settings: where the TPM is.
        deadline: for it.

    Raises:
        SignerError: the TPM that is named is not there.
    """
    try:
        address = TPMAddress.choose(settings.tpm.tcti, settings.tpm.device)
    except TokenNotFoundError:
        if settings.tpm.tcti or settings.tpm.device:
            raise
        return []
    device = TPMDevice(address, deadline, record_directories())
    title = f"TPM at {address}"
    try:
        return [Listing(title, tuple(device.run("the TPM", lambda tpm: list(_rows(tpm)))))]
    except (SignerError, DeadlineError) as error:
        return [Listing(title, note=error.message)]


def _rows(tpm: TPM) -> Iterator[Row]:
    for number in persistent_handles(tpm):
        handle = TPMHandle(number)
        try:
            area = read_public(tpm, number, f"the TPM key {handle}")
        except UnsupportedKeyError as error:
            yield Row(str(handle), "object", f"no: {error.message}")
            continue
        use = "with --certificate FILE: a TPM keeps no certificate for it"
        try:
            area.check_can_sign("it")
        except UnsupportedKeyError as error:
            use = f"no: {error.message}"
        yield Row(str(handle), kind_of(area.public_key), use)
