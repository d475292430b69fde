"""A pcscd of the test run's own, with two virtual readers, beside whatever the system runs.

pcscd has its socket in /run/pcscd and can be told of no other place. Its clients can: libpcsclite takes the socket's
path from PCSCLITE_CSOCK_NAME. So only the daemon runs in a mount namespace, where a directory of the test stands for
/run/pcscd; the socket in it is seen from everywhere, and a process under test needs nothing but the variable of
`Pcscd.environment`. Without the right to make a namespace (a container's root without CAP_SYS_ADMIN), the daemon takes
the system's socket, if that is free.

The readers carry a YubiKey's name: libykcs11 looks at no others.
"""

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
READER_NAME = "Yubico YubiKey OTP+FIDO+CCID"
SYSTEM_SOCKET = Path("/run/pcscd/pcscd.comm")
_READY_SECONDS = 20
# In the namespace: an empty /run, with the test's directory as /run/pcscd.
_MOUNT = 'mount -t tmpfs tmpfs /run && mkdir /run/pcscd && mount --bind "$1" /run/pcscd'
_CONFIGURATION = """\
FRIENDLYNAME "{name}"
DEVICENAME   /dev/null:0x{port:04X}
LIBPATH      {driver}
CHANNELID    0x{port:04X}
"""


def find_pcscd() -> str | None:
    """The daemon, or None; it is mostly not on a user's path."""
    return shutil.which("pcscd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


def _unshare() -> list[str] | None:
    """The command that starts another in a mount namespace, or None where that is not allowed."""
    if shutil.which("unshare") is None:
        return None
    command = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        command += ["--user", "--map-root-user"]
    with tempfile.TemporaryDirectory(prefix="pcscd-") as directory:
        trial = [*command, "sh", "-c", _MOUNT, "sh", directory]
        return command if subprocess.run(trial, capture_output=True, check=False, timeout=30).returncode == 0 else None


def can_run() -> bool:
    """Whether the daemon and its virtual reader are installed and can be started."""
    if find_pcscd() is None or not DRIVER.exists() or shutil.which("opensc-tool") is None:
        return False
    return _unshare() is not None or (os.geteuid() == 0 and not SYSTEM_SOCKET.exists())


@dataclass(frozen=True)
class Pcscd:
    """A running daemon.

    Attributes:
        socket: where its clients find it.
        ports: of the two readers, on 127.0.0.1, for `VirtualCard.insert`.
    """

    socket: Path
    ports: tuple[int, int]

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to see the readers."""
        return {"PCSCLITE_CSOCK_NAME": str(self.socket)}

    def cards(self) -> list[bool]:
        """For each reader, whether there is a card in it, as a client sees it."""
        done = subprocess.run(
            ["opensc-tool", "--list-readers"],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        rows = [line.split() for line in done.stdout.splitlines() if READER_NAME in line]
        return [row[1] == "Yes" for row in rows]

    def wait_for_cards(self, *present: bool, timeout: float = 30) -> None:
        """Wait until clients see cards in the readers, or see that they are gone.

        Args:
            present: for each reader.
            timeout: seconds after which the test fails.
        """
        end = time.monotonic() + timeout
        while (seen := self.cards()) != list(present):
            assert time.monotonic() < end, f"readers with cards: {seen}, expected {list(present)}"
            time.sleep(0.05)


@contextmanager
def running_pcscd() -> Iterator[Pcscd]:
    """Run a daemon for the length of a with block."""
    # Not pytest's directory: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pcscd-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        for _ in range(5):
            process, daemon = _start(directory)
            try:
                if _is_ready(process, daemon):
                    yield daemon
                    return
            finally:
                _stop(process)
        raise RuntimeError(f"pcscd does not start: {(directory / 'log').read_text(errors='replace')[-2000:]}")


def _start(directory: Path) -> tuple[subprocess.Popen[bytes], Pcscd]:
    ports = _free_ports()
    configuration, run = directory / "readers", directory / "run"
    configuration.mkdir(exist_ok=True)
    run.mkdir(exist_ok=True)
    text = _CONFIGURATION.format(name=READER_NAME, port=ports[0], driver=DRIVER)
    (configuration / "virtual").write_text(text, encoding="ascii")
    pcscd = find_pcscd()
    assert pcscd is not None, "the rig's probe has seen it"
    command = [pcscd, "--foreground", "--config", str(configuration)]
    unshare = _unshare()
    if unshare is not None:
        # `exec`: the process that is stopped in the end is pcscd itself.
        if shutil.which("setpriv") is not None:  # a test run that was killed leaves no daemon behind
            command = ["setpriv", "--pdeathsig", "TERM", *command]
        command = [*unshare, "sh", "-c", f'{_MOUNT} && shift && exec "$@"', "sh", str(run), *command]
    socket_path = run / "pcscd.comm" if unshare is not None else SYSTEM_SOCKET
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return process, Pcscd(socket_path, ports)


def _is_ready(process: subprocess.Popen[bytes], daemon: Pcscd) -> bool:
    end = time.monotonic() + _READY_SECONDS
    while process.poll() is None and time.monotonic() < end:
        if daemon.socket.exists() and len(daemon.cards()) == len(daemon.ports):
            return True
        time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports() -> tuple[int, int]:
    """Two neighbours, below the range from which the system takes ports for clients."""
    for first in random.sample(range(20_000, 30_000, 2), 100):
        if _is_free(first) and _is_free(first + 1):
            return first, first + 1
    raise RuntimeError("no two neighbouring ports are free")


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("", port))
        except OSError:
            return False
    return True
