"""The logits behind every emitted token, for callers who want them: raw, or as processors left them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft, Verdict

KINDS = ("scores", "logits")


@dataclass
class Kept:
    """`scores`: after every processor, so that their softmax is what a token was drawn from at temperature > 0. `logits`: as the model gave them."""

    wanted: Sequence[str]
    num_prompts: int
    parts: dict[str, list[list[Tensor]]] = field(init=False)  # kind -> per prompt: [emitted tokens of a step, V] for each step

    def __post_init__(self) -> None:
        unknown = [name for name in self.wanted if name not in KINDS]
        if unknown or isinstance(self.wanted, str):
            raise ValueError(f"keep={self.wanted!r}: give a list of {' and '.join(KINDS)}, or leave it out")
        self.parts = {name: [[] for _ in range(self.num_prompts)] for name in self.wanted}

    def record(self, state: DecodeState, sampler: Sampler, draft: Draft, verdict: Verdict, logits: Tensor) -> None:
        """Called before a step is committed; logits [B, N, V] are those after every slot of the draft."""
        if not self.parts:
            return
        assert verdict.tokens is not None
        counts = [len(tokens) for tokens in verdict.tokens]
        path = verdict.path[:, : max(counts)].clamp(min=0)
        picked = logits.gather(1, path[..., None].expand(-1, -1, logits.shape[2]))  # the i-th emitted token follows the i-th kept slot
        slots, contexts = path.tolist(), draft.contexts(state.seen)
        for name, found in self.parts.items():
            rows = picked if name == "logits" else sampler.processed(picked, lambda row, place: contexts(row, slots[row][place]))
            for row, count in enumerate(counts):
                if count:
                    found[state.prompt_of[row]].append(rows[row, :count].clone())

    def joined(self, name: str) -> list[Tensor] | None:
        """One tensor [new tokens, V] per prompt; None where it was not wanted."""
        return [torch.cat(parts) for parts in self.parts[name]] if name in self.parts else None
