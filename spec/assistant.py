"""The small model beside the target: loading, checks, and a cache that follows the committed rows and scores a tree while it grows."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import torch
from torch import Tensor, nn

from spec.arguments import shown
from spec.cache import KVCache
from spec.loading import load_model
from spec.model import CausalLM
from spec.prefill import fill
from spec.reach import num_positions
from spec.rows import counts_positions
from spec.runtime import check_kind
from spec.state import DecodeState
from spec.store import check_store, stored
from spec.tree import on_device
from spec.types import Draft
from spec.vocabulary import SharedIds, shared_ids, vocabulary_of

MOST_RESERVED = 4096  # most tokens that a new cache reserves room for; it grows if more come


class Assistant:
    """A causal LM with the target's tokenizer: loaded by `name` when first attached, or passed in as `model` (or in place of `name`).

    Per step, `follow` feeds the committed tokens and gives the logits after the root. Then a chain calls `step` for each token. A growing tree calls
    `score` for its new slots, and after the verdict `keep`, so that the cache holds only the kept slots. `runtime` "auto" is the target's, and so is
    `dtype` "auto" when a model is loaded; `store` is how the weights of a loaded model are kept (`spec.store.stored`). It is loaded once: for later
    targets it keeps its dtype, which the output does not depend on. Its context and runtime are set anew for a target that differs in them; a
    `CausalLM` that was passed in stays as it is.
    V in these methods is the target's vocabulary; the model's own may be of another size (`spec.vocabulary`).
    Raises ValueError for anything that is neither a name (a hub id, a folder) nor a model (of transformers, or a `CausalLM`).
    """

    def __init__(
        self,
        name: str | Any = "embedded/drafter",
        model: Any = None,
        *,
        dtype: str = "auto",
        device_map: Any = None,
        attn_implementation: str = "sdpa",
        runtime: str = "auto",
        store: str = "auto",
    ):
        check_kind(runtime)
        self.name, given = _name_or_model(name, model)
        self.dtype, self.device_map, self.attn_implementation = dtype, device_map, attn_implementation
        self.runtime, self.store = runtime, check_store(store)
        self._whole, self._model = (None, given) if isinstance(given, CausalLM) else (given, None)  # of transformers, and as it is run
        self._made_for: tuple[int, str, int | None] | None = None  # context, runtime and capacity of `_model`, where it was made here
        self._shared: SharedIds | None = None  # None: not attached, as where the target drafts for itself
        self._shares_with: Any = None  # the target's vocabulary and the model's own, as they were last compared
        self._cache: KVCache | None = None
        self._bases: list[int] | None = None  # committed tokens in the cache per row, root included, while draft slots follow them
        self.num_scored = 0  # slots of the current draft that were scored, root not counted

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles begin without a text: caches are tied to the decode that they serve."""
        return {**vars(self), "_cache": None, "_bases": None, "num_scored": 0}

    @property
    def model(self) -> CausalLM:
        assert self._model is not None, "attach comes first"
        return self._model

    @property
    def cache(self) -> KVCache:
        assert self._cache is not None, "reset comes first"
        return self._cache

    def attach(self, target: CausalLM) -> None:
        """Loads the model if it is not loaded yet. Raises ValueError if tokenizers or devices differ; see `spec.vocabulary.shared_ids`."""
        if self._model is None or self._made_for is not None:
            self._make_for(target)
        self._share(target)
        if self.model.device != target.device:
            raise ValueError(f"the target is on {target.device}, the draft model on {self.model.device}; put both on one device")

    def _make_for(self, target: CausalLM) -> None:
        """A `CausalLM` with the target's context at most, and its runtime where that is "auto"; the last one where it is the same."""
        if self._whole is None:
            self._whole = self._load(target)
        config = self._whole.config.get_text_config()
        kind = _runtime_beside(target, self._whole) if self.runtime == "auto" else self.runtime
        wanted = min(target.context, num_positions(config) or target.context), kind, target.capacity
        if self._made_for != wanted:
            context, kind, capacity = wanted
            self._model, self._made_for = CausalLM(self._whole, context, runtime=kind, capacity=capacity), wanted

    def _share(self, target: CausalLM) -> None:
        """Compares vocabularies, once as long as sizes and tokenizers' files stay as they are."""
        pair = vocabulary_of(target), vocabulary_of(self.model)
        if self._shares_with != pair:
            self._shared, self._shares_with = shared_ids(target, self.model), pair

    def _readable(self, rows: list[list[int]]) -> list[list[int]]:
        return rows if self._shared is None else self._shared.fed_rows(rows)

    def _fed(self, tokens: Tensor) -> Tensor:
        return tokens if self._shared is None else self._shared.fed(tokens)

    def _widened(self, logits: Tensor) -> Tensor:
        return logits if self._shared is None else self._shared.logits(logits)

    def _load(self, target: CausalLM) -> Any:
        assert self.name is not None
        model = load_model(self.name, target.dtype if self.dtype == "auto" else self.dtype, self.device_map, self.attn_implementation)
        return stored(model if self.device_map is not None else model.to(target.device), self.store)

    def reset(self, state: DecodeState) -> None:
        """A new batch: caches all but the last token of every row."""
        needed = max(map(len, state.rows)) + min(max(state.room), MOST_RESERVED) + 16
        self._cache, self._bases = self.model.new_cache(state.num_rows, needed), None
        fill(self.model, self._cache, self._readable([row[:-1] for row in state.rows]))

    def rows_changed(self, state: DecodeState, origin: Sequence[int | None]) -> None:
        """As `Drafter.rows_changed`: caches all but the last token of newcomers and carries the other rows along."""
        if self._bases is not None:
            self.cache.crop(self._bases)
        self._bases, self.num_scored = None, 0
        rows, joined = self._readable([row[:-1] for row, old in zip(state.rows, origin, strict=True) if old is None]), None
        if rows:
            joined = self.model.new_cache(len(rows), max(map(len, rows)))
            fill(self.model, joined, rows)
        self.cache.rearrange(origin, joined)

    def follow(self, state: DecodeState) -> Tensor:
        """Feeds the committed tokens that the cache lacks, the root among them; raw logits after the root, [B, 1, V]."""
        if self._bases is not None:
            self.cache.crop(self._bases)  # removes a draft that was never judged
        self.cache.crop([len(row) - 1 for row in state.rows])
        rows = self._readable([row[length:] for row, length in zip(state.rows, self.cache.lengths, strict=True)])
        longest, shortest = max(map(len, rows)), min(map(len, rows))
        tokens = on_device([[*row, *[0] * (longest - len(row))] for row in rows], state.device)
        logits = self.model.score(Draft.chain(tokens), self.cache, last=longest == shortest).logits
        self.cache.keep([len(row) for row in rows])
        self._bases, self.num_scored = list(self.cache.lengths), 0
        if longest != shortest:
            last = on_device([len(row) - 1 for row in rows], state.device)
            logits = logits.gather(1, last[:, None, None].expand(-1, 1, logits.shape[2]))
        return self._widened(logits)

    def step(self, tokens: Tensor) -> Tensor:
        """Feeds the next token of a chain in every row, [B, 1]; raw logits after it, [B, 1, V]. It needs no `keep`: accepted tokens are in place."""
        logits = self.model.score(Draft.chain(self._fed(tokens)), self.cache).logits
        self.cache.keep([1] * len(tokens))
        self._bases = None
        return self._widened(logits)

    def score(self, draft: Draft) -> Tensor:
        """Raw logits after the slots of a growing draft (root first) that are not scored yet, [B, new, V]; one forward over these slots alone."""
        behind_root = draft.behind_root(self._fed(draft.tokens[:, 1:]))
        logits = self.model.score(behind_root, self.cache, num_scored=self.num_scored).logits
        self.cache.keep([logits.shape[1]] * len(logits))
        self.num_scored += logits.shape[1]
        return self._widened(logits)

    def keep(self, path: Tensor) -> None:
        """Keeps only those scored slots in the cache that are on `path` [B, D]: slots of the draft, root first, -1 after the end."""
        assert self._bases is not None, "follow comes first"
        self.cache.crop(self._bases)
        behind_root = path[:, 1:] - 1
        scored = (behind_root >= 0) & (behind_root < self.num_scored)
        counts = scored.sum(1).tolist()
        if any(counts):
            self.cache.keep(counts, torch.where(scored, behind_root, -1)[:, : max(counts)])
        self._bases, self.num_scored = None, 0


def _name_or_model(name: Any, model: Any) -> tuple[str | None, Any]:
    """What to load, or the model that was given; the other is None."""
    if model is None and isinstance(name, (str, PathLike)):
        return str(fspath(name)), None
    if model is not None and not isinstance(name, (str, PathLike)):
        raise ValueError(f"two draft models were given, {shown(name)} and model={shown(model)}; give one")
    given = name if model is None else model
    if not isinstance(given, CausalLM) and not (isinstance(given, nn.Module) and hasattr(given, "config")):
        raise ValueError(f"{shown(given)} is no draft model; give a name (embedded/drafter, a hub id, a folder), a transformers model or a CausalLM")
    return None, given


def _runtime_beside(target: CausalLM, model: Any) -> str:
    """The target's, where it fits a draft model: fixed shapes need positions, and one of the two may have the lean shape alone."""
    if target.runtime is None:
        return "hf" if target.wanted_runtime == "hf" else "auto"
    return "auto" if counts_positions(model, model.config.get_text_config()) else target.runtime_kind
