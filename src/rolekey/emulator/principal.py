"""Who the caller is by the certificate: source identity, session name and tags (IAM Roles Anywhere trust model)."""

import re
import unicodedata
from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import NameOID

from rolekey.emulator.certificates import Certificate

_LONGEST_WITH_PREFIX = 61  # "CN=" and this make STS's 64
_LONGEST = 64
_LONGEST_KEY = 128
_LONGEST_VALUE = 256
_ALLOWED = re.compile(r"[_.:/=+\-@]")


def source_identity(certificate: Certificate) -> str:
    """The source identity that STS records.

    Args:
        certificate: the end-entity certificate.

    Returns:
        ``CN=`` and the common name, the common name alone where that would be too long, or ``ID=`` and the serial
        number in hexadecimal. What the service does with a common name that STS does not take is not known: here it
        counts as none.
    """
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        name = _text(attribute)
        if name and len(name) <= _LONGEST and _acceptable(name):
            return f"CN={name}" if len(name) <= _LONGEST_WITH_PREFIX else name
        break
    return f"ID={serial_hex(certificate)}"


def serial_hex(certificate: Certificate) -> str:
    """The serial number as the service writes it, also the default name of a session.

    Args:
        certificate: the end-entity certificate.

    Returns:
        Lower-case hexadecimal with an even number of digits.
    """
    digits = f"{certificate.serial:x}"
    return digits.zfill(len(digits) + len(digits) % 2)


def session_tags(certificate: Certificate) -> dict[str, str]:
    """The session tags, which trust policies see as ``aws:PrincipalTag/...``.

    Args:
        certificate: the end-entity certificate.

    Returns:
        Values by key: ``x509Subject/*``, ``x509Issuer/*``, and of each kind of alternative name the first:
        ``x509SAN/DNS``, ``x509SAN/URI``, ``x509SAN/Name/*``. What STS does not take is left out.
    """
    tags = _name_tags("x509Subject", certificate.subject) | _name_tags("x509Issuer", certificate.issuer)
    for name in certificate.alternative_names:
        if isinstance(name, x509.DNSName):
            tags.setdefault("x509SAN/DNS", name.value)
        elif isinstance(name, x509.UniformResourceIdentifier):
            tags.setdefault("x509SAN/URI", name.value)
    directory = next((n.value for n in certificate.alternative_names if isinstance(n, x509.DirectoryName)), None)
    if directory is not None:
        tags |= _name_tags("x509SAN/Name", directory)
    return {
        key: value
        for key, value in tags.items()
        if len(key) <= _LONGEST_KEY and 0 < len(value) <= _LONGEST_VALUE and _acceptable(key) and _acceptable(value)
    }


def _name_tags(prefix: str, name: x509.Name) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for attribute in name:
        values.setdefault(f"{prefix}/{attribute.rfc4514_attribute_name}", []).append(_text(attribute))
    return {key: "/".join(texts) for key, texts in values.items()}


def _text(attribute: x509.NameAttribute[str | bytes]) -> str:
    # A BIT STRING gives bytes, which no tag can hold.
    return attribute.value if isinstance(attribute.value, str) else ""


def _acceptable(text: Iterable[str]) -> bool:
    """STS's pattern for tags and source identities: letters, separators, numbers and a few signs."""
    return all(unicodedata.category(c)[0] in "LZN" or _ALLOWED.fullmatch(c) for c in text)
