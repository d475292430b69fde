"""Where a PIN or passphrase comes from.

The first *configured* source decides: a source that is named and does not give a PIN is an error, never a reason to ask
somewhere else. docs/pins.md says the same to users.
"""

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rolekey.base.advice import FILE_FORM
from rolekey.cached_answer import cache_directory
from rolekey.errors import PinNotUsableError, PinRequiredError
from rolekey.pin_files import MAX_PIN_FILE_SIZE, decoded_pin, read_regular_file, unreadable
from rolekey.pin_source import PinSource
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret
from rolekey.value import Value

log = logging.getLogger(__name__)
# RFC 8089: file:/path, file:///path, file://localhost/path. A relative path or another host is nowhere on this machine.
# On Windows a drive stands in the place of the first slash, or behind it (appendix E.2).
if sys.platform == "win32":
    _FILE = re.compile(r"file:(?:(?://(?:localhost)?)?/)?([A-Za-z]:[\\/].+)", re.DOTALL)
else:
    _FILE = re.compile(r"file:(?://(?:localhost)?)?(/(?!/).+)", re.DOTALL)


class Pin(Value):
    """A PIN that looks like one, and where it was.

    Args:
        secret: the PIN.
        source: as it was when the PIN was read.
    """

    secret: Secret
    source: PinSource


class PinSupply(Protocol):
    """What gives the configured PIN, and is told what became of it."""

    def read(self) -> Pin | None:
        """The PIN, as PinReader.read() says."""

    def note(self, *, usable: bool) -> None:
        """Hear whether the PIN may be sent again.

        Args:
            usable: False from before it is sent until it is known to have been accepted, or not looked at.
        """


class PinReader:
    """The configured source of a PIN. Make it before a module is loaded or a process started.

    Args:
        source: of ``--pin-source``, which decides, or None.
        uris: the first that configures a PIN decides next (RFC 7512: ``pin-value`` or ``pin-source``).
        group_readable: files may be readable by their group.
        option: where `source` was named.

    A PIN in an environment variable is taken out of this process's environment here and now, whether or not it turns
    out to be needed: no child that is started later inherits it.
    """

    def __init__(
        self,
        source: PinSource | None,
        *uris: PKCS11URI | None,
        group_readable: bool = False,
        option: str = "--pin-source",
    ) -> None:
        self._source = source
        self._uris = uris
        self._group_readable = group_readable
        self._option = option
        self._variable: Secret | None = None
        if source is not None and source.kind == "env" and (value := os.environ.pop(source.name, None)) is not None:
            self._variable = Secret(value)

    @property
    def configured(self) -> PinSource | None:
        """The source that decides, whatever it holds, or None; a URI's ``pin-source`` as it is written there."""
        if self._source is not None:
            return self._source
        uri = self._deciding_uri()
        if uri is None:
            return None
        return PinSource("pin-value") if uri.pin_source is None else PinSource("file", uri.pin_source)

    def read(self) -> Pin | None:
        """The PIN. It may block as long as a file or pipe does.

        Returns:
            The PIN, or None where no source is configured, or where it says that somebody be asked (or nobody).

        Raises:
            PinRequiredError: the named source cannot be read.
            PinNotUsableError: what it holds cannot be a PIN, or others may read it.
        """
        pin = self._from_uri() if self._source is None else self._from_source(self._source)
        if pin is None:
            return None
        log.debug("PIN: from %s", pin.source)
        return Pin(usable_pin(pin.secret, str(pin.source)), pin.source)

    def note(self, *, usable: bool) -> None:
        """Nothing is kept here."""

    def _deciding_uri(self) -> PKCS11URI | None:
        return next((uri for uri in self._uris if uri and (uri.pin_value, uri.pin_source) != (None, None)), None)

    def _from_uri(self) -> Pin | None:
        uri = self._deciding_uri()
        if uri is None:
            return None
        if uri.pin_value is not None:
            return Pin(uri.pin_value, PinSource("pin-value"))
        return _read_file(pin_source_path(uri.pin_source or ""), group_readable=self._group_readable)

    def _from_source(self, source: PinSource) -> Pin | None:
        if source.kind == "file":
            return _read_file(source.name, group_readable=self._group_readable)
        if source.kind == "systemd":
            return Pin(_read_credential(source), source)
        if source.kind == "fd":
            return Pin(_read_descriptor(source), source)
        if source.kind == "env":
            if self._variable is None:
                raise PinRequiredError(
                    f"{source}, which {self._option} names, is not set",
                    hint="set it for rolekey alone; it is read once and then removed from the environment",
                )
            return Pin(self._variable, source)
        return None


class KeptPin:
    """A PIN whose source can be read once, for a process that opens its token again and again.

    Args:
        reader: of ``fd:N`` or ``env:NAME``.
        source: what it reads.
    """

    def __init__(self, reader: PinReader, source: PinSource) -> None:
        self._reader = reader
        self._source = source
        self._lock = threading.Lock()
        self._pin: Pin | None = None
        self._usable = True

    def read(self) -> Pin | None:
        """The PIN, read at the first call; the same from then on, until one is not accepted.

        Raises:
            PinRequiredError: it was not accepted, or that is not known.
            PinError: as PinReader.read() says.
        """
        with self._lock:
            if not self._usable:
                raise PinRequiredError(
                    f"the PIN from {self._source} may have been refused and is not sent again, and another one cannot "
                    "be read from there",
                    hint="start the program anew with the right PIN",
                )
            self._pin = self._pin or self._reader.read()
            return self._pin

    def renew(self) -> None:
        """In a process that was forked: no thread of the parent holds it up."""
        self._lock = threading.Lock()

    def note(self, *, usable: bool) -> None:
        """Remember whether it may be given again, as PinSupply.note() says."""
        self._usable = usable


