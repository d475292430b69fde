"""A SoftHSM token made by softhsm/provision, as tests use it."""

import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

PROVISION = Path(__file__).resolve().parents[2] / "softhsm" / "provision"
TOKEN_LABEL = "rolekey-softhsm"
# label of key and certificate -> CKA_ID of both
OBJECT_IDS = {
    "rsa-2048": b"\x01",
    "rsa-4096": b"\x02",
    "p-256": b"\x03",
    "p-384": b"\x04",
    "p-521": b"\x05",
    "always-auth": b"\x06",
}


@dataclass(frozen=True)
class ProvisionedToken:
    """A directory that softhsm/provision has filled; softhsm/README.md says what is in it."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> "ProvisionedToken":
        """Runs softhsm/provision into a directory.

        Args:
            directory: where; it need not exist.
        """
        run = subprocess.run([PROVISION, directory], capture_output=True, text=True, check=False, timeout=300)
        if run.returncode != 0:
            raise RuntimeError(f"softhsm/provision failed: {run.stderr}")
        return cls(directory)

    def copy(self, directory: Path) -> "ProvisionedToken":
        """The same token and keys in another directory, to be changed; for a process of its own.

        Args:
            directory: where; it must not exist.
        """
        shutil.copytree(self.directory, directory)
        for name in ("softhsm2.conf", "env"):
            file = directory / name
            file.write_text(file.read_text().replace(str(self.directory), str(directory)))
        return ProvisionedToken(directory)

    @cached_property
    def _variables(self) -> dict[str, str]:
        words = shlex.split((self.directory / "env").read_text(encoding="utf-8"))
        return dict(word.split("=", 1) for word in words if "=" in word)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to see the token: SOFTHSM2_CONF."""
        return {"SOFTHSM2_CONF": self._variables["SOFTHSM2_CONF"]}

    @property
    def module(self) -> Path:
        """SoftHSM's PKCS#11 module."""
        return Path(self._variables["SOFTHSM2_MODULE"])

    @property
    def label(self) -> str:
        """The token's label."""
        return TOKEN_LABEL

    @property
    def user_pin(self) -> str:
        """The user's PIN."""
        return (self.directory / "user-pin").read_text(encoding="ascii")

    @property
    def pin_file(self) -> Path:
        """The file that holds the user's PIN, without a line end."""
        return self.directory / "user-pin"

    @property
    def root(self) -> Path:
        """The trust anchor's certificate, PEM."""
        return self.directory / "ca" / "root.pem"

    @property
    def intermediate(self) -> Path:
        """The certificate between every end-entity certificate and the root, PEM."""
        return self.directory / "ca" / "intermediate.pem"

    def uri(self, label: str, *, with_pin: bool = True) -> str:
        """The PKCS#11 URI that selects one key, and the certificate of the same label.

        Args:
            label: one of `OBJECT_IDS`.
            with_pin: whether the URI names the file with the PIN.
        """
        pin = f"?pin-source=file:{quote(str(self.pin_file))}" if with_pin else ""
        return f"pkcs11:token={TOKEN_LABEL};object={label}{pin}"

    def certificate(self, label: str) -> Path:
        """The end-entity certificate of a key, PEM.

        Args:
            label: one of `OBJECT_IDS`.
        """
        return self.directory / "certificates" / f"{label}.pem"
