"""A frozen value is a dataclass to everybody: equal by its fields, hashable, not to be changed, complete or refused."""

import copy
import dataclasses
import pickle
from dataclasses import field

import pytest

from rolekey.value import Value


class Point(Value):
    """A value with everything that one may have."""

    x: int
    label: str = "origin"
    hidden: str = field(default="canary", repr=False)


class Named(Value, kw_only=True):
    """One whose fields are given by name; those of a subclass too."""

    left: int = 0
    right: int


class Longer(Named, kw_only=True):
    """A subclass with a field more."""

    top: int


class Checked(Value):
    """One that looks at its fields."""

    low: int
    high: int

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError("low is above high")


def test_fields_by_place_and_name():
    """Fields are given by place or name, and have their defaults where they are not given."""
    assert vars(Point(1)) == vars(Point(x=1)) == {"x": 1, "label": "origin", "hidden": "canary"}
    assert vars(Point(1, "a", hidden="b")) == {"x": 1, "label": "a", "hidden": "b"}
    assert vars(Named(right=2)) == {"left": 0, "right": 2}
    assert vars(Longer(top=3, right=2)) == {"left": 0, "right": 2, "top": 3}


@pytest.mark.parametrize(
    "make",
    [
        Point,
        lambda: Point(label="a"),
        lambda: Point(1, "a", "b", "c"),
        lambda: Point(1, x=1),
        lambda: Point(1, y=1),
        lambda: Point(label="a", y=1),
        lambda: Named(1, 2),
        lambda: Named(1, right=2),
        lambda: Longer(right=2),
    ],
)
def test_what_does_not_fit_is_refused(make):
    """A field that is missing, unknown, given twice, or by place where it has none is an error that names the fields
    and shows no value.
    """
    with pytest.raises(TypeError, match=r"takes \w+, ") as caught:
        make()
    assert "canary" not in str(caught.value)


def test_nothing_changes():
    """No field can be set or deleted, and no other attribute added."""
    point = Point(1)
    for change in (lambda: setattr(point, "x", 2), lambda: setattr(point, "y", 2), lambda: delattr(point, "x")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert point == Point(1)


def test_equality():
    """Values are equal, and have the same hash, if their classes are the same and all their fields are equal."""
    assert Point(1, "a") == Point(1, label="a")
    assert hash(Point(1, "a")) == hash(Point(1, label="a"))
    assert len({Point(1), Point(1), Point(2), Point(1, hidden="other")}) == 3
    assert Named(left=1, right=2) != Checked(1, 2)
    assert Longer(right=2, top=3) != Named(right=2)
    assert Point(1) != (1, "origin", "canary")


def test_repr_is_a_dataclass_s():
    """The repr is what dataclasses would write, without the fields that are to be left out of it."""
    assert repr(Point(1)) == "Point(x=1, label='origin')"
    made = dataclasses.make_dataclass("Longer", ["left", "right", "top"], frozen=True)
    assert repr(Longer(left=1, right=2, top=3)) == repr(made(1, 2, 3))


def test_a_check_of_its_own():
    """A class may refuse what does not fit together, also in a copy with a change."""
    assert Checked(1, 2).high == 2
    for make in (lambda: Checked(2, 1), lambda: dataclasses.replace(Checked(1, 2), high=0)):
        with pytest.raises(ValueError, match="low is above high"):
            make()


def test_dataclasses_know_it():
    """replace(), asdict(), fields(), copies, pickles and patterns work as with any dataclass."""
    point = Point(1)
    assert dataclasses.replace(point, x=2) == Point(2)
    assert dataclasses.asdict(point) == {"x": 1, "label": "origin", "hidden": "canary"}
    assert [f.name for f in dataclasses.fields(Longer)] == ["left", "right", "top"]
    assert copy.deepcopy(point) == copy.copy(point) == pickle.loads(pickle.dumps(point)) == point
    match point:
        case Point(x, label):
            assert (x, label) == (1, "origin")
        case _:
            pytest.fail("no match")
