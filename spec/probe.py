"""Is a logits processor a function of what it is shown? It is asked twice, and again after a token that is taken back, as a rejected draft is."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor


def refuse_stateful(processor: Callable, ids: Tensor, vocab_size: int) -> None:
    """Raises ValueError for a processor that answers differently when it is shown the same again; ids [B, T] are what it will be shown first.

    A processor that remembers the first length that it sees learns the right one. State that these four calls do not show is not found: one that
    changes on certain tokens only, or after more calls, or is made anew whenever a text is no continuation of the last one.
    """
    scores = (torch.arange(vocab_size, device=ids.device) - vocab_size // 2).abs().float().div(-vocab_size).repeat(len(ids), 1)

    def answer(tokens: Tensor) -> Tensor:
        return processor(tokens.clone(), scores.clone())

    first, reason = answer(ids), "answers differently"
    try:
        second = answer(ids)
    except Exception as error:  # whatever it is, the first time it did not come
        reason, second = f"fails ({type(error).__name__})", None
    if second is not None and _alike(first, second):
        with suppress(Exception):  # a processor may refuse a text that is made up here
            answer(torch.cat([ids, first.argmax(-1, keepdim=True)], 1))
        second = answer(ids)
    if second is None or not _alike(first, second):
        name = getattr(processor, "__name__", type(processor).__name__)
        raise ValueError(
            f"{name} {reason} when it is called again with the same tokens and scores: it keeps state from call to call or draws random numbers, and "
            "rejected drafts would corrupt that; let its answer depend on its two arguments alone, or leave it out"
        )


def _alike(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-6, atol=1e-6, equal_nan=True)
