"""A PKCS#11 module for Windows whose token signs: shim/windows_token.c, compiled for the run, and what is in its token.

token = WindowsToken.make(dll, tmp_path, {"rsa": root.issue(key="rsa2048")})
windows.run("rolekey", ..., "--pkcs11-lib", token.module, environment=token.environment)
assert token.signatures == 1
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from support.pki import Issued, PrivateKey
from support.windows_rig import Windows

SOURCE = Path(__file__).resolve().parent / "shim" / "windows_token.c"
COMPILER = "x86_64-w64-mingw32-gcc"
LABEL, SERIAL, PIN = "Prüfstand Süd", "0815", "4711-canary"

#: What the module is linked with.
LIBRARIES = ("gcrypt", "gpg-error", "ws2_32")


def compile_dll(source: Path, module: Path, *libraries: str | Path) -> None:
    """Build a DLL; of MinGW's libraries it needs none when it is loaded.

    Args:
        source: one C file.
        module: the DLL; its directory must exist.
        libraries: to be linked with, such as ``gcrypt``; a path is that of a DLL that will be loaded with this one.
    """
    command = [COMPILER, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-static", "-s"]
    command += ["-o", str(module), str(source), *(f"-l{x}" if isinstance(x, str) else str(x) for x in libraries)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


@dataclass(frozen=True)
class WindowsToken:
    """A token in a directory of its own.

    Args:
        module: the DLL.
        directory: what is in the token, and the log.
    """

    module: Path
    directory: Path

    @classmethod
    def make(
        cls, module: Path, directory: Path, holders: Mapping[str, Issued], always: frozenset[str] = frozenset()
    ) -> "WindowsToken":
        """Write what is in the token.

        Args:
            module: the DLL.
            directory: where to; it must exist, and its path be ASCII.
            holders: keys with certificates, by label; RSA or P-256.
            always: labels of those that want the PIN at each signature.
        """
        lines = [f"label {LABEL}", f"serial {SERIAL}", f"pin {PIN}"]
        for number, (label, issued) in enumerate(holders.items(), 1):
            when = "always" if label in always else "once"
            lines.append(f"key {number:02x} {label} {when} {_expression(issued.key)}")
            lines.append(f"certificate {number:02x} {label} {issued.der.hex()}")
        (directory / "file").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return cls(module, directory)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs for the module to find its token."""
        names = ("file", "log", "out", "stuck", "bad")
        return {f"TOKEN_{name.upper()}": Windows().path(self.directory / name) for name in names}

    @property
    def pin_file(self) -> Path:
        """A file with the PIN."""
        return self.write_pin(PIN)

    def write_pin(self, pin: str) -> Path:
        """Write a PIN, right or wrong, into a file."""
        path = self.directory / "pin"
        path.touch(mode=0o600)
        path.write_text(pin, encoding="utf-8")
        return path

    def remove(self) -> None:
        """Pull the token out of its slot."""
        (self.directory / "out").touch()

    def put_back(self) -> None:
        """Put the token back."""
        (self.directory / "out").unlink()

    def add_bad_slot(self) -> None:
        """Add a slot, the first, of which nothing can be asked."""
        (self.directory / "bad").touch()

    def be_stuck(self) -> None:
        """Never finish a signature."""
        (self.directory / "stuck").touch()

    @property
    def log(self) -> list[str]:
        """The calls that count, in order."""
        path = self.directory / "log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    @property
    def logins(self) -> list[str]:
        """How each C_Login ended: ``right user=1``, ``wrong``, ``locked``."""
        return [line.removeprefix("C_Login ") for line in self.log if line.startswith("C_Login ")]

    @property
    def signatures(self) -> int:
        """How many operations of a private key there were."""
        return sum(line.startswith("C_Sign ") for line in self.log)


def _expression(key: PrivateKey) -> str:
    """A key as libgcrypt reads it; there p is the smaller prime, and u its inverse modulo q."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        private = key.private_numbers()
        point = f"04{private.public_numbers.x:064x}{private.public_numbers.y:064x}"
        return f'(private-key (ecc (curve "NIST P-256") (q #{point}#) (d #{private.private_value:064x}#)))'
    assert isinstance(key, rsa.RSAPrivateKey), "the token has no other keys"
    numbers = key.private_numbers()
    p, q = sorted((numbers.p, numbers.q))
    values = {"n": numbers.public_numbers.n, "e": numbers.public_numbers.e, "d": numbers.d}
    values |= {"p": p, "q": q, "u": pow(p, -1, q)}
    return f"(private-key (rsa {' '.join(f'({name} #{_octets(value)}#)' for name, value in values.items())}))"


def _octets(value: int) -> str:
    # A leading zero octet: libgcrypt reads a number whose first bit is set as negative.
    return value.to_bytes(value.bit_length() // 8 + 1, "big").hex()