def claim_descriptor(text: str | None, option: str = "--pin-source") -> None:
    """Make sure of the descriptor of a ``fd:N``, before this process opens another one under that number.

    No child inherits it from now on.

    Args:
        text: what the option says; anything but ``fd:N`` is left to PinSource.parse().
        option: its name.

    Raises:
        PinRequiredError: the descriptor is not open.
    """
    kind, _, number = (text or "").partition(":")
    if kind != "fd" or not re.fullmatch("[0-9]{1,6}", number):
        return
    try:
        os.set_inheritable(int(number), False)
    except OSError as error:
        raise PinRequiredError(
            f"file descriptor {number}, which {option} names, is not open",
            hint=f"open it where rolekey is started, in a shell with {number}< /path/of/the/pin",
        ) from error


def usable_pin(pin: Secret, source: str) -> Secret:
    """The same PIN, unless it cannot be one: a token may count it as a wrong try.

    Raises:
        PinNotUsableError: it is empty, holds a control character or starts with a byte order mark, or cannot be
            written in UTF-8.
    """
    text = pin.reveal()
    if not text:
        problem = "is empty"
    elif any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text):
        problem = "holds a control character or a second line"
    elif text.startswith("\ufeff"):
        problem = "starts with a byte order mark"
    elif not _is_unicode(text):
        problem = "is not UTF-8"
    else:
        return pin
    raise PinNotUsableError(f"the PIN from {source} {problem}", hint="it was not sent to the token; correct the source")


def usable_passphrase(passphrase: Secret, source: str) -> Secret:
    """The same passphrase of a key file, unless it cannot be one.

    Raises:
        PinNotUsableError: it is empty or cannot be written in UTF-8.
    """
    text = passphrase.reveal()
    if text and _is_unicode(text):
        return passphrase
    problem = "is not UTF-8" if text else "is empty"
    raise PinNotUsableError(f"the passphrase from {source} {problem}", hint="it was not tried; correct the source")


def _is_unicode(text: str) -> bool:
    # A command line that is not UTF-8 arrives with lone surrogates.
    return not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def state_directory(environment: Mapping[str, str] | None = None) -> Path | None:
    r"""Where rolekey keeps what must outlive a login and a restart (XDG Base Directory Specification).

    Args:
        environment: in place of the process's.

    Returns:
        ``$XDG_STATE_HOME/rolekey``, else ``~/.local/state/rolekey`` (on Windows ``%LOCALAPPDATA%\rolekey``); None
        where the environment names neither.
    """
    variables = os.environ if environment is None else environment
    named = variables.get("XDG_STATE_HOME", "")
    if Path(named).is_absolute():
        return Path(named, "rolekey")
    if os.name == "nt":
        local = variables.get("LOCALAPPDATA", "")
        return Path(local, "rolekey") if local else None
    home = variables.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    return Path(home, ".local", "state", "rolekey") if Path(home).is_absolute() else None


def record_directories(environment: Mapping[str, str] | None = None) -> tuple[Path | None, Path | None]:
    """Where the record of refused PINs may be, as PinRecord takes it: the state directory, and the cache's.

    Args:
        environment: in place of the process's.
    """
    variables = os.environ if environment is None else environment
    cache = cache_directory(variables)
    return state_directory(variables), Path(cache) if cache else None


def pin_source_path(pin_source: str) -> str:
    """The path in a URI's ``pin-source``.

    Raises:
        PinRequiredError: it names no file of this machine.
    """
    match = _FILE.fullmatch(pin_source)
    if match is None:
        raise PinRequiredError(
            f"the URI's pin-source is not of the form {FILE_FORM}",
            hint="put the PIN into a file that only you can read and name it: pin-source=" + FILE_FORM,
        )
    return match[1]


def _read_file(path: str, *, group_readable: bool) -> Pin:
    # A symbolic link is followed (Kubernetes' secrets are links): what it leads to is what is checked and recorded.
    path = os.path.abspath(path)  # noqa: PTH100 - as above: resolve() would give the link's target
    data, version = read_regular_file(path, 0o037 if group_readable else 0o077)
    return Pin(decoded_pin(data, path), PinSource("file", path, version))


def _read_credential(source: PinSource) -> Secret:
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory:
        raise PinRequiredError(
            f"{source} is asked for, and CREDENTIALS_DIRECTORY is not set",
            hint=f"start rolekey from a unit that has LoadCredential={source.name}:/path/of/the/pin",
        )
    # systemd guards the directory; the modes inside show an access list's mask.
    path = str(Path(directory, source.name))
    return decoded_pin(read_regular_file(path, None)[0], path)


def _read_descriptor(source: PinSource) -> Secret:
    data = b""
    try:
        while len(data) <= MAX_PIN_FILE_SIZE and (piece := os.read(int(source.name), MAX_PIN_FILE_SIZE + 1)):
            data += piece
    except OSError as error:
        raise unreadable(str(source), error) from error
    return decoded_pin(data, str(source))
