"""The passwords of a key in a TPM and of its parent: where they come from.

One source decides for each, as for a token's PIN: a refusal ends the run, and pin_guard keeps the next run from sending
the same again.
"""

from rolekey.base.advice import FILE_FORM
from rolekey.deadline import Deadline
from rolekey.errors import (
    ConfigurationError,
    PinNotUsableError,
    PinRequiredError,
    Tries,
    UnsupportedKeyError,
    printable,
)
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.pin_record import Directories, TokenName
from rolekey.pin_source import FORMS, PinSource
from rolekey.pins import Pin, PinReader, PinSupply, usable_pin
from rolekey.secret import Secret
from rolekey.signers.tpm_connection import TPM
from rolekey.signers.tpm_device import TPMDevice
from rolekey.signers.tpm_key import TPMKey
from rolekey.signers.tpm_objects import read_public
from rolekey.signers.tpm_public import PublicArea
from rolekey.tpm_passwords import Holder, Password, TPMPasswords, check_lockout
from rolekey.tss2_key import HIERARCHIES, OWNER

_TRIES_LEFT: dict[Tries, str] = {"low": " (few tries are left)", "last": " (THE LAST TRY)"}
# The longest password that a hierarchy can have, in bytes: the longest hash of any TPM.
_LONGEST = 64
# Of a key whose nameAlg is SHA-256.
_LONGEST_NEW = 32
_PARENTS_OPTION = "--tpm-parent-password-source"


