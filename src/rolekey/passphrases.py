"""The passphrases of files: of an encrypted key, and of a PKCS#12 file."""

from pathlib import Path

from rolekey.base.advice import PRIVATE_FILE
from rolekey.errors import PinRequiredError
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.pins import usable_passphrase
from rolekey.secret import Secret


class Passphrases:
    """The configured passphrase, else the answer of whoever sits here: asked for once for each file.

    Args:
        settings: may have it.
        interaction: asks otherwise.
    """

    def __init__(self, settings: KeySettings, interaction: Interaction) -> None:
        self._configured = settings.pkcs8_password
        self._interaction = interaction
        self._given: dict[Path, Secret] = {}

    @property
    def unused(self) -> bool:
        """Whether one is configured, and no file has wanted it."""
        return self._configured is not None and not self._given

    def of(self, path: Path, what: str) -> Secret:
        """The passphrase of a file.

        Args:
            path: the file.
            what: what is in it, for the question.

        Raises:
            PinRequiredError: none is configured and nobody can be asked.
            PinNotUsableError: it cannot be one.
        """
        if path not in self._given:
            self._given[path] = self._found(path, what)
        return self._given[path]

    def _found(self, path: Path, what: str) -> Secret:
        if self._configured is not None:
            return usable_passphrase(self._configured, "--pkcs8-password")
        answer = self._interaction.ask(f"Passphrase of {what} {path}: ", str(path.absolute()))
        if answer is None:
            raise PinRequiredError(
                f"{what} {path} is encrypted, no passphrase is configured and there is no terminal to ask on",
                hint=f"give --pkcs8-password, or keep the key where it needs none: in a token, or in {PRIVATE_FILE}",
            )
        return usable_passphrase(answer, "the terminal")
