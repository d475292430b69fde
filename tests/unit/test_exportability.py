"""Whether a key can leave its hardware: every attribute has to rule it out, and silence does not."""

import re
from itertools import product
from pathlib import Path

import pytest
from pkcs11 import Attribute

from rolekey.exportability import RULES_EXPORT_OUT, KeyAttributes, verdict
from rolekey.tokens.attributes import STRICT, strict_attributes

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text(encoding="utf-8")
PLACES = list(RULES_EXPORT_OUT)
EACH = [(place, name) for place in PLACES for name in RULES_EXPORT_OUT[place]]


def attributes(place, **changes):
    """What the hardware says of a key that cannot leave it, but for some of it."""
    return KeyAttributes(place, tuple((RULES_EXPORT_OUT[place] | changes).items()))


@pytest.mark.parametrize("place", PLACES)
def test_all_of_it(place):
    """Where every attribute rules export out, the key cannot leave; a further attribute changes nothing."""
    assert verdict(attributes(place)) == f"this key cannot leave the {place}"
    for value in (True, False, None):
        assert attributes(place, CKA_ALWAYS_AUTHENTICATE=value).doubts == ()


@pytest.mark.parametrize(("place", "name"), EACH)
def test_each_counts(place, name):
    """One attribute with the other value is a doubt, and the verdict names it; so is one that is not given."""
    other = not RULES_EXPORT_OUT[place][name]
    said = f"export cannot be ruled out: {name} is "
    assert verdict(attributes(place, **{name: other})) == said + str(other).lower()
    assert verdict(attributes(place, **{name: None})) == said + "not given"


@pytest.mark.parametrize(("place", "name"), EACH)
def test_what_was_not_asked_for(place, name):
    """An attribute that is not among what was read counts as not given."""
    rest = tuple((n, value) for n, value in RULES_EXPORT_OUT[place].items() if n != name)
    assert KeyAttributes(place, rest).doubts == (f"{name} is not given",)


@pytest.mark.parametrize("place", PLACES)
def test_every_combination(place):
    """Of all combinations of values, one alone rules export out."""
    names = list(RULES_EXPORT_OUT[place])
    combinations = [
        tuple(zip(names, values, strict=True)) for values in product((True, False, None), repeat=len(names))
    ]
    certain = [values for values in combinations if not KeyAttributes(place, values).doubts]
    assert certain == [tuple(RULES_EXPORT_OUT[place].items())]


def test_a_file():
    """A key that no hardware keeps is a file."""
    assert verdict(None) == "this key is a file"


def test_the_page():
    """docs/keys.md has a row for every attribute, with the value that rules export out."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (true|false) \|", PAGE, re.MULTILINE))
    assert rows == {name: str(value).lower() for place in PLACES for name, value in RULES_EXPORT_OUT[place].items()}


@pytest.mark.parametrize("attribute", STRICT.values(), ids=list(STRICT))
@pytest.mark.parametrize(
    ("value", "read"), [(b"\0", False), (b"\1", True), (b"", None), (b"\2", None), (b"\0\0", None), (bytes(8), None)]
)
def test_only_a_boolean_is_one(attribute, value, read):
    """A token's attribute is true or false only where it is one byte of 1 or 0: nothing is not taken for false."""
    assert strict_attributes().unpack_attributes(attribute, value) is read


def test_every_attribute_is_read_strictly():
    """The attributes that are read strictly are those that the verdict is made of."""
    assert {f"CKA_{attribute.name}" for attribute in STRICT.values()} == set(RULES_EXPORT_OUT["token"])
    assert all(isinstance(attribute, Attribute) for attribute in STRICT.values())
