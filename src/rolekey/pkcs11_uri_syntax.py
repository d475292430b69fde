"""The attributes of a PKCS#11 URI: how each is read, checked and written (RFC 7512, 2.3 and 2.4).

Length limits are those of CK_INFO, CK_SLOT_INFO and CK_TOKEN_INFO in PKCS#11 v2.40. No refusal quotes a value: it may
be a PIN in the wrong place.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rolekey.errors import ConfigurationError
from rolekey.secret import Secret
from rolekey.value import Value

ObjectType = Literal["public", "private", "cert", "secret-key", "data"]

_OBJECT_TYPES: tuple[ObjectType, ...] = ("public", "private", "cert", "secret-key", "data")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Fewer than RFC 7512 lets stand: what a shell or a configuration file gives a meaning to is encoded too.
_SAFE_IN_PATH = _UNRESERVED | frozenset(":@,+")
_SAFE_IN_QUERY = _SAFE_IN_PATH | frozenset("/")

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
PIN_VALUE = re.compile(r"pin(?:[-_]|%2d)value\s*(?:=|%3d)", re.IGNORECASE)


def attributes(text: str, *, separator: str, place: Literal["path", "query"]) -> Iterator[tuple[str, bytes]]:
    """The names and decoded values of one half of a URI."""
    for position, part in enumerate(text.split(separator) if text else (), start=1):
        name, equals, value = part.partition("=")
        if not part:
            raise refusal(
                f"has an empty attribute in its {place}, at position {position}",
                hint=f"write one {separator!r} between two attributes and none at the end",
            )
        if not equals or not _NAME.fullmatch(name):
            raise refusal(
                f"has an attribute in its {place}, at position {position}, that is not name=value",
                hint=f"write {separator!r} in a value as %{ord(separator):02X}, and names without blanks or escapes",
            )
        # A name that the RFC does not define may be the rest of a PIN with a separator in it.
        known = name in PATH or name in QUERY
        yield name, _decoded(name if known else f"the attribute at position {position} of the {place}", value)


def _decoded(name: str, value: str) -> bytes:
    """An attribute's value without its percent-encoding."""
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise _control_character(name)
    if _BAD_ESCAPE.search(value):
        raise refusal(f"has a '%' without two hexadecimal digits in {name}", hint="write a '%' itself as %25")
    data = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode("ascii")), value.encode())
    # A wrong separator makes a PIN part of another value, which is shown.
    if name != "pin-value" and PIN_VALUE.search(data.decode("latin-1")):
        raise refusal(
            f"has a pin-value inside {name}",
            hint="write one '?' before the first query attribute, '&' between two of them, and remove the PIN",
        )
    return data


def _text(name: str, data: bytes, *, limit: int | None = None) -> str:
    text = _utf8(data)
    if text is None:
        raise refusal(f"has a {name} that is not UTF-8", hint="percent-encode the bytes of the text in UTF-8")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise _control_character(name)
    # A value and a token's field may be composed differently; what fits in neither form fits in no field.
    if limit is not None and min(len(data), len(nfc(text).encode())) > limit:
        raise refusal(
            f"has a {name} longer than the {limit} bytes of PKCS#11", hint="copy the value as the token reports it"
        )
    return text


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:  # not passed on in any way: it holds the data
        return None


def _bytes(_name: str, data: bytes) -> bytes:
    return data


def _number(name: str, digits: bytes, *, limit: int) -> int:
    match = re.fullmatch(rb"0*([0-9]{1,20})", digits)  # no longer: int() refuses thousands of digits in its own way
    if match is None or (number := int(match[1])) > limit:
        raise refusal(f"has a {name} that is not a number up to {limit}", hint=f"write {name} in decimal digits")
    return number


def _version(name: str, data: bytes) -> tuple[int, int]:
    major, dot, minor = data.partition(b".")  # the RFC: without a minor version it is 0
    return _number(name, major, limit=0xFF), _number(name, minor, limit=0xFF) if dot else 0


def _type(name: str, data: bytes) -> ObjectType:
    for object_type in _OBJECT_TYPES:
        if data == object_type.encode():
            return object_type
    raise refusal(f"has a {name} that is not an object type", hint=f"write one of {', '.join(_OBJECT_TYPES)}")


