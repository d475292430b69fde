"""The official helper's selector of a certificate: ``Key=x509Subject,Value=CN=machine Key=x509Serial,Value=15D1``."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from rolekey.certificates import Certificate, read_file
from rolekey.errors import ConfigurationError
from rolekey.go_name import go_name
from rolekey.value import Value

FILE = "file://"
FLAG = "--cert-selector"
# As Go's regexp has it: white space is ASCII, and a dot is no line end.
_PAIR = re.compile(r"[ \t\n\f\r]*Key=([^\n]+?),Value=([^\n]+?)[ \t\n\f\r]*(?=Key=|\Z)")
_SERIAL = re.compile(r"[+-]?[0-9a-fA-F]+")
_KEYS = {"x509Subject": "subject", "x509Issuer": "issuer", "x509Serial": "serial"}


class CertificateSelector(Value, kw_only=True):
    """What a certificate must have; None is what it need not.

    Args:
        subject, issuer: as go_name() writes them.
        serial: the serial number.
    """

    subject: str | None = None
    issuer: str | None = None
    serial: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form that stands on a command line; an empty text selects every certificate.

        Raises:
            ConfigurationError: it is none.
        """
        pairs = []
        rest = text
        while rest:
            match = _PAIR.match(rest)
            if match is None:
                raise ConfigurationError(
                    f"{FLAG} cannot be read",
                    hint="write it as Key=x509Subject,Value=CN=machine Key=x509Serial,Value=15D1 with one pair or more "
                    "(and no Key= in a value), or as file://PATH of a JSON file",
                )
            pairs.append((match[1], match[2]))
            rest = rest[match.end() :]
        return cls._of(pairs, FLAG)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the form that stands in a file: a JSON array of objects with Key and Value.

        Raises:
            ConfigurationError: it cannot be read, or is none.
        """
        content = read_file(path, "selector file", ConfigurationError)
        return cls._of(_pairs_of(content, path), f"the selector in {path}")

    @classmethod
    def _of(cls, pairs: Iterable[tuple[str, str]], where: str) -> Self:
        values: dict[str, Any] = {}
        for key, text in pairs:
            name = _KEYS.get(key)
            if name is None or not text:
                raise ConfigurationError(
                    f"{where} has {'an empty value' if name else 'an unknown key'}",
                    hint=f"the keys are {', '.join(_KEYS)}, each with a value",
                )
            if name in values:
                raise ConfigurationError(f"{where} has {key} twice", hint="leave out one of them")
            if name == "serial" and not _SERIAL.fullmatch(text):
                raise ConfigurationError(
                    f"{where}: the serial number is not hexadecimal", hint="write digits alone: no 0x, colon or blank"
                )
            values[name] = int(text, 16) if name == "serial" else text
        return cls(**values)

    def selects(self, certificate: Certificate) -> bool:
        """Whether a certificate has everything that it must have, to the letter."""
        return (
            self.serial in (None, certificate.serial_number)
            and (self.subject is None or self.subject == go_name(certificate.subject))
            and (self.issuer is None or self.issuer == go_name(certificate.issuer))
        )

    def __str__(self) -> str:
        serial = None if self.serial is None else f"{self.serial:X}"
        values = {"x509Subject": self.subject, "x509Issuer": self.issuer, "x509Serial": serial}
        return " ".join(f"Key={key},Value={value}" for key, value in values.items() if value is not None)


def only_selectors(certificates: Iterable[Certificate], among: Iterable[Certificate]) -> tuple[str, ...]:
    """For each certificate the shortest text of a selector that selects it and no other.

    Args:
        certificates: those that are wanted.
        among: all that there are.

    Returns:
        One text for each; those are left out that no selector tells from another.
    """
    everything = list(among)
    texts = (_only_selector(certificate, everything) for certificate in certificates)
    return tuple(text for text in texts if text is not None)


def _only_selector(certificate: Certificate, everything: list[Certificate]) -> str | None:
    serial = CertificateSelector(serial=certificate.serial_number)
    issuer = CertificateSelector(serial=serial.serial, issuer=go_name(certificate.issuer))
    for selector in (serial, issuer, CertificateSelector(**vars(issuer) | {"subject": go_name(certificate.subject)})):
        if [other for other in everything if selector.selects(other)] == [certificate] and _is_readable(selector):
            return str(selector)
    return None


def _is_readable(selector: CertificateSelector) -> bool:
    """Whether its text says the same: a name may have what the grammar has no way to write."""
    try:
        return CertificateSelector.parse(str(selector)) == selector
    except ConfigurationError:
        return False


def _pairs_of(content: bytes, path: Path) -> list[tuple[str, str]]:
    try:
        entries = json.loads(content.decode("utf-8-sig"))  # as PowerShell writes it
        return [_pair(entry) for entry in _checked(entries, list)]
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} is no selector",
            hint='write a JSON array in UTF-8, such as [{"Key": "x509Subject", "Value": "CN=machine"}]',
        ) from error


def _pair(entry: Any) -> tuple[str, str]:
    # As Go reads it: the names in any case, and others beside them.
    values = {name.lower(): value for name, value in _checked(entry, dict).items()}
    return _checked(values.get("key", ""), str), _checked(values.get("value", ""), str)


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(kind.__name__)
    return value
