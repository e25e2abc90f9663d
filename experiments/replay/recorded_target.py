"""A recorded text in the target's place: loop, drafter, limits and accounting are the real ones, only the forwards of the target are missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.parts.target import find_device
from spec.cache import KVCache
from spec.decode import decode
from spec.interfaces import Drafter
from spec.loading import load_config
from spec.model import CausalLM
from spec.noise import StepNoise
from spec.sampling import Sampler
from spec.state import DecodeState, Limits
from spec.stats import GenerationStats
from spec.types import Draft, Scores, Verdict

ANY_CONTEXT = 2**31
NEEDS_TARGET = (
    "it needs the target's scores, states or weights, which a recording does not hold; replay takes drafters that look at the text alone or run a "
    "model of their own (prompt_lookup, draft_model, multi_draft, draft_tree)"
)


class RecordedTarget(CausalLM):
    """What a drafter may know of a target that is not there: vocabulary, context, device, dtype, configuration; all else raises ValueError.

    Its scores have the right shape and no numbers (torch's meta device), so that a drafter that reads them fails.
    """

    def __init__(self, vocab_size: int, context: int = ANY_CONTEXT, device: str = "cpu", dtype: torch.dtype = torch.float32, config: Any = None):
        self.vocab_size, self.context, self.config = vocab_size, context, config
        self.device, self.dtype = torch.device(device), dtype
        self.runtime, self.lean, self.capacity, self.wanted_runtime = None, None, None, "auto"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(NEEDS_TARGET)

    def new_cache(self, num_rows: int, needed: int) -> KVCache:
        raise ValueError(NEEDS_TARGET)  # only a drafter that runs the target itself asks for a second cache

    def prefill(
        self, prompts: Sequence[Sequence[int] | Tensor], *, sequence_ids: Sequence[int] | None = None, hidden: bool = False, room: int = 0
    ) -> DecodeState:
        if hidden:
            raise ValueError(NEEDS_TARGET)
        rows = self.check(prompts)
        cache = KVCache(0, len(rows), max(map(len, rows)) + room, self.device)
        cache.keep([len(row) - 1 for row in rows])
        ids = torch.tensor(list(range(len(rows)) if sequence_ids is None else sequence_ids), device=self.device)
        return DecodeState(rows, cache, ids, self.context)

    def score(self, draft: Draft, cache: KVCache, *, hidden: bool = False, num_scored: int = 0, last: bool = False) -> Scores:
        if draft.scratch is not None:
            raise ValueError(NEEDS_TARGET)
        return Scores(torch.empty(*draft.tokens.shape, self.vocab_size, device="meta"))


def recorded_target(name: str, *, dtype: str = "auto", device: str = "auto", context: int | None = None) -> RecordedTarget:
    """What the model `name` says about itself without its weights. Raises ValueError where it cannot be found."""
    config = load_config(name).get_text_config()
    chosen = getattr(config, "dtype", None) if dtype == "auto" else dtype
    known = getattr(torch, chosen) if isinstance(chosen, str) else chosen
    limit = context or getattr(config, "max_position_embeddings", None) or ANY_CONTEXT
    return RecordedTarget(config.vocab_size, limit, find_device(device), known or torch.float32, config)


class DraftSampler(Sampler):
    """The sampler of a recorded run: drafters draw by it, and the scores that are not there pass through."""

    def __init__(self, sampler: Sampler):
        vars(self).update(vars(sampler))
        self.recorded = sampler

    def distribution(self, logits: Tensor, contexts: Callable[[int, int], list[int]] | None = None) -> Tensor:
        return logits if logits.is_meta else self.recorded.distribution(logits, contexts)


@dataclass(frozen=True)
class Follow:
    """Keeps the longest path of a draft that agrees with a recorded text, `text` with its prompt, and emits the token after it.

    `every`: nothing is kept, so that the drafter is asked at every position. `watch` is called with each step's root position and draft.
    For one row. The limits cut off what follows the end of the text, so any token may be there.
    """

    exact: ClassVar[bool] = True
    text: Sequence[int]
    every: bool = False
    watch: Callable[[int, Draft], None] | None = None

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        root = int(noise.root_positions[0])
        if self.watch is not None:
            self.watch(root, draft)
        path = [0] if self.every else longest_agreement(draft, self.text[root + 1 :])
        after = root + len(path)
        bonus = self.text[after] if after < len(self.text) else 0
        as_rows = torch.tensor([path, [0] * len(path)], device=draft.tokens.device)
        return Verdict(as_rows[:1], torch.tensor([bonus], device=as_rows.device), torch.tensor([len(path)], device=as_rows.device))


def longest_agreement(draft: Draft, text: Sequence[int]) -> list[int]:
    """The slots, root first, of the longest path of a one-row draft that spells the beginning of `text`; the first of equals."""
    size = int(draft.sizes[0])
    tokens = draft.tokens[0, :size].tolist()
    parents = range(-1, size - 1) if draft.is_chain else draft.parents[0, :size].tolist()
    depths, best = {0: 0}, 0  # of the slots whose path agrees
    for slot in range(1, size):
        depth = depths.get(parents[slot])
        if depth is not None and depth < len(text) and tokens[slot] == text[depth]:
            depths[slot] = depth + 1
            best = slot if depth + 1 > depths[best] else best
    path = [best]
    while path[-1] > 0:
        path.append(parents[path[-1]])
    return path[::-1]


@dataclass(frozen=True)
class Replay:
    """Decodes recorded texts again, with any drafter. `budget` as the recorded run had it; None: every text's own length."""

    target: RecordedTarget
    sampler: Sampler
    eos_ids: Sequence[int] = ()
    budget: int | None = None

    def run(self, drafter: Drafter, prompt: list[int], tokens: list[int], number: int = 0, *, follow: Follow | None = None) -> GenerationStats:
        """What the drafter achieves on one text, counted as in `decode`; `number` keys its noise.

        Raises ValueError for a drafter that needs the target.
        """
        limits = Limits(self.budget or len(tokens), list(self.eos_ids))
        verifier = follow or Follow([*prompt, *tokens])
        try:
            if drafter.traits.needs:
                raise ValueError(NEEDS_TARGET)
            return decode(self.target, drafter, verifier, [prompt], sampler=DraftSampler(self.sampler), limits=limits, sequence_ids=[number]).stats
        except (RuntimeError, NotImplementedError, ValueError) as error:
            if "meta" in str(error) or NEEDS_TARGET in str(error):
                raise ValueError(f"{type(drafter).__name__} cannot be replayed: {NEEDS_TARGET}") from error
            raise
