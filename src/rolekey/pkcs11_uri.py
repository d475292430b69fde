"""PKCS#11 URIs: RFC 7512, read and written in full.

A URI here is a selection (which token, which object) and, in its query, where the module and the PIN come from. Length
limits are those of CK_INFO, CK_SLOT_INFO and CK_TOKEN_INFO in PKCS#11 v2.40.

A URI may hold a PIN, in the wrong place too: no message quotes more of it than names that the RFC defines.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

from rolekey.errors import ConfigurationError
from rolekey.secret import Secret

ObjectType = Literal["public", "private", "cert", "secret-key", "data"]

_SCHEME = "pkcs11:"
_OBJECT_TYPES: tuple[ObjectType, ...] = ("public", "private", "cert", "secret-key", "data")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Fewer than RFC 7512 lets stand: what a shell or a configuration file gives a meaning to is encoded too.
_SAFE_IN_PATH = _UNRESERVED | frozenset(":@,+")
_SAFE_IN_QUERY = _SAFE_IN_PATH | frozenset("/")

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_PIN_VALUE = re.compile(r"pin(?:[-_]|%2d)value\s*(?:=|%3d)", re.IGNORECASE)
# A PIN may hold anything, a blank or an "&" that should have been encoded included: only the name of another query
# attribute, or the end of the text, ends it.
_PIN_VALUE_AND_PIN = re.compile(
    rf"({_PIN_VALUE.pattern}).*?(?=&(?:pin-source|pin-value|module-name|module-path)=|\Z)", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class PKCS11URI:
    """What a PKCS#11 URI says, one field an attribute; None where the URI does not have it.

    An empty text is not None: it selects only what has an empty field. :meth:`parse` checks every value, the
    constructor none.

    Args:
        token: the token's label.
        manufacturer: the token's manufacturer.
        serial: the token's serial number, as text.
        model: the token's model.
        library_manufacturer: who made the module.
        library_description: what the module calls itself.
        library_version: the module's version, (major, minor).
        slot_description: the slot's description.
        slot_manufacturer: the slot's manufacturer.
        slot_id: the slot's number; 0 is slot 0.
        object_label: CKA_LABEL (``object``).
        object_id: CKA_ID (``id``), the bytes themselves.
        object_type: CKA_CLASS (``type``).
        unknown_path_attributes: the names, without values, of path attributes that RFC 7512 does not define. A URI that
            has one selects nothing.
        pin_source: where the PIN is found: a ``file:`` URI, ``|command`` or a source of our own.
        pin_value: the PIN.
        module_name: the module's name without directory, ``lib`` and ``.so``.
        module_path: the absolute path of the module or of its directory.
    """

    token: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    model: str | None = None
    library_manufacturer: str | None = None
    library_description: str | None = None
    library_version: tuple[int, int] | None = None
    slot_description: str | None = None
    slot_manufacturer: str | None = None
    slot_id: int | None = None
    object_label: str | None = None
    object_id: bytes | None = None
    object_type: ObjectType | None = None
    unknown_path_attributes: tuple[str, ...] = ()
    pin_source: str | None = None
    pin_value: Secret | None = None
    module_name: str | None = None
    module_path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URI. Characters that should have been percent-encoded, such as a blank, are taken as they are.

        Args:
            text: the URI, which starts with ``pkcs11:`` in lower case. ``+`` is a plus.

        Returns:
            The URI's values: text decoded from UTF-8 and otherwise as written, ``id`` as bytes.

        Raises:
            ConfigurationError: not a PKCS#11 URI, or one that no token can match or that contradicts itself. Neither
                message nor hint holds a value of the URI.
        """
        if not text.startswith(_SCHEME):
            raise _refusal(f"does not start with {_SCHEME}", hint=f"write it as {_SCHEME}token=LABEL;object=LABEL")
        path, _, query = text.removeprefix(_SCHEME).partition("?")
        values: dict[str, Any] = {}
        unknown: list[str] = []
        for name, data in _attributes(path, separator=";", place="path"):
            if name in _PATH:
                _store(values, _PATH[name], data)
            elif name in unknown:
                raise _given_twice(name)
            elif "pin-value" not in unknown:  # after it even a name may be the rest of a PIN with a ";" in it
                unknown.append(name)
        for name, data in _attributes(query, separator="&", place="query"):
            if name in _QUERY:
                _store(values, _QUERY[name], data)
        if "pin_source" in values and "pin_value" in values:
            raise _refusal("has both pin-source and pin-value", hint="keep pin-source and remove pin-value")
        return cls(**values, unknown_path_attributes=tuple(unknown))

    def __str__(self) -> str:
        """The URI in canonical form, without the PIN.

        Returns:
            ASCII text: attributes in the order of the fields, escapes in upper case, ``id`` fully escaped. It parses
            back to an equal value, but **pin-value is never written**: a URI that has one loses it. An unknown path
            attribute is written with an empty value.
        """
        written = _written(self, _QUERY)
        return self.selector() + ("?" + "&".join(written) if written else "")

    def selector(self) -> str:
        """The URI without its query: what it selects, for messages.

        Returns:
            The canonical form up to the ``?``, which it does not have.
        """
        return _SCHEME + ";".join([*_written(self, _PATH), *(f"{name}=" for name in self.unknown_path_attributes)])

    def matches(
        self,
        *,
        token: str,
        manufacturer: str,
        serial: str,
        model: str,
        slot_id: int,
        slot_description: str,
        slot_manufacturer: str,
        library_manufacturer: str,
        library_description: str,
        library_version: tuple[int, int],
    ) -> bool:
        """Whether the URI selects a token, whatever it says of objects.

        Text is compared in Unicode's form NFC. Blanks that end a value of the URI do not count, since the padding of
        PKCS#11's fields cannot be told from them.

        Args:
            token: CK_TOKEN_INFO.label, like every text here without the padding at its end.
            manufacturer: CK_TOKEN_INFO.manufacturerID.
            serial: CK_TOKEN_INFO.serialNumber.
            model: CK_TOKEN_INFO.model.
            slot_id: the CK_SLOT_ID.
            slot_description: CK_SLOT_INFO.slotDescription.
            slot_manufacturer: CK_SLOT_INFO.manufacturerID.
            library_manufacturer: CK_INFO.manufacturerID.
            library_description: CK_INFO.libraryDescription.
            library_version: CK_INFO.libraryVersion, (major, minor).

        Returns:
            True if every attribute that the URI has agrees; False for every token if one of them is unknown.
        """
        texts = (
            (self.token, token),
            (self.manufacturer, manufacturer),
            (self.serial, serial),
            (self.model, model),
            (self.slot_description, slot_description),
            (self.slot_manufacturer, slot_manufacturer),
            (self.library_manufacturer, library_manufacturer),
            (self.library_description, library_description),
        )
        return (
            not self.unknown_path_attributes
            and self.slot_id in (None, slot_id)
            and self.library_version in (None, library_version)
            and all(wanted is None or _nfc(wanted.rstrip(" ")) == _nfc(found) for wanted, found in texts)
        )


