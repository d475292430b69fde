"""A certificate's subject or issuer as pkix.Name.String() of Go 1.26 writes it, and so the official helper.

RFC 2253 in most, but for the order.
"""

import string

from cryptography import x509

from rolekey.der import tagged

# The attributes that Go's crypto/x509/pkix knows, in the order in which it writes them.
_KNOWN = {
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.3": "CN",
    "2.5.4.11": "OU",
    "2.5.4.10": "O",
    "2.5.4.17": "POSTALCODE",
    "2.5.4.9": "STREET",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.6": "C",
}
_PRINTABLE = frozenset(string.ascii_letters + string.digits + " '()+,-./:=?")
# Of several only the last counts, and an empty one not at all.
_SINGLE = ("2.5.4.5", "2.5.4.3")


def go_name(name: x509.Name) -> str:
    """A name as Go's crypto/x509/pkix writes it.

    Args:
        name: a subject or issuer.

    Returns:
        Known attributes first, in Go's own order and those of one type joined with ``+``; then all others from the last
        to the first, as their DER.
    """
    known: dict[str, list[str]] = {oid: [] for oid in _KNOWN}
    others: list[str] = []
    for attribute in name:
        oid, value = attribute.oid.dotted_string, str(attribute.value)
        if oid not in known:
            others.insert(0, f"{oid}=#{_string_der(value).hex()}")
        elif oid in _SINGLE:
            known[oid] = [value] if value else []
        else:
            known[oid].append(value)
    written = ["+".join(f"{_KNOWN[oid]}={_escaped(value)}" for value in values) for oid, values in known.items()]
    return ",".join([*filter(None, written), *others])


def _string_der(value: str) -> bytes:
    # Go forgets which type of string it has read.
    return tagged(b"\x13" if _PRINTABLE.issuperset(value) else b"\x0c", value.encode())


def _escaped(value: str) -> str:
    def is_special(place: int, character: str) -> bool:
        at_an_end = character == " " and place in (0, len(value) - 1)
        return character in ',+"\\<>;' or at_an_end or (character == "#" and place == 0)

    return "".join(f"\\{c}" if is_special(place, c) else c for place, c in enumerate(value))
