"""Names as Go writes them, which is how the official helper's selector names a certificate."""

import json
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from rolekey.go_name import go_name

VECTORS = Path(__file__).parents[1] / "vectors" / "official-helper" / "names.json"
NAMES = json.loads(VECTORS.read_text(encoding="utf-8"))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@pytest.mark.filterwarnings("ignore:Attribute's length must be")  # an empty common name, which Go takes
@pytest.mark.parametrize("vector", NAMES, ids=lambda vector: vector["go"])
def test_vectors(vector):
    """A name is written as Go's pkix.Name.String() wrote it."""
    assert go_name(x509.Name.from_bytes(bytes.fromhex(vector["der"]))) == vector["go"]


@given(TEXTS)
def test_escapes(text):
    """Without its backslashes a value is what it was, and no separator stands in it without one."""
    written = go_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]))
    assert written.startswith("CN=")
    read, bare, rest = "", "", iter(written.removeprefix("CN="))
    for character in rest:
        escaped = character == "\\"
        read += next(rest) if escaped else character
        bare += "" if escaped else character
    assert read == text
    assert not set(bare) & set(',+"\\<>;')
    assert bare == "" or not written[3:].startswith((" ", "#"))


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_order(texts):
    """The last common name wins; organisational units stay in their order; what has no name comes last, reversed."""
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
    kinds = (oid, x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    name = x509.Name([x509.NameAttribute(kind, text) for text in texts for kind in kinds])

    def alone(kind, text):
        return go_name(x509.Name([x509.NameAttribute(kind, text)]))

    common, units = alone(kinds[1], texts[-1]), "+".join(alone(kinds[2], text) for text in texts)
    assert go_name(name) == ",".join([common, units, *(alone(oid, text) for text in reversed(texts))])
