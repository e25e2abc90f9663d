"""Where two decodings of a prompt part, by what margin, and whether rounding explains it."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from spec.sampling import Sampler

NEAR_TIE_ULPS = 4  # a greedy choice between logits this close may flip when the same numbers are summed in another order


def unexplained(divergences: Iterable[dict[str, Any]], dtype: str) -> list[str]:
    """Divergences from greedy decoding that rounding does not excuse."""
    epsilon = torch.finfo(getattr(torch, dtype)).eps
    return [
        f"prompt {item['prompt']}: leaves greedy decoding at token {item['index']} where the margin is {item['margin']:.3g}, too wide for rounding"
        for item in divergences
        if item["margin"] > NEAR_TIE_ULPS * epsilon * max(1.0, abs(item["logit"]))
    ]


@torch.inference_mode()
def choice_margin(model: Any, sampler: Sampler, prefix: list[int], choices: Sequence[int]) -> dict[str, float]:
    """`margin`: how far the worst of the choices after `prefix` is from the largest logit, which is `logit`; processors have been applied."""
    logits = model(input_ids=torch.tensor([prefix], device=model.device), use_cache=False).logits[:, -1:]
    scores = sampler.processed(logits, lambda _row, _slot: prefix)[0, 0]
    best = scores.max().item()
    return {"margin": best - min(scores[token].item() for token in choices), "logit": best}


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The first index at which two answers differ, where one ends counting as a difference; None if they are equal."""
    if list(one) == list(other):
        return None
    return next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def same_drafts(tokens: Sequence[int], steps: Sequence[dict[str, Any]], again: Sequence[int], steps_again: Sequence[dict[str, Any]]) -> bool | None:
    """Whether two decodings of a prompt drafted the same as long as they had emitted the same; None if they part without a draft that differs."""
    start = 0
    for step, other in zip(steps, steps_again, strict=False):
        if "proposed" not in step:
            return None  # earlier versions did not record it
        if step["proposed"] != other["proposed"]:
            return False
        if list(tokens[start : start + step["emitted"]]) != list(again[start : start + other["emitted"]]):
            return None
        start += step["emitted"]
    return True
