"""A Hugging Face causal LM behind two calls: `prefill` a batch of prompts, `score` a draft. Masks and positions are made here and nowhere else."""

import inspect
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from spec.cache import KVCache
from spec.state import DecodeState
from spec.tree import numbers
from spec.types import Draft, Scores

EMBEDDED = Path(__file__).resolve().parent.parent / "experiments" / "embedded"
_WINDOWED = ("sliding_attention", "chunked_attention")


def resolve_name(name: str) -> str:
    """The folder of `embedded/target` or `embedded/drafter`; other names are returned as they are. Raises ValueError for an unknown embedded name."""
    if not name.startswith("embedded/"):
        return name
    folder = EMBEDDED / name.removeprefix("embedded/")
    if not (folder / "config.json").exists():
        known = sorted(f"embedded/{path.parent.name}" for path in EMBEDDED.glob("*/config.json"))
        near = get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"unknown embedded model {name!r}{hint} Known: {', '.join(known) or 'none'}")
    return str(folder)


def load_model(name: str, dtype: str | torch.dtype = "auto", device_map: Any = None, attn_implementation: str = "sdpa") -> Any:
    """`from_pretrained` in eval mode; a hub name, a local directory, or embedded/target, embedded/drafter."""
    kwargs = {"device_map": device_map} if device_map is not None else {}
    return AutoModelForCausalLM.from_pretrained(resolve_name(name), dtype=dtype, attn_implementation=attn_implementation, **kwargs).eval()


