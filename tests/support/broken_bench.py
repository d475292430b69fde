"""What broken set-ups of `rolekey credential-process` are made of, for real, and the list of them for `rolekey doctor`.

Each is a function that gets a `Bench` and returns what is run. support/broken_setups.py has them all.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from rolekey.emulator.configuration import for_certificate_authority
from rolekey.emulator.model import Configuration
from support.emulator import RunningEmulator, running_emulator
from support.pcscd import Pcscd
from support.pkcs11_shim import (
    PKCS11Shim,
)
from support.pki import Issued, Overrides
from support.softhsm import ProvisionedToken
from support.swtpm import SWTPM

YEAR = timedelta(days=365)
NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Run:
    """What is run.

    Attributes:
        words: after `rolekey doctor`.
        environment: variables.
        before: the words of a program that runs it.
    """

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()


@dataclass
class Bench:
    """What set-ups are made of.

    Attributes:
        directory: a new one for each set-up.
        root: the CA whose certificate the emulator trusts.
        emulator: the service.
        token: SoftHSM's, not to be changed.
        shim: the module that goes wrong on purpose.
        pcscd: a daemon with two empty readers.
        tpm: a TPM.
        stack: closes what a set-up has opened.
    """

    directory: Path
    root: Issued
    emulator: RunningEmulator
    token: ProvisionedToken
    shim: PKCS11Shim
    pcscd: Pcscd
    tpm: SWTPM
    stack: ExitStack

    def leaf(self, issuer: Issued | None = None, **overrides: Any) -> list[str]:
        """Options for a new certificate, of a year unless said otherwise, with its key in a file."""
        given: Overrides = {"not_after": NOW + YEAR, **overrides}  # type: ignore[typeddict-item]  # as issue() has them
        return self.files((issuer or self.root).issue(common_name="machine", **given))

    def files(self, issued: Issued) -> list[str]:
        """Options for a certificate and its key in files."""
        certificate, key = issued.write(self.directory, "leaf")
        return ["--certificate", str(certificate), "--private-key", str(key)]

    @property
    def arns(self) -> list[str]:
        """Options for the service."""
        return self.emulator.arguments

    def anchor(self, issued: Issued | None = None) -> list[str]:
        """The option for the trust anchor's certificate."""
        path = self.directory / "anchor.pem"
        path.write_bytes((issued or self.root).pem)
        return ["--trust-anchor", str(path)]

    def softhsm(self, *, uri: str = "", pin: bool = True, module: Path | None = None) -> Run:
        """The token's P-256 key."""
        words = ["--private-key", uri or self.token.uri("p-256", with_pin=pin)]
        words += [
            "--certificate",
            str(self.token.certificate("p-256")),
            "--pkcs11-lib",
            str(module or self.token.module),
        ]
        return Run([*self.arns, *words], self.token.environment)

    def with_flags(self, flags: int) -> Run:
        """The token with flags of CK_TOKEN_INFO that it does not have."""
        shim = self.shim.over(self.token.module, self.directory / "shim")
        shim.rule("C_GetTokenInfo", set_flags=flags)
        run = self.softhsm(module=shim.module)
        return Run(run.words, {**run.environment, **shim.environment})

    def service(self, configuration: Configuration, **more: Any) -> list[str]:
        """Options for a service of another set-up."""
        return self.stack.enter_context(running_emulator(configuration, **more)).arguments

    def configuration(self, **parts: Any) -> Configuration:
        """The emulator's set-up for the CA, with some parts otherwise."""
        path = self.directory / "trusted.pem"
        path.write_bytes(self.root.pem)
        default = for_certificate_authority(path)
        return Configuration(**{**{n: getattr(default, n) for n in ("trust_anchors", "profiles", "roles")}, **parts})

    def aws(self, config: str, credentials: str = "") -> dict[str, str]:
        """Variables for the SDKs' files with this in them."""
        files = {"AWS_CONFIG_FILE": config, "AWS_SHARED_CREDENTIALS_FILE": credentials}
        for name, text in files.items():
            (self.directory / name).touch(mode=0o600)
            (self.directory / name).write_text(text, encoding="utf-8")
        return {name: str(self.directory / name) for name in files}


@dataclass(frozen=True)
class Broken:
    """A set-up and what doctor is to say.

    Attributes:
        name: of the row.
        check: whose line names the cause.
        says: words of that line.
        make: makes it.
        status: of that line.
        beside: checks that warn as well, and are right.
    """

    name: str
    check: str
    says: str
    make: Callable[[Bench], Run]
    status: Literal["failed", "warning"] = "failed"
    beside: Sequence[str] = ()


BROKEN: list[Broken] = []


def broken(
    name: str, check: str, says: str, status: Literal["failed", "warning"] = "failed", beside: Sequence[str] = ()
) -> Callable[[Callable[[Bench], Run]], Callable[[Bench], Run]]:
    """Put a function into the list."""

    def decorate(make: Callable[[Bench], Run]) -> Callable[[Bench], Run]:
        BROKEN.append(Broken(name, check, says, make, status, beside))
        return make

    return decorate
