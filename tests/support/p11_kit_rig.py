"""A token behind p11-kit's server: what a network HSM looks like to a program, down to the connection that breaks."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.card_rig import find_module
from support.rig_token import RigToken
from support.softhsm import OBJECT_IDS, ProvisionedToken
from support.watching import children_of


def find_p11_kit() -> Path | None:
    """p11-kit's client module, where the server is there as well; P11_KIT_CLIENT_MODULE overrides."""
    return find_module("p11-kit-client.so", "P11_KIT_CLIENT_MODULE") if shutil.which("p11-kit") else None


class P11KitServer:
    """The server, which may die and be started again on the same socket.

    Args:
        served: the SoftHSM token behind it.
        socket: where it listens.
    """

    def __init__(self, served: ProvisionedToken, socket: Path) -> None:
        self._served = served
        self._socket = socket
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert self._process is None
        self._socket.unlink(missing_ok=True)
        command = ["p11-kit", "server", "--foreground", "--provider", str(self._served.module)]
        command += ["--name", str(self._socket), f"pkcs11:token={self._served.label}"]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **self._served.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # every client has a process of its own at the server: they are stopped together
        )
        end = time.monotonic() + 30
        while not self._socket.is_socket():
            assert self._process.poll() is None, "p11-kit server does not start"
            assert time.monotonic() < end, "p11-kit server does not listen"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it with everything that serves its clients; without effect when it is dead."""
        process, self._process = self._process, None
        if process is not None:
            self._kill_servants(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._socket.unlink(missing_ok=True)

    @staticmethod
    def _kill_servants(server: int) -> None:
        """Kill what serves the clients first, while their parent is there to bury them."""
        end = time.monotonic() + 5
        while found := children_of(server):
            for child in found:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            if time.monotonic() > end:
                break
            time.sleep(0.01)

    def token(self, module: Path) -> RigToken:
        """The token as its clients see it.

        Args:
            module: p11-kit's client.
        """
        return RigToken(
            self._served.directory / "certificates",
            module,
            {"P11_KIT_SERVER_ADDRESS": f"unix:path={self._socket}"},
            self._served.user_pin,
            {label: f"token={self._served.label};object={label}" for label in OBJECT_IDS},
            given_pin_file=self._served.pin_file,
        )


@contextmanager
def running_p11_kit_server(served: ProvisionedToken) -> Iterator[P11KitServer]:
    """Run the server for the length of a with block.

    Args:
        served: the token behind it.
    """
    with tempfile.TemporaryDirectory(prefix="p11-kit-") as directory:
        server = P11KitServer(served, Path(directory) / "socket")
        try:
            server.start()
            yield server
        finally:
            server.kill()
