"""What has been decided so far (`DecodeState`) and when to stop (`Limits`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from spec.cache import KVCache
from spec.types import Draft, Scores, Verdict


@dataclass
class DecodeState:
    """The committed tokens of every row, on the host, and the target's cache, on the device."""

    rows: list[list[int]]  # committed tokens, prompt included
    cache: KVCache
    sequence_ids: Tensor  # [B] noise keys
    context: int  # positions that the target has
    max_lengths: list[int] = field(default_factory=list)  # longest each row may become
    hidden: Tensor | None = None  # [B, H] the target's last hidden state before the root, where a drafter needs it
    fresh: list[list[int]] = field(default_factory=list)  # tokens that the last step emitted

    def __post_init__(self) -> None:
        self.prompt_lengths = [len(row) for row in self.rows]
        self.done = [False] * len(self.rows)
        self.max_lengths = self.max_lengths or [self.context] * len(self.rows)

    @property
    def device(self) -> torch.device:
        return self.cache.device

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    @property
    def roots(self) -> list[int]:
        """The last committed token of each row: slot 0 of the next draft."""
        return [row[-1] for row in self.rows]

    @property
    def room(self) -> list[int]:
        """Tokens that each row may still emit; a draft deeper than room - 1 is of no use."""
        return [limit - len(row) for limit, row in zip(self.max_lengths, self.rows, strict=True)]

    def root_positions(self) -> Tensor:
        """Absolute position of each root, [B]."""
        return torch.tensor([len(row) - 1 for row in self.rows], device=self.device)

    def commit(self, draft: Draft, verdict: Verdict, scores: Scores) -> None:
        """Appends what the verdict emits, keeps its path in the cache and marks finished rows. The step's one transfer to the host."""
        num_columns = verdict.path.shape[1]
        ended = torch.zeros_like(verdict.counts) if verdict.ended is None else verdict.ended
        packed = torch.cat([verdict.emitted(draft), verdict.counts[:, None], ended[:, None]], 1).tolist()
        counts = [row[num_columns] for row in packed]
        self.fresh = [row[:count] for row, count in zip(packed, counts, strict=True)]
        for row, tokens in zip(self.rows, self.fresh, strict=True):
            row.extend(tokens)
        self.cache.keep(counts, None if draft.is_chain else verdict.path)
        self.done = [done or bool(row[-1]) for done, row in zip(self.done, packed, strict=True)]
        if scores.hidden is not None:
            last = verdict.path.gather(1, (verdict.counts - 1).clamp(min=0)[:, None]).clamp(min=0)
            self.hidden = scores.hidden.gather(1, last[..., None].expand(-1, -1, scores.hidden.shape[2])).squeeze(1)


@dataclass(frozen=True)
class Limits:
    """When a row stops: at an EOS token (which is emitted), after `max_new_tokens`, or when a transformers stopping criterion says so.

    `criteria` are called as criterion(input_ids [1, T], None) after each emitted token, on that row's own tokens.
    """

    max_new_tokens: int = 128
    eos_token_id: int | Sequence[int] | None = None
    criteria: Sequence[Callable] | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens}: give at least 1")

    @property
    def eos_ids(self) -> list[int]:
        if self.eos_token_id is None:
            return []
        return [self.eos_token_id] if isinstance(self.eos_token_id, int) else list(self.eos_token_id)

    def check(self, rows: Sequence[Sequence[int]], context: int) -> None:
        """Raises ValueError where a prompt and the budget do not fit the context."""
        for index, row in enumerate(rows):
            if len(row) + self.max_new_tokens > context:
                raise ValueError(
                    f"prompt {index} has {len(row)} tokens and max_new_tokens is {self.max_new_tokens}, together more than the model's context of "
                    f"{context}; shorten the prompt or ask for at most {max(context - len(row), 0)} new tokens"
                )

    def start(self, state: DecodeState) -> None:
        """Gives every row its longest length."""
        state.max_lengths = [len(row) + self.max_new_tokens for row in state.rows]

    def cut(self, verdict: Verdict, draft: Draft, state: DecodeState) -> Verdict:
        """Shortens a verdict at the first EOS, at the budget or at a criterion; finished rows keep nothing.

        The last token of a shortened row becomes its bonus, so emitted = accepted + 1 holds for every live row.
        """
        emitted = verdict.emitted(draft)
        column = torch.arange(emitted.shape[1], device=emitted.device)
        room = torch.tensor([0 if done else left for done, left in zip(state.done, state.room, strict=True)], device=emitted.device)
        stop = column + 1 >= room[:, None]
        for token in self.eos_ids:
            stop |= emitted == token
        if self.criteria:
            stop |= self._criteria_met(emitted, state)
        stop &= column < verdict.counts[:, None]
        first = torch.where(stop, column, emitted.shape[1]).amin(1)
        counts = torch.minimum(verdict.counts, torch.minimum(first + 1, room))
        last = (counts - 1).clamp(min=0)[:, None]
        return replace(
            verdict,
            path=torch.where(column < counts[:, None], verdict.path, -1),
            bonus=emitted.gather(1, last).squeeze(1),
            counts=counts,
            cut=counts < verdict.counts,
            ended=(first < emitted.shape[1]) | (room == 0),
        )

    def _criteria_met(self, emitted: Tensor, state: DecodeState) -> Tensor:
        met = torch.zeros_like(emitted, dtype=torch.bool)
        for index, tokens in enumerate(emitted.tolist()):
            for end in range(1, 1 + sum(token >= 0 for token in tokens)):
                ids = torch.tensor([[*state.rows[index], *tokens[:end]]], device=emitted.device)
                if not state.done[index] and any(bool(torch.as_tensor(criterion(ids, None)).all()) for criterion in self.criteria or ()):
                    met[index, end - 1] = True
                    break
        return met
