"""Prompts of different lengths into an empty cache: in groups of similar lengths, so that little of a forward is padding."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spec.cache import KVCache

if TYPE_CHECKING:
    from spec.model import CausalLM
    from spec.state import DecodeState

FORWARD = 48  # tokens that one more forward costs as much as


def groups(lengths: Sequence[int], forward: int = FORWARD) -> list[list[int]]:
    """Which rows are run together: the cheapest way to divide them, sorted by length, where a forward costs its rows times the longest of them."""
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    best: list[tuple[int, int]] = [(0, 0)]  # (cost of the first rows, where their last group begins)
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        best.append(min((best[start][0] + forward + (end - start) * longest, start) for start in range(end)))
    found, end = [], len(order)
    while end:
        start = best[end][1]
        found.append(sorted(order[start:end]))
        end = start
    return found[::-1]


def fill(model: "CausalLM", cache: KVCache, rows: Sequence[Sequence[int]], state: "DecodeState | None" = None) -> None:
    """Runs rows of any lengths into an empty cache, as `CausalLM.extend` does. `state` gets the last hidden states; then all rows run together."""
    parts = groups(list(map(len, rows))) if state is None and model.runtime is None else []
    if len(parts) <= 1:
        model.extend(cache, rows, state)
        return
    for part in parts:
        own = [rows[row] for row in part]
        joined = model.new_cache(len(part), max(1, *map(len, own)))
        model.extend(joined, own)
        members = set(part)
        cache.rearrange([None if row in members else row for row in range(len(rows))], joined)
