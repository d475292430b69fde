"""The virtual card in a reader, as OpenSC's and Yubico's modules show it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.pcscd import Pcscd
from support.pki import KeyName, make_root
from support.rig_token import RigToken, write_files
from support.virtual_card import VirtualCard

PIN = "123456"
# slot -> type of its key; 9C asks for the PIN at every signature, 9E at none.
KEYS: dict[int, KeyName] = {0x9A: "rsa2048", 0x9C: "p384", 0x9D: "p256", 0x9E: "p256"}
# label of the key -> its slot; both modules give CKA_ID 01, 02, 03, 04 to 9A, 9C, 9D, 9E.
SLOTS = {"rsa-2048": 0x9A, "always-auth": 0x9C, "p-256": 0x9E}
_OBJECT_IDS = {0x9A: 1, 0x9C: 2, 0x9D: 3, 0x9E: 4}

_PLACES = [
    f"{directory}/{name}"
    for directory in ("usr/lib", "usr/lib64", "usr/lib/*-linux-gnu", "usr/local/lib", "opt/homebrew/lib")
    for name in ("{}", "pkcs11/{}")
]


def find_module(file_name: str, variable: str) -> Path | None:
    """A PKCS#11 module at one of the usual places, or None.

    Args:
        file_name: such as "libykcs11.so".
        variable: of the environment, which names another place.
    """
    named = os.environ.get(variable)
    patterns = [named.lstrip("/")] if named else [place.format(file_name) for place in _PLACES]
    return next((path for pattern in patterns for path in sorted(Path("/").glob(pattern)) if path.is_file()), None)


def find_opensc() -> Path | None:
    """OpenSC's module; OPENSC_MODULE overrides."""
    return find_module("opensc-pkcs11.so", "OPENSC_MODULE")


def find_ykcs11() -> Path | None:
    """Yubico's module; YKCS11_MODULE overrides."""
    return find_module("libykcs11.so", "YKCS11_MODULE")


@dataclass(frozen=True)
class CardRig:
    """A card with keys, and the reader that it is for.

    Attributes:
        card: the card, with its counters.
        pcscd: the daemon behind both readers.
        directory: with the certificates and the PIN.
        reader: 0 or 1.
    """

    card: VirtualCard
    pcscd: Pcscd
    directory: Path
    reader: int = 0

    def insert(self) -> None:
        """Put the card into its reader; programs see it afterwards."""
        self.card.insert(self.pcscd.ports[self.reader])
        self._wait(present=True)

    def remove(self) -> None:
        """Pull the card; programs see that afterwards."""
        self.card.remove()
        self._wait(present=False)

    def token(self, module: Path) -> RigToken:
        """The card as a module shows it.

        Args:
            module: OpenSC's or Yubico's.
        """
        selectors = {label: f"id=%{_OBJECT_IDS[slot]:02X}" for label, slot in SLOTS.items()}
        return RigToken(self.directory, module, self.pcscd.environment, PIN, selectors)

    def _wait(self, *, present: bool) -> None:
        others = self.pcscd.cards()
        self.pcscd.wait_for_cards(*(present if number == self.reader else card for number, card in enumerate(others)))


@contextmanager
def card_in_reader(pcscd: Pcscd, directory: Path, *, reader: int = 0, serial: int = 10_000_001) -> Iterator[CardRig]:
    """A new card with `KEYS` and their certificates, in a reader for the length of a with block.

    Args:
        pcscd: the daemon.
        directory: for the certificates and the PIN.
        reader: 0 or 1.
        serial: the card's number.
    """
    issuer = make_root().issue_authority()
    card = VirtualCard(PIN, serial)
    leaves = {slot: issuer.issue(name, f"card {serial} slot {slot:02X}") for slot, name in KEYS.items()}
    for slot, leaf in leaves.items():
        card.put_key(slot, leaf.key, leaf.certificate)
    write_files(directory, issuer, {label: leaves[slot] for label, slot in SLOTS.items()}, PIN)
    with _inserted(CardRig(card, pcscd, directory, reader)) as rig:
        yield rig


@contextmanager
def empty_card_in_reader(pcscd: Pcscd, directory: Path, version: tuple[int, int, int]) -> Iterator[CardRig]:
    """A new card as it leaves the factory, in the first reader for the length of a with block.

    Args:
        pcscd: the daemon.
        directory: of no use to an empty card.
        version: the YubiKey's firmware.
    """
    with _inserted(CardRig(VirtualCard(PIN, version=version), pcscd, directory)) as rig:
        yield rig


@contextmanager
def _inserted(rig: CardRig) -> Iterator[CardRig]:
    rig.insert()
    try:
        yield rig
    finally:
        rig.card.remove()
        rig.remove()
