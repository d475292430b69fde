"""A token of any rig, with the interface that tests know from support.softhsm.ProvisionedToken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from support.pki import Issued, to_pem


@dataclass(frozen=True)
class RigToken:
    """Keys in a token, their certificates in files, and how a process reaches them.

    Attributes:
        directory: with the certificates and the file with the PIN; see `write_files`.
        module: the PKCS#11 module.
        environment: what a process needs in its environment to see the token.
        user_pin: the user's PIN.
        selectors: label of a key -> the path of the URI that selects it, such as "id=%01".
        reserved: the string that the module wants at C_Initialize, or None.
        wrapper: words in front of a command that is to see the token.
        given_pin_file: the file that holds the user's PIN, where it is not in the directory.
    """

    directory: Path
    module: Path
    environment: Mapping[str, str]
    user_pin: str
    selectors: Mapping[str, str]
    reserved: str | None = None
    wrapper: Sequence[str] = ()
    given_pin_file: Path | None = None

    @property
    def pin_file(self) -> Path:
        """The file that holds the user's PIN, without a line end."""
        return self.given_pin_file or self.directory / "user-pin"

    @property
    def root(self) -> Path:
        """The trust anchor's certificate, PEM."""
        return self.directory / "root.pem"

    @property
    def intermediate(self) -> Path:
        """The certificate between every end-entity certificate and the root, PEM."""
        return self.directory / "intermediate.pem"

    def uri(self, label: str, *, with_pin: bool = True) -> str:
        """The PKCS#11 URI that selects one key.

        Args:
            label: one of `selectors`.
            with_pin: whether the URI names the file with the PIN.
        """
        pin = f"?pin-source=file:{quote(str(self.pin_file))}" if with_pin else ""
        return f"pkcs11:{self.selectors[label]}{pin}"

    def certificate(self, label: str) -> Path:
        """The end-entity certificate of a key, PEM.

        Args:
            label: one of `selectors`.
        """
        return self.directory / f"{label}.pem"


def write_files(directory: Path, issuer: Issued, issued: Mapping[str, Issued], user_pin: str) -> None:
    """Write what a `RigToken` has in its directory.

    Args:
        directory: made if need be.
        issuer: the intermediate, which has issued the certificates.
        issued: label of a key -> its certificate.
        user_pin: the PIN.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pin = directory / "user-pin"
    pin.touch(mode=0o600)
    pin.write_text(user_pin, encoding="ascii")
    assert issuer.root is not None
    (directory / "root.pem").write_bytes(to_pem([issuer.root]))
    (directory / "intermediate.pem").write_bytes(issuer.pem)
    for label, leaf in issued.items():
        (directory / f"{label}.pem").write_bytes(leaf.pem)