class CausalLM:
    """Wraps any decoder-only transformers model whose attention can be masked and rolled back; nothing is patched.

    Raises ValueError for encoder-decoders, recurrent or linear attention, attention windows shorter than `context`, and attention
    implementations that take no additive mask. `context` limits the positions used (default: all that the model has).
    """

    def __init__(self, model: Any, context: int | None = None):
        self.model, self.config = model, model.config.get_text_config()
        limit = getattr(self.config, "max_position_embeddings", None) or 2**31
        if context is not None and not 1 < context <= limit:
            raise ValueError(f"context={context}: give between 2 and the model's {limit} positions")
        self.context: int = context or limit
        _refuse_unservable(model, self.config, self.context)
        self.vocab_size: int = self.config.vocab_size
        self.device: torch.device = model.device  # kept: on the model each is a walk over its parameters
        self.dtype: torch.dtype = model.dtype
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._chain_masks: dict[int, Tensor] = {}

    def new_cache(self, num_rows: int, capacity: int) -> KVCache:
        return KVCache(self.config.num_hidden_layers, num_rows, capacity, self.device)

    def prefill(self, prompts: Sequence[Sequence[int] | Tensor], *, sequence_ids: Sequence[int] | None = None, hidden: bool = False) -> DecodeState:
        """Caches all but the last token of every prompt; that token is the root of the first draft."""
        rows = self.check(prompts)
        ids = torch.tensor(list(range(len(rows))) if sequence_ids is None else list(sequence_ids), device=self.device)
        if len(ids) != len(rows):
            raise ValueError(f"{len(ids)} sequence_ids for {len(rows)} prompts; give one for each")
        cache = self.new_cache(len(rows), max(map(len, rows)) + 64)
        state = DecodeState(rows, cache, ids, self.context)
        self.extend(cache, [row[:-1] for row in rows], state if hidden else None)
        return state

    def extend(self, cache: KVCache, rows: Sequence[Sequence[int]], state: DecodeState | None = None) -> None:
        """Runs rows of any lengths into an empty cache under the model's own causal mask; no logits are made beyond the last."""
        longest = max(map(len, rows))
        if longest == 0:
            if state is not None:
                state.hidden = torch.zeros(len(rows), self.config.hidden_size, dtype=self.dtype, device=self.device)
            return
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)
        cache.reserve(longest)
        keep = {"logits_to_keep": 1} if self._keeps_logits else {}
        positions = torch.arange(longest, device=self.device).expand_as(tokens)
        hidden = state is not None
        output = self.model(input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True, output_hidden_states=hidden, **keep)
        cache.keep([len(row) for row in rows])
        if state is not None:
            lengths = torch.tensor([len(row) for row in rows], device=self.device)
            last = output.hidden_states[-1][torch.arange(len(rows), device=self.device), (lengths - 1).clamp(min=0)]
            state.hidden = last * (lengths > 0)[:, None]  # a prompt of one token has nothing before its root: zeros

    def score(self, draft: Draft, cache: KVCache, *, hidden: bool = False, num_scored: int = 0) -> Scores:
        """One forward over the draft's slots (and its scratch) behind what `cache` holds; raw logits of what follows each slot.

        `num_scored`: so many of the draft's first slots were scored before and kept, all of them, at the end of the cache; only the others are
        run, and the scores are theirs alone. That is how a tree is scored while it grows.
        """
        tokens = draft.tokens if draft.scratch is None else torch.cat([draft.tokens, draft.scratch.tokens], 1)
        tokens = tokens[:, num_scored:]
        cache.reserve(tokens.shape[1])
        output = self.model(
            input_ids=tokens,
            attention_mask=self._mask(draft, cache, num_scored),
            position_ids=self._positions(draft, cache, num_scored),
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=hidden,
        )
        last = output.hidden_states[-1] if hidden else None
        if draft.scratch is None:
            return Scores(output.logits, last)
        n = draft.num_slots
        return Scores(output.logits[:, :n], None if last is None else last[:, :n], output.logits[:, n:])

    def _positions(self, draft: Draft, cache: KVCache, num_scored: int) -> Tensor:
        """Absolute positions [B or 1, slots to run]; what stands beyond the context can never be emitted and is moved inside."""
        start, stop = cache.longest, cache.longest + draft.num_slots - num_scored
        if draft.is_chain and draft.scratch is None and cache.columns is None and stop <= self.context:
            return numbers(cache.capacity, self.device)[None, start:stop]
        positions = draft.depths() if draft.scratch is None else torch.cat([draft.depths(), draft.scratch.positions], 1)
        return (positions[:, num_scored:] + (cache.starts() - num_scored)[:, None]).clamp(max=self.context - 1)

    def _mask(self, draft: Draft, cache: KVCache, num_scored: int) -> Tensor:
        """Additive mask [B or 1, 1, slots to run, longest + slots to run]: the cached prefix of the row, then ancestors-or-self."""
        if draft.is_chain and draft.scratch is None and cache.columns is None:
            return self._chain_mask(draft.num_slots - num_scored, cache)
        bias = self._bias(draft)[:, :, num_scored:]
        num_new, num_all = bias.shape[2:]
        width = cache.longest + num_new
        if cache.columns is None:
            mask = bias.new_zeros(bias.shape[0], 1, num_new, width)
            mask[..., width - num_all :] = bias
            return mask
        relative = torch.arange(width, device=bias.device) - (cache.starts() - num_scored)[:, None]
        inside = relative.clamp(0, num_all - 1)[:, None, None, :].expand(-1, 1, num_new, -1)
        block = bias.expand(len(relative), -1, -1, -1).gather(3, inside)
        block = block.masked_fill((relative >= num_all)[:, None, None, :], torch.finfo(self.dtype).min)
        return block.masked_fill((relative < 0)[:, None, None, :], 0.0)

    def _chain_mask(self, num_slots: int, cache: KVCache) -> Tensor:
        """The mask of a chain behind rows of one length: the end of a longer one that is made once, [1, 1, N, longest + N]."""
        longer = self._chain_masks.get(num_slots)
        if longer is None or longer.shape[3] < cache.longest + num_slots:
            with torch.inference_mode(False):
                longer = torch.nn.functional.pad(self._chain_bias(num_slots), (cache.capacity, 0))
            self._chain_masks = {**self._chain_masks, num_slots: longer} if len(self._chain_masks) < 16 else {num_slots: longer}
        mask = longer[..., longer.shape[3] - cache.longest - num_slots :]
        return mask if mask.device.type == "cpu" else mask.contiguous()  # CUDA kernels want their masks aligned

    def _bias(self, draft: Draft) -> Tensor:
        """Which new slots see which: 0 or the dtype's minimum, [B or 1, 1, N + M, N + M]."""
        if draft.is_chain and draft.scratch is None:
            return self._chain_bias(draft.num_slots)
        visible = draft.ancestors
        if draft.scratch is not None:
            visible = torch.nn.functional.pad(visible, (0, draft.scratch.tokens.shape[1]), value=False)
            visible = torch.cat([visible, draft.scratch.visible], 1)
        bias = torch.full(visible.shape, torch.finfo(self.dtype).min, dtype=self.dtype, device=self.device)
        return bias.masked_fill(visible, 0.0)[:, None]

    def _chain_bias(self, num_slots: int) -> Tensor:
        lowest = torch.finfo(self.dtype).min
        return torch.full((1, 1, num_slots, num_slots), lowest, dtype=self.dtype, device=self.device).triu(1)

    def check(self, prompts: Sequence[Sequence[int] | Tensor]) -> list[list[int]]:
        """Prompts as lists of ids; raises ValueError where one is empty, too long or outside the vocabulary."""
        if not len(prompts):
            raise ValueError("no prompts were given; pass at least one list of token ids")
        return [self._checked(index, prompt) for index, prompt in enumerate(prompts)]

    def _checked(self, index: int, prompt: Sequence[int] | Tensor) -> list[int]:
        row = prompt.tolist() if isinstance(prompt, Tensor) else list(prompt)
        if not row:
            raise ValueError(f"prompt {index} is empty; give at least one token (for example the tokenizer's BOS)")
        if len(row) >= self.context:
            raise ValueError(f"prompt {index} has {len(row)} tokens; the model's context is {self.context}: leave room for at least one more")
        if min(row) < 0 or max(row) >= self.vocab_size:
            bad = next(token for token in row if not 0 <= token < self.vocab_size)
            raise ValueError(f"prompt {index} holds token id {bad}; the model's vocabulary is 0 to {self.vocab_size - 1}: is it the right tokenizer?")
        return row


