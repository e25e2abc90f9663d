"""The order in which things that are compared take their turns: shuffled anew for each key, so that whatever the machine does hits all of them."""

import random
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def shuffled(things: Iterable[T], *key: int) -> list[T]:
    """The things in an order that the key alone decides: a seed, and what tells this turn from the others."""
    order = list(things)
    random.Random("/".join(map(str, key))).shuffle(order)
    return order
