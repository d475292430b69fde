"""A PKCS#11 module that goes wrong on purpose: shim/pkcs11_shim.c, compiled for the run, over any other module.

    shim = pkcs11_shim.over(provisioned_token.module, tmp_path)
    shim.rule("C_Sign", result=CKR_DEVICE_REMOVED, times=1)
    rolekey(..., "--pkcs11-lib", str(shim.module), environment=shim.environment)
    assert shim.calls["C_Login"] == 1

Rules are read at every call, so that they may change while a process runs. The process under test must be one of its
own: the shim learns from the environment what to load, and would share its module with other users in the process.
"""

import itertools
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "shim" / "pkcs11_shim.c"

# Token flags of the standard (CKF_...), for `set_flags` and `clear_flags`.
LOGIN_REQUIRED = 0x4
PROTECTED_AUTHENTICATION_PATH = 0x100
USER_PIN_COUNT_LOW = 0x10000
USER_PIN_FINAL_TRY = 0x20000
USER_PIN_LOCKED = 0x40000
USER_PIN_TO_BE_CHANGED = 0x80000

# C_Login's user types, for `only`.
CKU_USER = 1
CKU_CONTEXT_SPECIFIC = 2

_ids = itertools.count(1)


def find_compiler() -> str | None:
    """A C compiler, or None."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def can_compile() -> bool:
    """Whether there is a compiler with the C library's headers."""
    compiler = find_compiler()
    command = [compiler or "", "-fsyntax-only", "-x", "c", "-"]
    return compiler is not None and (
        subprocess.run(command, input=b"#include <dlfcn.h>\n", capture_output=True, check=False).returncode == 0
    )


