"""Frozen values: dataclasses whose methods are written here once.

``@dataclass(frozen=True)`` compiles six methods for each class, in every process anew: for the values of a command that
ends at once that was a tenth of its processor time.
"""

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, NoReturn, dataclass_transform


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value:
    """Base of a frozen dataclass; the functions of ``dataclasses`` know it as one.

    The subclass is no more than annotated names, with defaults (or ``field(repr=False)``) where they have some;
    ``class Name(Value, kw_only=True)`` takes them by name only. A default_factory is not known here.
    """

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        super().__init_subclass__()
        dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)

    def __init__(self, *values: Any, **named: Any) -> None:
        known = _fields(self)
        given = dict(zip((f.name for f in known if not f.kw_only), values, strict=False)) | named
        complete = {f.name: f.default for f in known} | given
        lacks_some = any(value is MISSING for value in complete.values())
        if lacks_some or len(complete) > len(known) or len(given) != len(values) + len(named):
            raise TypeError(f"{type(self).__name__}() takes {', '.join(f.name for f in known)}, each once")
        self.__dict__.update(complete)
        self.__post_init__()

    def __post_init__(self) -> None:
        """To be overridden where values have to fit each other."""

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in _fields(self) if f.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")


def _fields(value: Value) -> tuple[Field[Any], ...]:
    return fields(value)  # type: ignore[arg-type]  # every subclass is a dataclass