class TPMLogin:
    """Sees to the passwords as the settings say. Make it early: one in a variable is taken out of it then.

    Args:
        settings: where passwords come from.
        interaction: asks where no source is configured.
        deadline: for the sources, for other processes that send a password to the same key, and for the TPM.
        directories: where the record of refused sources is.
        pins: gives the configured password of the key in place of a PinReader.
    """

    def __init__(
        self,
        settings: KeySettings,
        interaction: Interaction,
        deadline: Deadline,
        directories: Directories,
        *,
        pins: PinSupply | None = None,
    ) -> None:
        readable = settings.pin_file_group_readable
        self._settings = settings
        self._pins = pins or PinReader(settings.pin_source, group_readable=readable)
        self._parents_pins = PinReader(
            settings.tpm.parent_password_source, group_readable=readable, option=_PARENTS_OPTION
        )
        self._interaction = interaction
        self._deadline = deadline
        self._directories = directories

    def open(self, device: TPMDevice, key: TPMKey) -> "TPMPasswords":
        """Read or ask for what the key and its parent need. Nothing is sent yet.

        Args:
            device: the TPM; a locked one is found before anybody is asked.
            key: the key.

        Raises:
            PinError: there is no password, it cannot be one, or the TPM takes none.
            UnsupportedKeyError: a password was given for a key that has none.
        """
        parent = self._parent(device, key)
        own = None
        if not key.policy or any(step.needs_password for step in key.policy):
            own = self._own(device, key)
        return TPMPasswords(
            own,
            parent,
            self._directories,
            self._deadline,
            self._pins,
            use_last_try=self._settings.use_last_try,
        )

    def open_owner(self, device: TPMDevice, text: str) -> TPMPasswords:
        """Read what the owner's hierarchy needs, to make a key under it. Nothing is sent yet.

        Args:
            device: the TPM.
            text: what messages call the new key.

        Raises:
            PinError: there is no password, or it cannot be one.
        """
        name = TokenName("TPM hierarchy", f"{OWNER:#x}", "", "")
        parent = self._of_parent(device, OWNER, f"the parent of {text}", name)
        use_last_try = self._settings.use_last_try
        return TPMPasswords(None, parent, self._directories, self._deadline, self._pins, use_last_try=use_last_try)

    def new_password(self) -> Secret | None:
        """The password that a new key is to have, or None where no source is configured.

        Raises:
            ConfigurationError: the source is a question: a new password is not asked for.
            PinError: it cannot be read, or is too long.
        """
        given, named = self._settings.tpm.key_password, self._settings.pin_source
        if given is None and named is not None and named.kind == "prompt":
            raise ConfigurationError(
                "--pin-source is prompt, and the password of a new key is not asked for",
                hint="put it into a file that only you can read, and give --pin-source " + FILE_FORM,
            )
        pin = self._deadline.run("the password's source", self._pins.read) if given is None else None
        secret = usable_pin(given, "--tpm-key-password") if given is not None else pin.secret if pin else None
        if secret is not None and len(secret.reveal().encode()) > _LONGEST_NEW:
            raise PinNotUsableError(
                f"the password of a TPM key has at most {_LONGEST_NEW} bytes", hint="give a shorter one"
            )
        return secret

    def _own(self, device: TPMDevice, key: TPMKey) -> Password:
        holder = Holder(
            name_of_area(key.area),
            key.text,
            "--pin-source",
            key.area.largest_password,
            key.area.counts_wrong_passwords,
        )
        empty = self._empty_source(key)
        return Password(holder, empty, None) if empty else self._key_password(device, holder)

    def _empty_source(self, key: TPMKey) -> PinSource | None:
        """Who says that the key has no password, or None where nobody does."""
        settings = self._settings.tpm
        if key.file is not None and key.file.empty_auth:
            if settings.key_password is not None:
                raise UnsupportedKeyError(
                    f"a password was given, but {key.text} has none (emptyAuth)", hint="leave out --tpm-key-password"
                )
            return PinSource("empty-auth")
        if settings.key_password is None and settings.no_key_password:
            return PinSource("no-tpm-key-password")
        return None

    def _key_password(self, device: TPMDevice, holder: Holder) -> Password:
        tries: Tries = "unknown"
        if holder.counted:
            lockout = device.run("the TPM", TPM.lockout)
            check_lockout(lockout, use_last_try=self._settings.use_last_try)
            tries = lockout.tries
        given, named = self._settings.tpm.key_password, self._settings.pin_source
        if given is not None:
            pin: Pin | None = Pin(usable_pin(given, "--tpm-key-password"), PinSource("tpm-key-password"))
        elif named is not None and named.kind == "none":
            raise PinRequiredError(
                f"{holder.text} needs a password, and --pin-source is none", hint=f"give one of {FORMS} to --pin-source"
            )
        else:
            pin = self._deadline.run("the password's source", self._pins.read)
        return _checked(pin or self._ask(holder, tries), holder)

    def _ask(self, holder: Holder, tries: Tries = "unknown") -> Pin:
        left = _TRIES_LEFT.get(tries, "")
        question = printable(f"Password of {holder.text}{left}{self._settings.purpose}: ")
        answer = self._interaction.ask(question, holder.text)
        if answer is None:
            raise PinRequiredError(
                f"{holder.text} needs a password and there is none to be had: no source is named, no terminal, no "
                "display with a pinentry",
                hint=f"give --pin-source one of {FORMS}; or --no-tpm-key-password, if the key has no password",
            )
        return Pin(usable_pin(answer, "the terminal"), PinSource("prompt"))

    def _parent(self, device: TPMDevice, key: TPMKey) -> Password | None:
        source = self._settings.tpm.parent_password_source
        if key.file is None:
            if source is not None:
                raise ConfigurationError(
                    f"{_PARENTS_OPTION} is for a key in a file, and --private-key names a handle",
                    hint="leave it out: a key that the TPM keeps is used without its parent",
                )
            return None
        number, text = key.file.parent, f"the parent of {key.text}"
        # Noted under the key: what the parent is called, only the TPM knows.
        name = TokenName("TPM key's parent", name_of_area(key.area).serial, "", "")
        return self._of_parent(device, number, text, name)

    def _of_parent(self, device: TPMDevice, number: int, text: str, name_without: TokenName) -> Password:
        source = self._settings.tpm.parent_password_source
        if source is None or source.kind == "none":
            holder = Holder(name_without, text, _PARENTS_OPTION, 0, counted=number not in HIERARCHIES)
            return Password(holder, PinSource("no-parent-password"), None)
        holder = device.run("the TPM", lambda tpm: _parent_holder(tpm, number, text))
        pin = self._deadline.run("the password's source", self._parents_pins.read)
        return _checked(pin or self._ask(holder), holder)


def _checked(pin: Pin, holder: Holder) -> Password:
    if len(pin.secret.reveal().encode()) > holder.longest:
        raise PinNotUsableError(
            f"the password from {pin.source} is longer than that of {holder.text} can be",
            hint=f"it was not sent; it can have {holder.longest} bytes; correct the source",
        )
    return Password(holder, pin.source, pin.secret)


def name_of_area(area: PublicArea) -> TokenName:
    """What tells a key from all others, in every TPM: its Name, as much of it as a serial number of PKCS#11 holds.

    Args:
        area: the key's.
    """
    return TokenName("TPM key", area.name[2:10].hex(), "", "")


def _parent_holder(tpm: TPM, handle: int, text: str) -> Holder:
    if handle in HIERARCHIES:
        manufacturer, model = tpm.maker()
        name = TokenName("TPM hierarchy", f"{handle:#x}", manufacturer, model)
        return Holder(name, f"{text}, the hierarchy {handle:#x}", _PARENTS_OPTION, _LONGEST, counted=False)
    area = read_public(tpm, handle, f"{text}, {handle:#x}")
    text = f"{text}, {handle:#x}"
    return Holder(name_of_area(area), text, _PARENTS_OPTION, area.largest_password, area.counts_wrong_passwords)
