"""Checks of what a caller gives. A wrong value raises ValueError with one line: what was given, and what is allowed."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

LARGEST = 2**63  # seeds and sequence ids are hashed as signed 64-bit numbers


def as_whole(value: Any) -> int | None:
    """`value` as an int; None if it is no integer. Integers of numpy and integer tensors without dimensions count, booleans do not."""
    if isinstance(value, bool) or (isinstance(value, Tensor) and (value.ndim > 0 or value.dtype == torch.bool)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def whole(name: str, value: Any, allowed: str, least: int = -LARGEST) -> int:
    """`value` as an int of at most 64 bits. Raises ValueError if it is no whole number or below `least`; `allowed` says what to give."""
    number = as_whole(value)
    if number is None or not least <= number < LARGEST:
        raise ValueError(f"{name}={shown(value)}: give {allowed}")
    return number


def one_or_more(name: str, given: Any, allowed: str) -> list[int]:
    """One whole number or several, as a list; None is an empty one. Raises ValueError as `whole` does."""
    if given is None:
        return []
    several = hasattr(given, "__iter__") and not isinstance(given, str) and getattr(given, "ndim", 1) > 0
    return [whole(name, number, allowed) for number in (given if several else [given])]


def real(name: str, value: Any, allowed: str, fits: Callable[[float], bool]) -> float:
    """`value` as a float. Raises ValueError if it is no number, or if `fits` rejects it."""
    try:
        number = None if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several elements
        number = None
    if number is None or not fits(number):
        raise ValueError(f"{name}={shown(value)}: give {allowed}")
    return number


def yes_or_no(name: str, value: Any) -> bool:
    """Raises ValueError for what is no boolean: "no" would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)}: give True or False")
    return value


def callables(name: str, given: Any) -> list[Callable]:
    """`given` as a list. Raises ValueError where it is no list of callables; None is an empty one."""
    found: list[Any] = [] if given is None else list(given) if hasattr(given, "__iter__") else [None]
    if not all(map(callable, found)):
        raise ValueError(f"{name}={shown(given)}: give a list of callables, even for a single one")
    return found


def token_ids(name: str, given: Any) -> list[int]:
    """The ids of one text as a list. Raises ValueError where they are no whole numbers; `name` says whose they are."""
    row = given.tolist() if isinstance(given, Tensor) else given
    if isinstance(row, (str, bytes)) or not hasattr(row, "__iter__"):
        raise ValueError(f"{name} is {shown(row)}; give a list of token ids for each prompt, as in tokenizer(texts).input_ids")
    row = list(row)
    if all(type(token) is int for token in row):
        return row
    found = [as_whole(token) for token in row]
    if None in found:
        raise ValueError(f"{name} holds {shown(row[found.index(None)])}; token ids are whole numbers, as in tokenizer(texts).input_ids")
    return [token for token in found if token is not None]


def sequence_keys(given: Sequence[int] | Tensor | None, num_prompts: int) -> list[int]:
    """The sequence ids as a list; 0, 1, ... where none are given. Raises ValueError where one is no whole number or their number is wrong."""
    if given is None:
        return list(range(num_prompts))
    if isinstance(given, str) or not hasattr(given, "__iter__") or (isinstance(given, Tensor) and given.ndim != 1):
        raise ValueError(f"sequence_ids={shown(given)}: give a list of whole numbers, one for each prompt")
    ids = [whole("sequence id", number, "whole numbers of at most 64 bits, sign included") for number in given]
    if len(ids) != num_prompts:
        raise ValueError(f"{len(ids)} sequence_ids for {num_prompts} prompts; give one for each")
    return ids


def shown(value: Any) -> str:
    """A value in an error message, on one line and not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
