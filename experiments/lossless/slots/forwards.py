"""Ways to read a given text with a model: one slot at a time, in chains, in trees, or beside other rows, through the cache and masks of the loop.

Every step commits what stands in the text, so the logits of all ways belong to the same tokens. In exact arithmetic they are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spec.model import CausalLM
from spec.tree import chain_parents
from spec.types import Draft


@dataclass(frozen=True)
class Text:
    """A prompt and what was sampled after it, as token ids; the distributions of `answer` are compared."""

    prompt: Sequence[int]
    answer: Sequence[int]


@dataclass(frozen=True)
class Way:
    """The shape of a forward. "chain": slots in a row. "tree": a binary tree; the text stands on its path of last children."""

    shape: str
    num_slots: int
    rows: int = 1  # texts at once

    def __post_init__(self) -> None:
        if self.num_slots < 1 or self.rows < 1:
            raise ValueError(f"{self.shape} of {self.num_slots} slots for {self.rows} rows: give at least 1 of each")

    @property
    def name(self) -> str:
        said = "1 slot" if self.num_slots == 1 else f"{self.shape} of {self.num_slots}"
        return said if self.rows == 1 else f"{said}, {self.rows} rows"

    def parents(self) -> list[int]:
        """The parent of every slot, -1 for the root."""
        return [slot - 1 if self.shape == "chain" else (slot + 1) // 2 - 1 for slot in range(self.num_slots)]

    def path(self) -> list[int]:
        """The slots from the root down that the text stands on."""
        if self.shape == "chain":
            return list(range(self.num_slots))
        found = [0]
        while 2 * found[-1] + 2 < self.num_slots:
            found.append(2 * found[-1] + 2)
        return found


PLAIN = Way("chain", 1)  # plain decoding of one text


@torch.inference_mode()
def read(target: CausalLM, texts: Sequence[Text], way: Way) -> list[Tensor]:
    """The logits before each token of each answer, [len(answer), V] per text, from forwards of `way`'s shape. All texts are read at once.

    Every slot of the text's path is kept in the cache, as if the whole draft had been accepted. Slots beside it hold other tokens of the vocabulary.
    """
    state = target.prefill([text.prompt for text in texts], room=max(len(text.answer) for text in texts) + way.num_slots)
    path, rows = way.path(), len(texts)
    kept = torch.tensor([path] * rows, device=target.device)
    longest = max(len(text.answer) for text in texts)
    known = torch.tensor([padded(text, longest + len(path)) for text in texts], device=target.device)
    beside = torch.Generator().manual_seed(0)
    found = []
    for start in range(0, longest, len(path)):
        tokens = torch.randint(target.vocab_size, (rows, way.num_slots), generator=beside).to(target.device)
        tokens[:, path] = known[:, start : start + len(path)]
        logits = target.score(draft(way, tokens), state.cache).logits
        state.cache.keep([len(path)] * rows, None if way.shape == "chain" else kept)
        found.append(logits[:, path])
    whole = torch.cat(found, 1)
    return [whole[row, : len(text.answer)] for row, text in enumerate(texts)]


def padded(text: Text, length: int) -> list[int]:
    """The root, the answer, and its last token again and again, so that the last forwards have the shape of the others."""
    tokens = [text.prompt[-1], *text.answer]
    return (tokens + [tokens[-1]] * length)[:length]


def draft(way: Way, tokens: Tensor) -> Draft:
    """A draft of `way`'s shape that holds `tokens` [rows, slots]."""
    if way.shape == "chain":
        return Draft(tokens, chain_parents(*tokens.shape, tokens.device), torch.full((len(tokens),), way.num_slots, device=tokens.device), width=1)
    parents = torch.tensor([way.parents()] * len(tokens), device=tokens.device)
    return Draft(tokens, parents, torch.full((len(tokens),), way.num_slots, device=tokens.device), width=2)