def attention_window(config: Any) -> int | None:
    """The shortest window or chunk that any layer attends within, in positions; None where all layers see everything."""
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds and not kinds & set(_WINDOWED):
        return None
    slides = bool(kinds) or getattr(config, "use_sliding_window", True)
    sizes = [getattr(config, "sliding_window", None) if slides else None, getattr(config, "attention_chunk_size", None)]
    return min((size for size in sizes if size), default=None)


def _refuse_unservable(model: Any, config: Any, context: int) -> None:
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(f"{name} is an encoder-decoder; speculative decoding here needs a decoder-only causal LM")
    kinds = set(getattr(config, "layer_types", None) or ())
    recurrent = ("linear", "mamba", "recurrent", "conv")
    if getattr(model, "_is_stateful", False) or any(word in kind for kind in kinds for word in recurrent):
        raise ValueError(f"{name} keeps a recurrent or linear-attention state, from which no rejected draft can be taken back; use full attention")
    window = attention_window(config)
    if window is not None and window < context:
        raise ValueError(
            f"{name} attends within a window of {window} positions, which is shorter than the context of {context}: keys could be evicted that a "
            f"rejected draft needs back; use CausalLM(model, context={window}) to stay inside the window"
        )
    if "local" in (getattr(config, "attention_layers", None) or ()):
        raise ValueError(
            f"{name} cuts its local attention by cache slot, not by position: ragged rows and trees would come out wrong; use another family"
        )
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"{name}.forward takes no position_ids, so the slots of a tree cannot be placed; use a model that does")
    attention = getattr(config, "_attn_implementation", "sdpa") or "sdpa"
    if attention not in ("sdpa", "eager"):
        raise ValueError(f"attention implementation {attention!r} takes no additive mask; load the model with attn_implementation='sdpa' or 'eager'")
