"""Where a TPM is, and the TCTI (TSS 2.0 TPM Command Transmission Interface) that leads to it."""

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tpm2_pytss import TSS2_RC, PyTCTI, TCTILdr, TSS2_Exception

from rolekey.base.local_sockets import local_socket
from rolekey.errors import ConfigurationError, SignerError, TokenNotFoundError, TokenStateError
from rolekey.value import Value

MANAGED_DEVICE, RAW_DEVICE = Path("/dev/tpmrm0"), Path("/dev/tpm0")
_HEADER_SIZE, _MAX_RESPONSE = 10, 4096
_FORMS = "such as device:/dev/tpmrm0, tabrmd, or swtpm:host=127.0.0.1,port=2321"


class TPMAddress(Value):
    """Where a TPM is.

    Args:
        kind: the TCTI's name, or ``socket`` for a UNIX socket that takes bare commands.
        place: its configuration; of a device or socket the path.
    """

    kind: str
    place: str = ""

    @classmethod
    def choose(cls, tcti: str | None, device: str | None) -> "TPMAddress":
        """The TPM that the user means; the device with a resource manager where nothing is said.

        Args:
            tcti: of ``--tpm-tcti`` or TPM2TOOLS_TCTI, which decides: a TCTI, or the path of a device or socket.
            device: of TPM_DEVICE: the path of a character device or a UNIX socket.

        Raises:
            ConfigurationError: what is named is neither.
            TokenNotFoundError: nothing is named, and there is no TPM.
        """
        if tcti:
            if tcti.startswith("/") and not tcti.endswith(".so"):
                return cls._of_path(Path(tcti), "--tpm-tcti or TPM2TOOLS_TCTI")
            kind, _, place = tcti.partition(":")
            return cls(kind, place)
        if device:
            return cls._of_path(Path(device), "TPM_DEVICE")
        if MANAGED_DEVICE.exists():
            return cls("device", str(MANAGED_DEVICE))
        hint = "name the TPM with --tpm-tcti, " + _FORMS
        if RAW_DEVICE.exists():
            hint = f"there is {RAW_DEVICE}, without a resource manager: --tpm-tcti device:{RAW_DEVICE} uses it"
        raise TokenNotFoundError(f"there is no TPM: {MANAGED_DEVICE} does not exist", hint=hint)

    @classmethod
    def _of_path(cls, path: Path, source: str) -> "TPMAddress":
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise TokenNotFoundError(
                f"there is no TPM at {path}, which {source} names: {error.strerror}",
                hint="name the device, as a rule /dev/tpmrm0, or a TCTI with --tpm-tcti",
            ) from error
        if stat.S_ISSOCK(mode):
            return cls("socket", str(path))
        if stat.S_ISCHR(mode):
            return cls("device", str(path))
        raise ConfigurationError(
            f"{path}, which {source} names, is neither a device nor a socket",
            hint=f"name a device such as /dev/tpmrm0, or a TCTI with --tpm-tcti, {_FORMS}",
        )

    def __str__(self) -> str:
        if self.kind in ("device", "socket") and self.place:
            return self.place
        return f"{self.kind}:{self.place}" if self.place else self.kind

    def unreachable(self, reason: str) -> SignerError:
        """The error for a TPM that does not answer.

        Args:
            reason: the TSS's words.
        """
        path = Path(self.place)
        if self.kind == "device" and self.place:
            with suppress(FileNotFoundError):
                return _device_failure(path, reason)
        return TokenNotFoundError(
            f"no TPM answers at {self}: {reason}",
            hint=f"see that it runs, and that --tpm-tcti or TPM2TOOLS_TCTI is a TCTI, {_FORMS}",
        )


def _device_failure(path: Path, reason: str) -> SignerError:
    """What the system says of a device, instead of the TSS's "IO failure"."""
    try:
        os.close(os.open(path, os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return TokenNotFoundError(
                f"the TPM {path} may not be used: {error.strerror}",
                hint=f"add yourself to the group {_group_of(path)}, which owns {path}, and log in again",
            )
        if error.errno == errno.EBUSY:
            return TokenStateError(
                f"the TPM {path} is held by another program: {error.strerror}",
                hint=f"use {MANAGED_DEVICE}, which many programs can share, or end that program",
            )
        reason = error.strerror or reason
    return TokenNotFoundError(
        f"no TPM answers at {path}: {reason}", hint="see what the system's log says of the TPM (dmesg)"
    )


def _group_of(path: Path) -> str:
    if sys.platform != "win32":
        with suppress(OSError, KeyError, NotImplementedError):
            return path.group()
    return str(path.stat().st_gid)


@contextmanager
def open_tcti(address: TPMAddress) -> Iterator[Any]:
    """A TCTI for the length of a with block.

    Raises:
        SignerError: the TPM cannot be reached.
    """
    if address.kind == "socket":
        yield SocketTCTI(Path(address.place), address)
        return
    try:
        tcti = TCTILdr(address.kind, address.place or None)
    except TSS2_Exception as error:
        raise address.unreachable(str(error)) from error
    try:
        yield tcti
    finally:
        tcti.close()


class SocketTCTI(PyTCTI):  # type: ignore[misc]  # the extra may be missing where types are checked
    """A UNIX socket that takes one bare command on each connection, as swtpm's data socket does.

    Args:
        path: of the socket.
        address: for messages.
    """

    def __init__(self, path: Path, address: TPMAddress) -> None:
        super().__init__(max_size=_MAX_RESPONSE)
        self._path = path
        self._connection: socket.socket | None = None
        try:
            self._connect().close()
        except OSError as error:
            raise address.unreachable(error.strerror or str(error)) from error

    def _connect(self) -> socket.socket:
        connection = local_socket()
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        return connection

    def do_transmit(self, command: bytes) -> None:
        """Send a command over a new connection."""
        with _as_tss_error():
            self._connection = self._connect()
            self._connection.sendall(command)

    def do_receive(self, timeout: int) -> bytes:  # noqa: ARG002 - whoever waits has a deadline
        """Read the response, and close the connection."""
        connection, self._connection = self._connection, None
        if connection is None:
            raise TSS2_Exception(TSS2_RC.TCTI_RC_BAD_SEQUENCE)
        with connection, _as_tss_error():
            response = _read_exactly(connection, _HEADER_SIZE)
            return response + _read_exactly(connection, int.from_bytes(response[2:6]) - _HEADER_SIZE)


@contextmanager
def _as_tss_error() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError) as error:
        raise TSS2_Exception(TSS2_RC.TCTI_RC_IO_ERROR) from error


def _read_exactly(connection: socket.socket, length: int) -> bytes:
    if not 0 <= length <= _MAX_RESPONSE - _HEADER_SIZE:
        raise ValueError("no response of a TPM")
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
