"""Models that place tokens by counting what their cache holds: no `position_ids`, or ALiBi and local layers that go by the cache's columns.

Such models serve chains. Rows of one length share a forward; otherwise every row gets one of its own, with its own part of the cache and no mask, as
`generate` would run it alone. Whether a class counts this way is tried once, when it is wrapped: a few tokens, as a whole and in parts.
"""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from spec.cache import KVCache
from spec.reach import arguments_of, num_layers, num_positions, read
from spec.types import Draft

CHAINS_ONLY = (
    "{name} places tokens by counting what its cache holds, so the branches of a tree have no place: it serves chains only; instead of trees and "
    "lookahead windows draft a chain (prompt_lookup, draft_model), or use a model that takes position_ids"
)
NO_FIXED_SHAPES = "runtime={runtime} needs a model that takes position_ids, and {name} counts what its cache holds; use runtime=auto"
TRIED: "weakref.WeakKeyDictionary[Any, set[str]]" = weakref.WeakKeyDictionary()  # models that passed their trial, with the kinds of attention
NUM_TRIED, FIRST_PART, KEPT, AT_ONCE = 7, 4, (4, 2), 3  # the trial: tokens, how many are cached, how many of them two rows keep, then a chain


def counts_positions(model: Any, config: Any) -> bool:
    """Whether positions follow from the cache alone: no `position_ids`, ALiBi from columns, or layers masked by column (`attention_layers`)."""
    takes = "position_ids" in arguments_of(model)
    return not takes or bool(read(config, "alibi", False) or read(config, "attention_layers"))


def check_chain(draft: Draft, name: str) -> None:
    """Raises ValueError for a draft that may branch, or that has scratch slots."""
    if draft.scratch is not None or not (draft.is_chain or draft.num_slots == 1):
        raise ValueError(CHAINS_ONLY.format(name=name))


def run_rows(model: Any, cache: KVCache, tokens: Tensor, context: int, vocab_size: int, hidden: bool = False) -> tuple[Tensor, Tensor | None]:
    """Logits [B, N, V] and, if asked for, last hidden states [B, N, H] of chains `tokens` [B, N] that follow the rows of `cache`.

    Slots beyond `context` can never be emitted, and tables of positions end there: they are not run, and what is returned for them is zero.
    """
    if cache.is_uniform:
        return _run(model, cache, tokens, context, vocab_size, hidden)
    parts = []
    for row in range(len(tokens)):
        with cache.only(row):
            parts.append(_run(model, cache, tokens[row : row + 1], context, vocab_size, hidden))
    logits, states = zip(*parts, strict=True)
    return torch.cat(logits), torch.cat(states) if hidden else None


def _run(model: Any, cache: KVCache, tokens: Tensor, context: int, vocab_size: int, hidden: bool) -> tuple[Tensor, Tensor | None]:
    """One forward over rows that all end at `cache.end`."""
    num_slots = tokens.shape[1]
    inside = max(min(num_slots, context - cache.end), 0)
    if not inside:
        width = model.config.get_text_config().hidden_size
        sizes = (vocab_size, width) if hidden else (vocab_size,)
        nothing = [torch.zeros(*tokens.shape, size, dtype=model.dtype, device=tokens.device) for size in sizes]
        return nothing[0], nothing[1] if hidden else None
    output = model(input_ids=tokens[:, :inside], past_key_values=cache, use_cache=True, output_hidden_states=hidden)
    logits, states = output.logits, output.hidden_states[-1] if hidden else None
    if inside == num_slots:
        return logits, states
    return pad(logits, (0, 0, 0, num_slots - inside)), None if states is None else pad(states, (0, 0, 0, num_slots - inside))


def refuse_uncounted(model: Any, config: Any) -> None:
    """Raises ValueError for a model that does not place tokens where its cache ends."""
    passed = TRIED.setdefault(model, set())
    kind = str(read(config, "_attn_implementation", "sdpa"))
    fault = None if kind in passed else _trial(model, config)
    if fault is not None:
        raise ValueError(
            f"{type(model).__name__} takes no position_ids for every slot, and does not place tokens by what its cache holds ({fault}); use a model "
            "that takes position_ids"
        )
    passed.add(kind)


@torch.no_grad()
def _trial(model: Any, config: Any) -> str | None:
    """What goes wrong where a few tokens come in parts, in two rows of different lengths; None where it is the same as all of them at once."""
    ids = torch.arange(1, NUM_TRIED + 1, device=model.device)[None] % config.vocab_size
    padding = read(config, "pad_token_id")
    if isinstance(padding, int) and 0 <= padding < config.vocab_size:
        ids[0, FIRST_PART - 1] = padding  # some classes count tokens other than padding
    cache = KVCache(num_layers(config) or 0, len(KEPT), NUM_TRIED, model.device)
    try:
        whole = model(input_ids=ids, use_cache=False).logits
        cache.reserve(FIRST_PART)
        model(input_ids=ids[:, :FIRST_PART].expand(len(KEPT), -1), past_key_values=cache, use_cache=True)
        cache.keep(list(KEPT))
        chains = torch.cat([ids[:, start : start + AT_ONCE] for start in KEPT])
        cache.reserve(AT_ONCE)
        parts, _ = run_rows(model, cache, chains, num_positions(config) or NUM_TRIED, config.vocab_size)
        wanted = torch.cat([whole[:, start : start + AT_ONCE] for start in KEPT])
        gap, spread = (float(value) for value in ((parts - wanted).abs().max(), wanted.max() - wanted.min()))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a class raises where it cannot go on from a cache
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[-1]}"
    allowed = max(torch.finfo(kind).eps for kind in (whole.dtype, torch.float32)) ** 0.5 * spread  # many classes compute in float32 inside
    return None if gap <= allowed else f"logits move by {gap:.1e} where tokens come in parts, and spread by {spread:.1e}"