def _pin_source(name: str, data: bytes) -> str:
    source = _text(name, data)
    if not source:
        raise refusal(f"has an empty {name}", hint=f"name a file: {name}=file:/path, or remove it")
    return source


def _pin_value(name: str, data: bytes) -> Secret:
    return Secret(_text(name, data))


def _module_name(name: str, data: bytes) -> str:
    module = _text(name, data)
    if not module or any(separator in module for separator in (os.sep, os.altsep) if separator):
        raise refusal(f"has a {name} that is not a bare name", hint="give a path with module-path")
    return module


def _module_path(name: str, data: bytes) -> str:
    path = _text(name, data)
    if not Path(path).is_absolute():
        start = "C:/" if os.name == "nt" else "/"
        raise refusal(f"has a {name} that is not absolute", hint=f"write the whole path, {name}={start}...")
    return path


def _escaped(text: str, *, safe: frozenset[str]) -> str:
    return "".join(
        character if character in safe else "".join(f"%{octet:02X}" for octet in character.encode())
        for character in text
    )


class Attribute(Value):
    """How one attribute of the RFC is read and written. ``write`` is None for what is never written."""

    name: str
    field: str
    read: Callable[[str, bytes], Any]
    write: Callable[[Any], str] | None


def _by_name(*attributes: Attribute) -> Mapping[str, Attribute]:
    return {attribute.name: attribute for attribute in attributes}


_in_path = partial(_escaped, safe=_SAFE_IN_PATH)
_in_query = partial(_escaped, safe=_SAFE_IN_QUERY)
_text16, _text32, _text64 = (partial(_text, limit=limit) for limit in (16, 32, 64))

PATH = _by_name(
    Attribute("token", "token", _text32, _in_path),
    Attribute("manufacturer", "manufacturer", _text32, _in_path),
    Attribute("serial", "serial", _text16, _in_path),
    Attribute("model", "model", _text16, _in_path),
    Attribute("library-manufacturer", "library_manufacturer", _text32, _in_path),
    Attribute("library-description", "library_description", _text32, _in_path),
    Attribute("library-version", "library_version", _version, lambda version: f"{version[0]}.{version[1]}"),
    Attribute("slot-description", "slot_description", _text64, _in_path),
    Attribute("slot-manufacturer", "slot_manufacturer", _text32, _in_path),
    Attribute("slot-id", "slot_id", partial(_number, limit=2**64 - 1), str),
    Attribute("object", "object_label", _text, _in_path),
    Attribute("id", "object_id", _bytes, lambda data: "".join(f"%{octet:02X}" for octet in data)),
    Attribute("type", "object_type", _type, str),
)
QUERY = _by_name(
    Attribute("pin-source", "pin_source", _pin_source, _in_query),
    Attribute("pin-value", "pin_value", _pin_value, None),
    Attribute("module-name", "module_name", _module_name, _in_query),
    Attribute("module-path", "module_path", _module_path, _in_query),
)


def store(values: dict[str, Any], attribute: Attribute, data: bytes) -> None:
    """Read an attribute into the fields of a PKCS11URI; refuse a second one of its name."""
    if attribute.field in values:
        raise given_twice(attribute.name)
    values[attribute.field] = attribute.read(attribute.name, data)


def written(uri: object, attributes: Mapping[str, Attribute]) -> list[str]:
    """The attributes of a PKCS11URI as ``name=value``, percent-encoded, in the table's order."""
    return [
        f"{attribute.name}={attribute.write(value)}"
        for attribute in attributes.values()
        if attribute.write is not None and (value := getattr(uri, attribute.field)) is not None
    ]


def nfc(text: str) -> str:
    """Text in the form in which it is compared (RFC 7512, 5)."""
    return unicodedata.normalize("NFC", text)


def refusal(problem: str, *, hint: str) -> ConfigurationError:
    """The error for a URI with this problem."""
    return ConfigurationError(f"the PKCS#11 URI {problem}", hint=hint)


def given_twice(name: str) -> ConfigurationError:
    """The error for an attribute that stands there twice."""
    return refusal(f"has {name} twice", hint=f"keep one {name}")


def _control_character(name: str) -> ConfigurationError:
    return refusal(
        f"has a control character in {name}, or text that is not Unicode",
        hint="remove it: look for a line end or a NUL at the end of what was copied",
    )
