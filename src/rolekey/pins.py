"""Where a PIN or passphrase comes from.

The first *configured* source decides: a source that is named and does not give a PIN is an error, never a reason to ask
somewhere else.
"""

import logging
import re
from pathlib import Path
from typing import Protocol

from rolekey.errors import PinNotUsableError, PinRequiredError
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret

log = logging.getLogger(__name__)
MAX_PIN_FILE_SIZE = 4096
# RFC 8089: file:/path, file:///path, file://localhost/path. A relative path or another host is nowhere on this machine.
_FILE = re.compile(r"file:(?://(?:localhost)?)?(/(?!/).+)", re.DOTALL)


class Interaction(Protocol):
    """A way to ask the person at this machine."""

    def ask(self, question: str) -> Secret | None:
        """Ask for a secret without echo.

        Args:
            question: one line, printable.

        Returns:
            The answer without its line end, or None where nobody can be asked.
        """


class NoInteraction:
    """Nobody is asked."""

    def ask(self, question: str) -> Secret | None:  # noqa: ARG002 - nobody hears it
        """None, always."""
        return None


def pin_from_uri(*uris: PKCS11URI | None) -> Secret | None:
    """The PIN of the first URI that configures one (RFC 7512: ``pin-value`` or ``pin-source``).

    Returns:
        The PIN, or None where no URI names a source.

    Raises:
        PinRequiredError: the named source cannot be read.
        PinNotUsableError: what it holds cannot be a PIN.
    """
    for uri in uris:
        if uri is None:
            continue
        if uri.pin_value is not None:
            log.debug("PIN: pin-value of %s", uri.selector())
            return usable_pin(uri.pin_value, "the URI's pin-value")
        if uri.pin_source is not None:
            log.debug("PIN: pin-source of %s", uri.selector())
            return usable_pin(_read_pin_source(uri.pin_source), "the URI's pin-source")
    return None


def usable_pin(pin: Secret, source: str) -> Secret:
    """The same PIN, unless it cannot be one: a token may count it as a wrong try.

    Raises:
        PinNotUsableError: it is empty, holds a control character or starts with a byte order mark, or cannot be
            written in UTF-8.
    """
    text = pin.reveal()
    if not text:
        problem = "is empty"
    elif any(ord(c) < 32 or ord(c) == 127 for c in text):
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


def _read_pin_source(source: str) -> Secret:
    match = _FILE.fullmatch(source)
    if match is None:
        raise PinRequiredError(
            "the URI's pin-source is not of the form file:/absolute/path",
            hint="put the PIN into a file that only you can read and name it: pin-source=file:/absolute/path",
        )
    path = Path(match[1])
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PIN_FILE_SIZE + 1)
    except OSError as error:
        raise PinRequiredError(
            f"cannot read the PIN from {path}: {error.strerror}",
            hint="check the path after pin-source=file: and the permissions of the file",
        ) from error
    line = data.removesuffix(b"\n").removesuffix(b"\r") if data.endswith(b"\n") else data
    if len(data) > MAX_PIN_FILE_SIZE:
        raise PinNotUsableError(f"{path} is too large to hold a PIN", hint="name the file that holds the PIN alone")
    text = _utf8(line)
    if text is None:
        raise PinNotUsableError(f"{path} is not UTF-8", hint="write the PIN as plain text")
    return Secret(text)


def _utf8(data: bytes) -> str | None:
    # Returns and does not raise: the decoder's error holds the PIN.
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
