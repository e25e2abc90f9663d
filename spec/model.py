"""A Hugging Face causal LM behind two calls: `prefill` a batch of prompts, `score` a draft. Masks and positions are made here and nowhere else."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import spec.masks as masks
from spec.arguments import sequence_keys, shown, token_ids, whole
from spec.attention import chosen, folding
from spec.cache import KVCache
from spec.lean import Lean, lean_if_fitting
from spec.loading import EMBEDDED as EMBEDDED
from spec.loading import load_model as load_model
from spec.loading import resolve_name as resolve_name
from spec.prefill import fill
from spec.reach import arguments_of, num_layers, num_positions, read
from spec.rows import NO_FIXED_SHAPES, check_chain, counts_positions, refuse_uncounted, run_rows
from spec.runtime import FIXED, Inputs, Runtime, check_kind
from spec.servable import refuse_unservable
from spec.state import DecodeState
from spec.tree import numbers
from spec.types import Draft, Scores
from spec.windows import Windows, windows_of

FLEX_DEVICES = ("cuda",)
NO_FLASH = (
    "{name} takes no mask of its own: it serves chains behind rows of one length (one prompt at a time, or prompts that keep step); for trees, "
    "lookahead windows and ragged batches load the model with attn_implementation='sdpa'"
)


class CausalLM:
    """Wraps any decoder-only transformers model whose attention can be masked and rolled back; nothing is patched.

    Raises ValueError, in one line, for every model whose logits after a token may depend on more than that token's own prefix: `spec.servable` has
    the reasons. Some do so only beyond a length (longrope): `context` limits the positions used (default: all that the model has). Layers within
    windows or chunks (`spec.windows`) get masks of their own as soon as a forward goes beyond one. Where layers are not all alike, it is the model's
    own forward that runs from there on, not the lean one.
    Attention is sdpa, eager, flex or flash; flash serves chains only, and so do models without position_ids (`chains_only`, see `spec.rows`).

    `runtime`: how drafts are scored. "auto": "lean" if that is possible, else "hf"; "hf": by the model's own forward; "lean": by `spec.lean`;
    "compile": by torch.compile, once for every set of shapes; "graphs": compiled, and captured as CUDA graphs. It changes the time and nothing else.
    `capacity`: slots of a cache under the last two, whose shapes are fixed (default: a power of two).
    """

    def __init__(self, model: Any, context: int | None = None, runtime: str = "auto", capacity: int | None = None):
        if not hasattr(getattr(model, "config", None), "get_text_config"):
            raise ValueError(f"model={shown(model)}: give a model of transformers, for example spec.model.load_model(name)")
        model = getattr(model, "_orig_mod", model)  # what torch.compile has wrapped is run as it was, as `generate` does; see `runtime`
        self.model, self.config = model, model.config.get_text_config()
        limit = num_positions(self.config) or 2**31
        allowed = f"between 2 and the model's {limit} positions"
        self.context: int = limit if context is None else whole("context", context, allowed, 2)
        if self.context > limit:
            raise ValueError(f"context={context}: give {allowed}")
        if capacity is not None:
            capacity = whole("capacity", capacity, "a whole number of slots, at least 1, or None", 1)
        refuse_unservable(model, self.config, self.context)
        self.windows: Windows = windows_of(self.config).beyond(self.context)
        self.attention: str = chosen(self.config)
        if self.attention == "flex_attention" and model.device.type not in FLEX_DEVICES:
            raise ValueError(f"flex_attention on {model.device}: torch cannot compile it for shapes that change; use attn_implementation='sdpa'")
        is_fixed = check_kind(runtime) in FIXED
        if is_fixed and self.attention not in ("sdpa", "eager"):
            raise ValueError(f"runtime={runtime} attends by an additive mask, which {self.attention} does not take; use sdpa or eager attention")
        self.chains_only: bool = counts_positions(model, self.config)
        if self.chains_only and is_fixed:
            raise ValueError(NO_FIXED_SHAPES.format(runtime=runtime, name=type(model).__name__))
        if self.chains_only:
            refuse_uncounted(model, self.config)
        self.vocab_size: int = self.config.vocab_size
        self.device: torch.device = model.device  # stored: the model finds each by a walk over its parameters
        self.dtype: torch.dtype = model.dtype
        self._keeps_logits = "logits_to_keep" in arguments_of(model)
        self._chain_masks: dict[int, Tensor] = {}
        self.capacity = capacity
        self.wanted_runtime = runtime
        self.lean: Lean | None = self._lean()
        self.runtime: Runtime | None = Runtime(model, runtime, capacity, self.windows) if is_fixed else None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "lean": None}  # it is tied to these very weights

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.lean = self._lean()

    @property
    def runtime_kind(self) -> str:
        """How drafts are scored: what was asked for, or "hf" if that was not possible."""
        return ("hf" if self.lean is None else "lean") if self.runtime is None else self.runtime.kind

    def _lean(self) -> Lean | None:
        return lean_if_fitting(self.model, is_asked=self.wanted_runtime == "lean") if self.wanted_runtime in ("auto", "lean") else None

    def new_cache(self, num_rows: int, needed: int) -> KVCache:
        """An empty cache with at least `needed` slots a row."""
        if (self.device, self.dtype) != (self.model.device, self.model.dtype):  # the weights have been moved or cast since
            self._moved()
        layers = num_layers(self.config) or 0
        if self.lean is not None or self.wanted_runtime == "auto":
            self.lean = self._lean()  # parts, hooks and dtypes may be others by now
        made = KVCache(layers, num_rows, needed, self.device) if self.runtime is None else self.runtime.cache(layers, num_rows, needed)
        made.num_stacked -= read(self.config, "num_kv_shared_layers", 0)  # the last layers may use the keys of others
        return made

    def _moved(self) -> None:
        self.device, self.dtype, self._chain_masks = self.model.device, self.model.dtype, {}
        if self.runtime is not None:
            self.runtime = Runtime(self.model, self.runtime.kind, self.capacity, self.windows)

    def prefill(
        self, prompts: Sequence[Sequence[int] | Tensor], *, sequence_ids: Sequence[int] | None = None, hidden: bool = False, room: int = 48
    ) -> DecodeState:
        """Caches all but the last token of every prompt; that token is the root of the first draft. `room`: number of tokens that will follow."""
        rows = self.check(prompts)
        cache = self.new_cache(len(rows), max(map(len, rows)) + room + 16)  # 16: a draft follows the last token
        ids = torch.tensor(sequence_keys(sequence_ids, len(rows)))
        state = DecodeState(rows, cache, ids, self.context)
        fill(self, cache, [row[:-1] for row in rows], state if hidden else None)
        return state

    def extend(self, cache: KVCache, rows: Sequence[Sequence[int]], state: DecodeState | None = None) -> None:
        """Runs rows of any lengths into an empty cache under the model's own causal mask; logits are made for the last column only.

        Short prompts run by the compiled forward where there is one.
        """
        longest = max(map(len, rows))
        if longest == 0:
            if state is not None:
                state.hidden = torch.zeros(len(rows), self.config.hidden_size, dtype=self.dtype, device=self.device)
            if self.runtime is None or cache.slot_layers[0].is_initialized:
                return
            longest = 1  # buffers get their shapes from a forward
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)
        cache.reserve(longest)
        states = self._states_of_prompts(tokens, cache, state is not None)
        cache.keep([len(row) for row in rows])
        if states is not None:
            assert state is not None
            lengths = torch.tensor([len(row) for row in rows], device=self.device)
            last = states[torch.arange(len(rows), device=self.device), (lengths - 1).clamp(min=0)]
            state.hidden = last * (lengths > 0)[:, None]  # a prompt of one token has nothing before its root: zeros

    def _states_of_prompts(self, tokens: Tensor, cache: KVCache, hidden: bool) -> Tensor | None:
        """Runs tokens [B, N] into an empty cache, and gives the last hidden states [B, N, H] if `hidden`."""
        places = numbers(tokens.shape[1], self.device).expand_as(tokens)
        sees_all = self.windows.beyond(tokens.shape[1]).smallest is None
        if sees_all and self.lean is not None and self.lean.is_compiled_for(tokens):
            states = self.lean.run(tokens, self._chain_mask(tokens.shape[1], cache, tokens.shape[1]), places, cache, True)[1]
            return states if hidden else None
        keep: dict[str, Any] = {"logits_to_keep": 1} if self._keeps_logits else {}
        if not self.chains_only:
            keep["position_ids"] = places
        output = self.model(input_ids=tokens, past_key_values=cache, use_cache=True, output_hidden_states=hidden, **keep)
        return output.hidden_states[-1] if hidden else None

    def score(self, draft: Draft, cache: KVCache, *, hidden: bool = False, num_scored: int = 0, last: bool = False) -> Scores:
        """One forward over the draft's slots (and its scratch) after what `cache` holds; raw logits of what follows each slot.

        `num_scored`: how many of the draft's first slots were scored before; all of them are kept at the end of the cache. Only the others are run,
        and the scores are theirs. This is how a growing tree is scored. `last`: only the logits after the last slot are wanted.
        """
        tokens = draft.tokens if draft.scratch is None else torch.cat([draft.tokens, draft.scratch.tokens], 1)
        tokens = tokens[:, num_scored:]
        if self.runtime is None:
            cache.reserve(tokens.shape[1])
            logits, states = self._unpadded(draft, cache, tokens, num_scored, hidden, last)
        else:
            cache.reserve(self.runtime.bucket(tokens.shape[1]))
            logits, states = self.runtime.run(self._fixed(draft, cache, num_scored, tokens), cache, hidden)
            logits = logits[:, : tokens.shape[1]]
        if last:
            return Scores(logits[:, -1:])
        if draft.scratch is None:
            return Scores(logits, None if states is None else states[:, : tokens.shape[1]])
        n = draft.num_slots
        return Scores(logits[:, :n], None if states is None else states[:, :n], logits[:, n:])

    def _unpadded(self, draft: Draft, cache: KVCache, tokens: Tensor, num_scored: int, hidden: bool, last: bool) -> tuple[Tensor, Tensor | None]:
        if self.chains_only:
            check_chain(draft, type(self.model).__name__)
            return run_rows(self.model, cache, tokens, self.context, self.vocab_size, hidden)
        places = masks.positions(draft, cache, num_scored, self.context)
        windows = self.windows.beyond(cache.longest + tokens.shape[1])
        if self.lean is not None and len(windows.names) == 1:
            sees_all = tokens.shape[1] == 1 and cache.columns is None and draft.is_chain  # scratch would be a second token
            mask = None if sees_all and windows.smallest is None else self._masks(windows, draft, cache, num_scored)[0]
            logits, states = self.lean.run(tokens, mask, places, cache, last)
            return logits, states if hidden else None
        mask, keep = self._mask(windows, draft, cache, num_scored), {"logits_to_keep": 1} if last and self._keeps_logits else {}
        with folding(self.model):
            output = self.model(
                input_ids=tokens, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True, output_hidden_states=hidden, **keep
            )
        return output.logits, output.hidden_states[-1] if hidden else None

    def _fixed(self, draft: Draft, cache: KVCache, num_scored: int, tokens: Tensor) -> Inputs:
        """What a forward of fixed shape reads: it attends to the whole cache, and a chain is padded to its bucket."""
        assert self.runtime is not None
        num_slots, width = self.runtime.bucket(tokens.shape[1]), cache.capacity
        is_chain = draft.is_chain and draft.scratch is None
        if is_chain and num_slots > tokens.shape[1]:
            tokens = torch.nn.functional.pad(tokens, (0, num_slots - tokens.shape[1]))
        if is_chain and cache.columns is None:
            columns = numbers(width, self.device)[None, cache.longest : cache.longest + num_slots].expand_as(tokens)
        else:
            columns = cache.starts()[:, None] + numbers(num_slots, self.device) if cache.columns is None else cache.columns
        if is_chain and cache.columns is None and cache.longest + num_slots <= self.context:
            places, mask = columns, self._chain_mask(num_slots, cache, width).expand(len(tokens), -1, -1, -1)
        elif is_chain:
            places, mask = columns.clamp(max=self.context - 1), masks.up_to(columns, width, self.dtype)
        else:
            bias, columns = masks.draft_bias(draft, self.dtype)[:, :, num_scored:], columns[:, : tokens.shape[1]]
            mask = masks.behind_prefix(bias, cache.starts() - num_scored, width)
            places = masks.positions(draft, cache, num_scored, self.context).expand_as(tokens)
        if self.windows.smallest is None:
            return Inputs(tokens, places, mask[None], columns)
        seen = masks.by_window(mask, self.windows, draft, cache, num_scored, columns if is_chain else None)
        return Inputs(tokens, places, torch.stack(seen), columns)

    def _mask(self, windows: Windows, draft: Draft, cache: KVCache, num_scored: int) -> Any:
        """Masks of all types of layers, in whatever form the model and its attention implementation want them."""
        if self.attention.startswith("flash"):
            if draft.is_chain and draft.scratch is None and cache.columns is None:
                return None  # causal from the last slot back, or from the window: right for a chain after rows of one length
            raise ValueError(NO_FLASH.format(name=self.attention))
        made = [one.expand(len(draft.tokens), -1, -1, -1) for one in self._masks(windows, draft, cache, num_scored)]  # a row for each: some insist
        return windows.by_name([masks.block_mask(one) for one in made] if self.attention == "flex_attention" else made)

    def _masks(self, windows: Windows, draft: Draft, cache: KVCache, num_scored: int) -> list[Tensor]:
        """The additive masks of each type of layers, [B or 1, 1, slots to run, longest + slots to run]."""
        mask = self._additive_mask(draft, cache, num_scored)
        return [mask] if windows.smallest is None else masks.by_window(mask, windows, draft, cache, num_scored)

    def _additive_mask(self, draft: Draft, cache: KVCache, num_scored: int) -> Tensor:
        """Each slot sees the cached prefix of its row, its ancestors and itself."""
        num_new = draft.num_slots - num_scored
        if draft.is_chain and draft.scratch is None and cache.columns is None:
            return self._chain_mask(num_new, cache, cache.longest + num_new)
        width = cache.longest + num_new + (0 if draft.scratch is None else draft.scratch.tokens.shape[1])
        if draft.is_chain and draft.scratch is None and cache.columns is not None:
            return masks.up_to(cache.columns, width, self.dtype)
        bias = masks.draft_bias(draft, self.dtype)[:, :, num_scored:]
        return masks.uniform_mask(bias, width) if cache.columns is None else masks.behind_prefix(bias, cache.columns[:, 0] - num_scored, width)

    def _chain_mask(self, num_slots: int, cache: KVCache, width: int) -> Tensor:
        """The mask of a chain after rows of one length, [1, 1, N, width]: a slice of a wider mask that is made once."""
        wide = self._chain_masks.get(num_slots)
        half = 0 if wide is None else wide.shape[3] // 2
        if wide is None or half < max(cache.longest, width - cache.longest):
            half = cache.capacity
            with torch.inference_mode(False):
                wide = masks.up_to(numbers(half + num_slots, self.device)[None, half:], 2 * half, self.dtype)
            self._chain_masks = {**self._chain_masks, num_slots: wide} if len(self._chain_masks) < 16 else {num_slots: wide}
        mask = wide[..., half - cache.longest : half - cache.longest + width]
        return mask if mask.device.type == "cpu" else mask.contiguous()  # CUDA kernels want their masks aligned

    def check(self, prompts: Sequence[Sequence[int] | Tensor]) -> list[list[int]]:
        """Prompts as lists of ids; raises ValueError where one is empty, too long, outside the vocabulary or no list of whole numbers."""
        if not hasattr(prompts, "__len__"):
            raise ValueError(f"prompts is of the type {type(prompts).__name__}; give a list with one list of token ids for each prompt")
        if not len(prompts):
            raise ValueError("no prompts were given; pass at least one list of token ids")
        return [self._checked(index, prompt) for index, prompt in enumerate(prompts)]

    def _checked(self, index: int, prompt: Sequence[int] | Tensor) -> list[int]:
        row = token_ids(f"prompt {index}", prompt)
        if not row:
            raise ValueError(f"prompt {index} is empty; give at least one token (for example the tokenizer's BOS)")
        if len(row) > self.context:
            raise ValueError(f"prompt {index} has {len(row)} tokens, more than the model's context of {self.context}; shorten it")
        if min(row) < 0 or max(row) >= self.vocab_size:
            bad = next(token for token in row if not 0 <= token < self.vocab_size)
            raise ValueError(f"prompt {index} holds token id {bad}; the model's vocabulary is 0 to {self.vocab_size - 1}: is it the right tokenizer?")
        return row
