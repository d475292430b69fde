"""PKCS#11 URIs: RFC 7512, read and written in full.

A URI here is a selection (which token, which object) and, in its query, where the module and the PIN come from.

A URI may hold a PIN, in the wrong place too: no message quotes more of it than names that the RFC defines.
"""

import re
from typing import Any, Self

from rolekey.pkcs11_uri_syntax import (
    PATH,
    PIN_VALUE,
    QUERY,
    ObjectType,
    attributes,
    given_twice,
    nfc,
    refusal,
    store,
    written,
)
from rolekey.secret import Secret
from rolekey.value import Value

_SCHEME = "pkcs11:"
# A PIN may hold anything, a blank or an "&" that should have been encoded included: only the name of another query
# attribute, or the end of the text, ends it.
_PIN_VALUE_AND_PIN = re.compile(
    rf"({PIN_VALUE.pattern}).*?(?=&(?:pin-source|pin-value|module-name|module-path)=|\Z)", re.IGNORECASE | re.DOTALL
)


class PKCS11URI(Value):
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
            raise refusal(f"does not start with {_SCHEME}", hint=f"write it as {_SCHEME}token=LABEL;object=LABEL")
        path, _, query = text.removeprefix(_SCHEME).partition("?")
        values: dict[str, Any] = {}
        unknown: list[str] = []
        for name, data in attributes(path, separator=";", place="path"):
            if name in PATH:
                store(values, PATH[name], data)
            elif name in unknown:
                raise given_twice(name)
            elif "pin-value" not in unknown:  # after it even a name may be the rest of a PIN with a ";" in it
                unknown.append(name)
        for name, data in attributes(query, separator="&", place="query"):
            if name in QUERY:
                store(values, QUERY[name], data)
        if "pin_source" in values and "pin_value" in values:
            raise refusal("has both pin-source and pin-value", hint="keep pin-source and remove pin-value")
        return cls(**values, unknown_path_attributes=tuple(unknown))

    def __str__(self) -> str:
        """The URI in canonical form, without the PIN.

        Returns:
            ASCII text: attributes in the order of the fields, escapes in upper case, ``id`` fully escaped. It parses
            back to an equal value, but **pin-value is never written**: a URI that has one loses it. An unknown path
            attribute is written with an empty value.
        """
        query = written(self, QUERY)
        return self.selector() + ("?" + "&".join(query) if query else "")

    def selector(self) -> str:
        """The URI without its query: what it selects, for messages.

        Returns:
            The canonical form up to the ``?``, which it does not have.
        """
        return _SCHEME + ";".join([*written(self, PATH), *(f"{name}=" for name in self.unknown_path_attributes)])

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
            and all(wanted is None or nfc(wanted.rstrip(" ")) == nfc(found) for wanted, found in texts)
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


def names_pin(text: str) -> bool:
    """Whether a text is a URI that says what its token's PIN is, or where it is.

    Args:
        text: a URI, well-formed or not, or something else.
    """
    return redact_pin_value(text) != text or re.search("[?&]pin-source=", text) is not None


def names_module(text: str) -> bool:
    """Whether a text is a URI that says which PKCS#11 module its token is behind.

    Args:
        text: as for names_pin().
    """
    return re.search("[?&]module-(path|name)=", text) is not None
