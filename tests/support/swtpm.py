"""A TPM 2.0 in software (swtpm), one for each test module, with the tools of Debian that make keys in it.

There is no resource manager: whatever is not flushed stays loaded, and three objects fill the TPM. `SWTPM.assert_clean`
says whether anything was left behind.
"""

import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# Pairs of ports are looked for below those that the system gives to clients.
_PORTS = range(20000, 32000, 2)
_ATTEMPTS = 50
_SECONDS = 30
_PROVIDER = ("-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2")
_PROGRAMS = ("swtpm", "openssl", "tpm2_getcap", "tpm2_create", "tpm2_evictcontrol")


def has_programs() -> bool:
    """Whether swtpm, tpm2-tools and OpenSSL's provider for TPM keys are there."""
    provider = next(Path("/usr").glob("lib*/**/ossl-modules/tpm2.so"), None)
    return provider is not None and all(shutil.which(program) for program in _PROGRAMS)


@dataclass
class SWTPM:
    """A running TPM.

    Attributes:
        directory: its own; it keeps its state there.
        port: where it takes commands; one more is its control channel.
    """

    directory: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def tcti(self) -> str:
        """How the TSS is told of it."""
        return f"swtpm:host=127.0.0.1,port={self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What tpm2-tools and OpenSSL's provider need in their environment to find it."""
        return {"TPM2TOOLS_TCTI": self.tcti, "TPM2OPENSSL_TCTI": self.tcti}

    def start(self) -> None:
        """Switch it on; with the keys that were made persistent before, on the same ports where they are free."""
        (self.directory / "state").mkdir(parents=True, exist_ok=True)
        # A new TPM takes any pair; one that comes back is known under its port.
        candidates = [self.port] * _ATTEMPTS if self.port else random.sample(_PORTS, _ATTEMPTS)
        for port in candidates:
            if self._try_to_start(port):
                self.port = port
                return
        raise RuntimeError((self.directory / "log").read_text(errors="replace"))

    def _try_to_start(self, port: int) -> bool:
        pid = self.directory / "pid"
        pid.unlink(missing_ok=True)
        with (self.directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.directory / 'state'}"),
                    *("--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"),
                    *("--flags", "not-need-init,startup-clear", "--pid", f"file={pid}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._process = process
        # It writes the file once both ports are its own, and ends where one of them is not to be had.
        end = time.monotonic() + _SECONDS
        while process.poll() is None and time.monotonic() < end:
            if pid.exists() and pid.read_text().strip() == str(process.pid):
                return True
            time.sleep(0.002)
        self.stop()
        return False

    def stop(self) -> None:
        """Pull the plug: what is loaded is gone, what is persistent stays."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_SECONDS)

    def run(self, *words: str, stdin: bytes = b"", check: bool = True) -> str:
        """Run a tool with this TPM, in `directory`.

        Args:
            words: the command.
            stdin: what it reads.
            check: whether a failure is an error.

        Returns:
            What it printed on stdout.
        """
        done = subprocess.run(
            words,
            cwd=self.directory,
            env={**os.environ, **self.environment},
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode(errors="replace")

    def openssl(self, command: str, *words: str) -> str:
        """Run OpenSSL with the provider that uses this TPM; see `run`.

        Args:
            command: such as "genpkey".
            words: of that command.
        """
        return self.run("openssl", command, *_PROVIDER, *words)

    def loaded(self) -> str:
        """The transient objects and the sessions that are loaded, a line for each; empty where there are none."""
        return "".join(self.run("tpm2_getcap", name) for name in ("handles-transient", "handles-loaded-session"))

    def flush(self) -> None:
        """Unload every transient object and every session."""
        for kind in ("--transient-object", "--loaded-session", "--saved-session"):
            self.run("tpm2_flushcontext", kind)

    def assert_clean(self) -> None:
        """Nobody has left anything behind. What was left is unloaded, so that the next test can say the same."""
        left = self.loaded()
        if left:
            self.flush()
        assert not left, f"left in the TPM:\n{left}"

    def lockout_counter(self) -> int:
        """How many wrong passwords the TPM has counted."""
        listed = self.run("tpm2_getcap", "properties-variable")
        found = re.search(r"TPM2_PT_LOCKOUT_COUNTER: (0x[0-9A-Fa-f]+)", listed)
        assert found is not None, listed
        return int(found[1], 16)

    def reset_lockout(self) -> None:
        """Forget the wrong passwords."""
        self.run("tpm2_dictionarylockout", "--clear-lockout")


@contextmanager
def running_swtpm(directory: Path) -> Iterator[SWTPM]:
    """A new TPM for the length of a with block.

    Args:
        directory: its own.
    """
    tpm = SWTPM(directory)
    tpm.start()
    try:
        yield tpm
    finally:
        tpm.stop()
