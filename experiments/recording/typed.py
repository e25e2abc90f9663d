"""What the fields of a file must hold, and one sentence about the first that does not."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What a field may hold; `name` ends the sentence "... where ... belongs"."""

    name: str
    holds: Callable[[Any], bool]

    @property
    def or_null(self) -> "Kind":
        return Kind(f"{self.name} or null", lambda value: value is None or self.holds(value))


def is_count(value: Any) -> bool:
    """A whole number that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


TEXT = Kind("a text", lambda value: isinstance(value, str))
TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
COUNT = Kind("a whole number of at least 0", is_count)
NUMBER = Kind("a number", is_number)
SECONDS = Kind("a number of at least 0", lambda value: is_number(value) and 0 <= value < math.inf)
COUNTS = Kind("a list of whole numbers", lambda value: isinstance(value, list) and all(map(is_count, value)))
LIST = Kind("a list", lambda value: isinstance(value, list))
TEXTS = Kind("a list of texts", lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value))
NAMED = Kind("named values", lambda value: isinstance(value, dict))
LABELS = Kind("named texts", lambda value: isinstance(value, dict) and all(isinstance(item, str) for item in value.values()))
CLOCKS = Kind("named numbers of at least 0", lambda value: isinstance(value, dict) and all(map(SECONDS.holds, value.values())))
INTERVAL = Kind("two numbers", lambda value: isinstance(value, list) and len(value) == 2 and all(map(is_number, value)))

Fields = Mapping[str, Kind]


def misfit(held: Any, needed: Fields, known: Fields | None = None) -> str | None:
    """What is wrong with an object of JSON; None if nothing is. Fields in `known` may be missing, others are not looked at."""
    if not isinstance(held, dict):
        return f"holds {type(held).__name__} where an object belongs"
    for name, kind in needed.items():
        if name not in held:
            return f"{name} is missing"
        if not kind.holds(held[name]):
            return f"{name} holds {shown(held[name])} where {kind.name} belongs"
    return misfit(held, {name: kind for name, kind in known.items() if name in held}) if known else None


def shown(value: Any) -> str:
    """A value in a few characters."""
    told = "null" if value is None else repr(value)
    return told if len(told) <= 40 else f"{told[:37]}..."