def compile_module(source: Path, directory: Path) -> Path:
    """Build a PKCS#11 module.

    Args:
        source: one C file.
        directory: where to; it must exist.

    Returns:
        The shared object.
    """
    compiler = find_compiler()
    assert compiler is not None, "the rig's probe has seen one"
    module = directory / f"{source.stem}.so"
    command = [compiler, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    command += ["-o", str(module), str(source), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return module


@dataclass(frozen=True)
class ShimmedModule:
    """The shim over one module: what a test hands to the process under test.

    Attributes:
        module: the path to load instead of the real module.
        wrapped: the real module.
        directory: where rules and log are.
    """

    module: Path
    wrapped: Path
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment for the shim to work; the real module's variables come on top."""
        return {
            "PKCS11_SHIM_MODULE": str(self.wrapped),
            "PKCS11_SHIM_RULES": str(self.directory / "rules"),
            "PKCS11_SHIM_LOG": str(self.directory / "calls"),
        }

    def rule(
        self,
        function: str,
        *,
        result: int | None = None,
        after: bool = False,
        slot: int | None = None,
        only: int | None = None,
        skip: int | None = None,
        times: int | None = None,
        sleep_ms: int | None = None,
        hang: bool = False,
        crash: bool = False,
        stdout: bytes | None = None,
        stderr: bytes | None = None,
        label: bytes | None = None,
        serial: bytes | None = None,
        set_flags: int | None = None,
        clear_flags: int | None = None,
        shortest_pin: int | None = None,
        longest_pin: int | None = None,
        pad_pin: str | None = None,
        hide_mechanism: int | None = None,
        add_mechanism: int | None = None,
    ) -> None:
        """Add a rule; from the next call on it is in force. Rules add up, and the last one's result is returned.

        Args:
            function: such as "C_SignInit".
            result: the CKR to answer, without a call of the real module.
            after: call the real module all the same, and answer `result` afterwards.
            slot: only for calls that concern this slot.
            only: only for calls with this detail: a user type, a mechanism, the first attribute's type; for C_Sign 1
                with a buffer and 0 when it asks for the length.
            skip: this many calls are left alone first.
            times: it applies to this many calls of each process; to all unless given.
            sleep_ms: pause before the call.
            hang: never return.
            crash: abort the process.
            stdout: written to file descriptor 1 at the call.
            stderr: written to file descriptor 2 at the call.
            label: the token's label, the slot's or the library's description, at most as long as the field.
            serial: the token's serial number.
            set_flags: of the token or slot.
            clear_flags: of the token or slot.
            shortest_pin: the token's minimum.
            longest_pin: the token's maximum.
            pad_pin: for C_Login: what somebody enters on the token's PIN pad, where it is given no PIN.
            hide_mechanism: taken out of C_GetMechanismList.
            add_mechanism: put into C_GetMechanismList.
        """
        numbers = {
            "id": next(_ids),
            "slot": slot,
            "only": only,
            "skip": skip,
            "times": times,
            "sleep": sleep_ms,
            "return": result,
            "set": set_flags,
            "clear": clear_flags,
            "min-pin": shortest_pin,
            "max-pin": longest_pin,
            "hide": hide_mechanism,
            "add": add_mechanism,
        }
        pad = pad_pin.encode() if pad_pin is not None else None
        texts = {"out": stdout, "err": stderr, "label": label, "serial": serial, "pad-pin": pad}
        words = [function]
        words += [f"{name}={number}" for name, number in numbers.items() if number is not None]
        words += [f"{name}={text.hex()}" for name, text in texts.items() if text is not None]
        words += [name for name, on in (("after", after), ("hang", hang), ("crash", crash)) if on]
        self._write([*self._rules(), " ".join(words)])

    def clear(self) -> None:
        """Take all rules away: the shim passes everything on."""
        self._write([])

    @property
    def calls(self) -> Counter[str]:
        """How often each function was called, by all processes together."""
        return Counter(name for _, name, _ in self._log())

    @property
    def logins(self) -> Counter[int]:
        """C_Login by user type."""
        return Counter(detail for _, name, detail in self._log() if name == "C_Login")

    @property
    def pad_logins(self) -> Counter[int]:
        """C_Login without a PIN, by user type."""
        return Counter(detail for _, name, detail in self._log() if name == "C_Login(NULL)")

    @property
    def sequence(self) -> list[str]:
        """The functions in the order in which they were called."""
        return [name for _, name, _ in self._log()]

    @property
    def signatures(self) -> int:
        """C_Sign with a buffer: each is one operation of the private key."""
        return sum(1 for _, name, detail in self._log() if name == "C_Sign" and detail == 1)

    def forget_calls(self) -> None:
        """Start counting again."""
        (self.directory / "calls").unlink(missing_ok=True)

    def _rules(self) -> list[str]:
        file = self.directory / "rules"
        return file.read_text(encoding="ascii").splitlines() if file.exists() else []

    def _write(self, rules: list[str]) -> None:
        new = self.directory / "rules.new"
        new.write_text("".join(f"{rule}\n" for rule in rules), encoding="ascii")
        new.replace(self.directory / "rules")  # at once: another process reads the file at every call

    def _log(self) -> Iterator[tuple[int, str, int]]:
        file = self.directory / "calls"
        for line in file.read_text(encoding="ascii").splitlines() if file.exists() else ():
            process, name, detail = line.split(" ")
            yield int(process), name, int(detail)


@dataclass(frozen=True)
class PKCS11Shim:
    """The compiled shim.

    Attributes:
        module: the shared object.
    """

    module: Path

    @classmethod
    def compile(cls, directory: Path) -> "PKCS11Shim":
        """Build it.

        Args:
            directory: where to; it must exist.
        """
        return cls(compile_module(SOURCE, directory))

    def over(self, module: Path, directory: Path) -> ShimmedModule:
        """Put it over another module, without any rule.

        Args:
            module: the one that does the work.
            directory: for rules and log; made if need be, and one for each use.
        """
        directory.mkdir(parents=True, exist_ok=True)
        return ShimmedModule(self.module, module, directory)
