"""A private key in a TPM 2.0: one that the TPM keeps, or one that it loads from a file for each signature."""

from collections.abc import Callable
from typing import Protocol

from rolekey.signers.base import HashName, PublicKey
from rolekey.signers.tpm_authorization import Trials
from rolekey.signers.tpm_connection import TPM
from rolekey.signers.tpm_device import TPMDevice
from rolekey.signers.tpm_key import TPMKey
from rolekey.signers.tpm_objects import sign


class Passwords(Protocol):
    """Sends the passwords that go with a signature."""

    def send(self, tpm: TPM, work: Callable[[Trials], bytes]) -> bytes:
        """Do the work with the passwords, once.

        Args:
            tpm: the connection over which the work goes.
            work: gets them.
        """


class TPMSigner:
    """Signs with a key in a TPM. Between two signatures nothing is open, loaded or locked.

    Args:
        key: the key, which can sign.
        device: the TPM.
        passwords: of the key and its parent.
    """

    def __init__(self, key: TPMKey, device: TPMDevice, passwords: Passwords) -> None:
        self._key = key
        self._device = device
        self._passwords = passwords

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._key.area.public_key

    def sign(self, message: bytes, *, hash: HashName = "sha256") -> bytes:  # noqa: A002 - the word of the field
        """Sign a message, as Signer.sign() says: one TPM2_Sign."""
        key = self._key
        digest, *scheme = key.area.prepared(message, hash, key.text)

        def work(tpm: TPM) -> bytes:
            return self._passwords.send(tpm, lambda trials: sign(tpm, key, trials, digest, (scheme[0], scheme[1])))

        return self._device.run(f"the signature of {key.text}", work)

    def close(self) -> None:
        """Nothing is held open."""