def redact_pin_value(text: str) -> str:
    """Any text without the PINs in it, for a message that has to quote what a user wrote.

    Args:
        text: a URI, well-formed or not, or a text around one.

    Returns:
        The text with ``***`` after every ``pin-value=`` (in any case), in place of everything up to the next query
        attribute of RFC 7512 or the end: rather too much than the rest of a PIN.
    """
    return _PIN_VALUE_AND_PIN.sub(r"\1***", text)


def _attributes(text: str, *, separator: str, place: Literal["path", "query"]) -> Iterator[tuple[str, bytes]]:
    """The names and decoded values of one half of a URI."""
    for position, part in enumerate(text.split(separator) if text else (), start=1):
        name, equals, value = part.partition("=")
        if not part:
            raise _refusal(
                f"has an empty attribute in its {place}, at position {position}",
                hint=f"write one {separator!r} between two attributes and none at the end",
            )
        if not equals or not _NAME.fullmatch(name):
            raise _refusal(
                f"has an attribute in its {place}, at position {position}, that is not name=value",
                hint=f"write {separator!r} in a value as %{ord(separator):02X}, and names without blanks or escapes",
            )
        # A name that the RFC does not define may be the rest of a PIN with a separator in it.
        known = name in _PATH or name in _QUERY
        yield name, _decoded(name if known else f"the attribute at position {position} of the {place}", value)


def _decoded(name: str, value: str) -> bytes:
    """An attribute's value without its percent-encoding."""
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise _control_character(name)
    if _BAD_ESCAPE.search(value):
        raise _refusal(f"has a '%' without two hexadecimal digits in {name}", hint="write a '%' itself as %25")
    data = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode("ascii")), value.encode())
    # A wrong separator makes a PIN part of another value, which is shown.
    if name != "pin-value" and _PIN_VALUE.search(data.decode("latin-1")):
        raise _refusal(
            f"has a pin-value inside {name}",
            hint="write one '?' before the first query attribute, '&' between two of them, and remove the PIN",
        )
    return data


