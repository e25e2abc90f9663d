"""Is a logits processor a function of its input? It is called twice, then with one token more, then again without it, as after a rejection."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor


def refuse_stateful(processor: Callable, ids: Tensor, vocab_size: int) -> None:
    """Raises ValueError for a processor that answers the same input differently; ids [B, T] are the first input that the decode will give it.

    So a processor that remembers the first length it sees remembers the right one. State that these four calls do not show is not found: state that
    changes only on certain tokens or after more calls, or that is reset whenever a text does not continue the last one.
    """
    scores = (torch.arange(vocab_size, device=ids.device) - vocab_size // 2).abs().float().div(-vocab_size).repeat(len(ids), 1)

    def answer(tokens: Tensor) -> Tensor:
        return processor(tokens.clone(), scores.clone())

    first, reason = answer(ids), "answers differently"
    try:
        second = answer(ids)
    except Exception as error:  # of any kind: the first call did not raise it
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
