"""PKCS#12 files (RFC 7292): with old algorithms and new, with and without a password, with one private key at most."""

import warnings
from collections.abc import Callable

from cryptography.hazmat.primitives.serialization import pkcs12

from rolekey.der import Element, elements
from rolekey.errors import AmbiguousMatchError, PinIncorrectError, UnsupportedKeyError
from rolekey.secret import Secret
from rolekey.value import Value

Bundle = pkcs12.PKCS12KeyAndCertificates
# An export without a password has either no password or an empty one: both are in use.
_NO_PASSWORD = (b"", None)
_SEQUENCE, _INTEGER = 0x30, 0x02
_VERSION = b"\x03"
# Object identifiers, without tag and length.
_DATA = bytes.fromhex("2a864886f70d010701")
_KEY_BAGS = (bytes.fromhex("2a864886f70d010c0a0101"), bytes.fromhex("2a864886f70d010c0a0102"))
_SAFE_CONTENTS_BAG = bytes.fromhex("2a864886f70d010c0a0106")


class OpenedPKCS12(Value):
    """What a PKCS#12 file holds.

    Args:
        bundle: its key and certificates.
        has_password: it was opened with one.
    """

    bundle: Bundle
    has_password: bool


def is_pkcs12(data: bytes) -> bool:
    """Whether a file's content looks like PKCS#12, whatever its password."""
    try:
        (pfx,) = elements(data)
        version, safe, *_ = elements(pfx.content)
    except ValueError:
        return False
    return (version.tag, version.content, safe.tag) == (_INTEGER, _VERSION, _SEQUENCE)


def open_pkcs12(path: object, data: bytes, passphrase: Callable[[], Secret] | None) -> OpenedPKCS12:
    """Read a PKCS#12 file.

    Args:
        path: its name, for messages.
        data: its content.
        passphrase: gives the password; called only where the file has one. None: such a file cannot be read.

    Raises:
        ValueError: it is damaged, or has a password and none can be given.
        PinIncorrectError: the password is wrong.
        AmbiguousMatchError: it holds more than one private key.
        UnsupportedKeyError: the number of its private keys is not to be seen.
        UnsupportedAlgorithm: it has an algorithm that cannot be read.
    """
    password, bundle = _opened(path, data, passphrase)
    number = _number_of_keys(data)
    if number == 0 and bundle.key is not None:
        raise UnsupportedKeyError(
            f"{path} has its private key encrypted together with certificates, where there may be more of them",
            hint="write the key into a PEM file: openssl pkcs12 -in FILE -out key.pem",
        )
    if number > 1:
        raise AmbiguousMatchError(
            f"{path} holds {number} private keys",
            hint="put the key to use into a file of its own; none is chosen",
            candidates=(),
        )
    return OpenedPKCS12(bundle, bool(password))


def _opened(path: object, data: bytes, passphrase: Callable[[], Secret] | None) -> tuple[bytes | None, Bundle]:
    for password in _NO_PASSWORD:
        try:
            return password, _loaded(data, password)
        except ValueError as error:
            reason = error
    if passphrase is None or not is_pkcs12(data):
        raise reason
    secret = passphrase().reveal().encode()
    try:
        return secret, _loaded(data, secret)
    except ValueError:
        pass
    # The cause is not chained: its text is the library's, and the password was its argument.
    raise PinIncorrectError(
        f"the passphrase does not open the PKCS#12 file {path}",
        hint="check the passphrase, which is not tried again; if it is right, the file is damaged or of a kind that "
        "cannot be read",
    )


def _loaded(data: bytes, password: bytes | None) -> Bundle:
    with warnings.catch_warnings():
        # Of BER, which NSS writes, the library says on stderr that it may be refused some day.
        warnings.simplefilter("ignore", UserWarning)
        return pkcs12.load_pkcs12(data, password)


def _number_of_keys(data: bytes) -> int:
    """How many keys the parts have that are not encrypted themselves: the usual place, where each key is, by itself.

    The library takes the first of several and does not say so.
    """
    (pfx,) = elements(data)
    parts = _sequence(_wrapped(elements(pfx.content)[1]))
    plain = [part for part in parts if elements(part.content)[0].content == _DATA]
    return sum(_keys_among(_sequence(_wrapped(part))) for part in plain)


def _keys_among(bags: list[Element]) -> int:
    number = 0
    for bag in bags:
        kind, value, *_ = elements(bag.content)
        if kind.content in _KEY_BAGS:
            number += 1
        elif kind.content == _SAFE_CONTENTS_BAG:
            number += _keys_among(_sequence(value.content))
    return number


def _wrapped(content_info: Element) -> bytes:
    """The OCTET STRING in a ContentInfo of the type data."""
    _, explicit = elements(content_info.content)
    (octets,) = elements(explicit.content)
    return octets.octets


def _sequence(data: bytes) -> list[Element]:
    (outer,) = elements(data)
    return elements(outer.content)