def _text(name: str, data: bytes, *, limit: int | None = None) -> str:
    text = _utf8(data)
    if text is None:
        raise _refusal(f"has a {name} that is not UTF-8", hint="percent-encode the bytes of the text in UTF-8")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise _control_character(name)
    # A value and a token's field may be composed differently; what fits in neither form fits in no field.
    if limit is not None and min(len(data), len(_nfc(text).encode())) > limit:
        raise _refusal(
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
        raise _refusal(f"has a {name} that is not a number up to {limit}", hint=f"write {name} in decimal digits")
    return number


def _version(name: str, data: bytes) -> tuple[int, int]:
    major, dot, minor = data.partition(b".")  # the RFC: without a minor version it is 0
    return _number(name, major, limit=0xFF), _number(name, minor, limit=0xFF) if dot else 0


def _type(name: str, data: bytes) -> ObjectType:
    for object_type in _OBJECT_TYPES:
        if data == object_type.encode():
            return object_type
    raise _refusal(f"has a {name} that is not an object type", hint=f"write one of {', '.join(_OBJECT_TYPES)}")


def _pin_source(name: str, data: bytes) -> str:
    source = _text(name, data)
    if not source:
        raise _refusal(f"has an empty {name}", hint=f"name a file: {name}=file:/path, or remove it")
    return source


def _pin_value(name: str, data: bytes) -> Secret:
    return Secret(_text(name, data))


def _module_name(name: str, data: bytes) -> str:
    module = _text(name, data)
    if not module or "/" in module:
        raise _refusal(f"has a {name} that is not a bare name", hint="give a path with module-path")
    return module


def _module_path(name: str, data: bytes) -> str:
    path = _text(name, data)
    if not path.startswith("/"):
        raise _refusal(f"has a {name} that is not absolute", hint=f"write the whole path, {name}=/...")
    return path


def _escaped(text: str, *, safe: frozenset[str]) -> str:
    return "".join(
        character if character in safe else "".join(f"%{octet:02X}" for octet in character.encode())
        for character in text
    )


@dataclass(frozen=True, slots=True)
class _Attribute:
    """How one attribute of the RFC is read and written. ``write`` is None for what is never written."""

    name: str
    field: str
    read: Callable[[str, bytes], Any]
    write: Callable[[Any], str] | None


def _by_name(*attributes: _Attribute) -> Mapping[str, _Attribute]:
    return {attribute.name: attribute for attribute in attributes}


_in_path = partial(_escaped, safe=_SAFE_IN_PATH)
_in_query = partial(_escaped, safe=_SAFE_IN_QUERY)
_text16, _text32, _text64 = (partial(_text, limit=limit) for limit in (16, 32, 64))

_PATH = _by_name(
    _Attribute("token", "token", _text32, _in_path),
    _Attribute("manufacturer", "manufacturer", _text32, _in_path),
    _Attribute("serial", "serial", _text16, _in_path),
    _Attribute("model", "model", _text16, _in_path),
    _Attribute("library-manufacturer", "library_manufacturer", _text32, _in_path),
    _Attribute("library-description", "library_description", _text32, _in_path),
    _Attribute("library-version", "library_version", _version, lambda version: f"{version[0]}.{version[1]}"),
    _Attribute("slot-description", "slot_description", _text64, _in_path),
    _Attribute("slot-manufacturer", "slot_manufacturer", _text32, _in_path),
    _Attribute("slot-id", "slot_id", partial(_number, limit=2**64 - 1), str),
    _Attribute("object", "object_label", _text, _in_path),
    _Attribute("id", "object_id", _bytes, lambda data: "".join(f"%{octet:02X}" for octet in data)),
    _Attribute("type", "object_type", _type, str),
)
_QUERY = _by_name(
    _Attribute("pin-source", "pin_source", _pin_source, _in_query),
    _Attribute("pin-value", "pin_value", _pin_value, None),
    _Attribute("module-name", "module_name", _module_name, _in_query),
    _Attribute("module-path", "module_path", _module_path, _in_query),
)


def _store(values: dict[str, Any], attribute: _Attribute, data: bytes) -> None:
    if attribute.field in values:
        raise _given_twice(attribute.name)
    values[attribute.field] = attribute.read(attribute.name, data)


def _written(uri: PKCS11URI, attributes: Mapping[str, _Attribute]) -> list[str]:
    return [
        f"{attribute.name}={attribute.write(value)}"
        for attribute in attributes.values()
        if attribute.write is not None and (value := getattr(uri, attribute.field)) is not None
    ]


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _refusal(problem: str, *, hint: str) -> ConfigurationError:
    return ConfigurationError(f"the PKCS#11 URI {problem}", hint=hint)


def _given_twice(name: str) -> ConfigurationError:
    return _refusal(f"has {name} twice", hint=f"keep one {name}")


def _control_character(name: str) -> ConfigurationError:
    return _refusal(
        f"has a control character in {name}, or text that is not Unicode",
        hint="remove it: look for a line end or a NUL at the end of what was copied",
    )
