"""What has been decided so far (`DecodeState`) and when to stop (`Limits`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor
from transformers.generation import stopping_criteria as stops

from spec.arguments import callables, one_or_more, shown, whole
from spec.cache import KVCache
from spec.tree import on_device
from spec.types import Draft, Scores, Verdict

Entry = TypeVar("Entry")
_PLACE_FREE = (stops.EosTokenCriteria, stops.MaxLengthCriteria, stops.MaxTimeCriteria, stops.StopStringCriteria)  # judge each row alike


@dataclass
class DecodeState:
    """The committed tokens of every row, on the host, and the target's cache, on the device."""

    rows: list[list[int]]  # committed tokens, prompt included
    cache: KVCache
    sequence_ids: Tensor  # [B] noise keys, on the host
    context: int  # positions that the target has
    max_lengths: list[int] = field(default_factory=list)  # longest each row may become
    hidden: Tensor | None = None  # [B, H] the target's last hidden state before the root, where a drafter needs it
    fresh: list[list[int]] = field(default_factory=list)  # tokens that the last step emitted
    padding: Sequence[Sequence[int]] = ()  # left padding per prompt, which only processors and criteria see
    prompt_of: list[int] = field(default_factory=list)  # which prompt each row continues
    num_prompts: int = 0  # of the whole decode, those that wait or are done included; default: as many as there are rows

    def __post_init__(self) -> None:
        self.prompt_lengths = [len(row) for row in self.rows]
        self.done = [False] * len(self.rows)
        self.max_lengths = self.max_lengths or [self.context] * len(self.rows)
        self.prompt_of = self.prompt_of or list(range(len(self.rows)))
        self.num_prompts = self.num_prompts or len(self.rows)

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

    def seen(self, row: int) -> list[int]:
        """A row as logits processors and stopping criteria see it: its left padding, where `generate` had one, and its tokens."""
        return [*self.padding[self.prompt_of[row]], *self.rows[row]] if self.padding else self.rows[row]

    def root_positions(self) -> Tensor:
        """Absolute position of each root, [B]."""
        return on_device([len(row) - 1 for row in self.rows], self.device)

    def commit(self, draft: Draft, verdict: Verdict, scores: Scores) -> None:
        """Appends what the verdict emits, keeps its path in the cache and marks finished rows."""
        assert verdict.tokens is not None
        assert verdict.ended is not None
        self.fresh = verdict.tokens
        for row, tokens in zip(self.rows, self.fresh, strict=True):
            row.extend(tokens)
        counts = [len(tokens) for tokens in self.fresh]
        self.cache.keep(counts, None if verdict.in_place else verdict.path[:, : max(counts)])
        self.done = verdict.ended
        if scores.hidden is not None:
            last = verdict.path.gather(1, (verdict.counts - 1).clamp(min=0)[:, None]).clamp(min=0)
            self.hidden = scores.hidden.gather(1, last[..., None].expand(-1, -1, scores.hidden.shape[2])).squeeze(1)

    def rearrange(self, origin: Sequence[int | None], newcomers: "DecodeState | None" = None) -> None:
        """Row i takes over row origin[i], or the next row of `newcomers` where that is None; all other old rows are dropped."""
        joining = iter(range(self.num_rows, self.num_rows + len(origin)))
        source = [next(joining) if old is None else old for old in origin]  # newcomers are numbered after the old rows
        parts = [self] if newcomers is None else [self, newcomers]
        for name in ("rows", "done", "max_lengths", "prompt_lengths", "prompt_of"):
            both = [entry for part in parts for entry in getattr(part, name)]
            setattr(self, name, [both[row] for row in source])
        fresh = [*self.fresh, *[[] for _ in origin]]  # newcomers have emitted nothing
        self.fresh = [fresh[row] for row in source]
        self.sequence_ids = torch.cat([part.sequence_ids for part in parts])[source]
        if self.hidden is not None:
            self.hidden = torch.cat([part.hidden for part in parts if part.hidden is not None])[source]
        self.cache.rearrange(origin, None if newcomers is None else newcomers.cache)


def carried(entries: Sequence[Entry], origin: Sequence[int | None], newcomer: Callable[[int], Entry]) -> list[Entry]:
    """What a drafter keeps for each row, after rows have changed: the entry of row origin[i], and newcomer(i) where that is None."""
    return [newcomer(row) if old is None else entries[old] for row, old in enumerate(origin)]


@dataclass(frozen=True)
class Limits:
    """When a row stops: at an EOS token (which is emitted), after `max_new_tokens`, or when a transformers stopping criterion says so.

    `criteria` are called as criterion(input_ids [prompts, T], None) after each emitted token of a row. All rows of input_ids repeat that row's own
    tokens. Of the answer [prompts] only the place of the row's prompt counts; a single truth value counts as it is. So a criterion may depend on the
    row it judges, but does not see the others. `padding` is used by `spec.generate` only: the left padding of each row, shown to criteria and
    prefix-reading processors as `generate` would. Raises ValueError for numbers that are not whole.
    """

    max_new_tokens: int = 128
    eos_token_id: int | Sequence[int] | None = None
    criteria: Sequence[Callable] | None = None
    padding: Sequence[Sequence[int]] = ()
    eos_ids: list[int] = field(init=False, repr=False, compare=False)  # `eos_token_id` as a list

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_new_tokens", whole("max_new_tokens", self.max_new_tokens, "at least 1, a whole number", 1))
        callables("criteria", self.criteria)
        object.__setattr__(self, "eos_ids", one_or_more("eos_token_id", self.eos_token_id, "token ids, one or a list of them"))

    def shown(self, rows: Sequence[Sequence[int]], index: int) -> list[int]:
        """A prompt with its left padding: what logits processors are shown first."""
        return [*(self.padding[index] if self.padding else ()), *rows[index]]

    def check(self, rows: Sequence[Sequence[int]], context: int) -> None:
        """Raises ValueError where a prompt and the budget do not fit the context."""
        for index, row in enumerate(rows):
            if len(row) + self.max_new_tokens > context + 1:  # the last token takes no position: nothing is scored after it
                raise ValueError(
                    f"prompt {index} has {len(row)} tokens and max_new_tokens is {self.max_new_tokens}, which does not fit the context of {context} "
                    f"that target and drafter have; shorten the prompt or ask for at most {max(context + 1 - len(row), 0)} new tokens"
                )

    def start(self, state: DecodeState) -> None:
        """Gives every row its longest length."""
        state.padding = self.padding
        state.max_lengths = [len(row) + self.max_new_tokens for row in state.rows]

    def cut(self, verdict: Verdict, draft: Draft, state: DecodeState) -> Verdict:
        """Shortens a verdict at the first EOS, at the budget or at a criterion; finished rows keep nothing.

        The last token of a shortened row becomes its bonus, so emitted = accepted + 1 holds for every live row.
        """
        host = verdict.to_host(draft)
        full = host.emitted
        room = state.room
        stops = [0 if done else self._stop(row, tokens, room[row], state) for row, (done, tokens) in enumerate(zip(state.done, full, strict=True))]
        emitted = [tokens if stop is None else tokens[:stop] for tokens, stop in zip(full, stops, strict=True)]
        cut = [len(kept) < len(tokens) for kept, tokens in zip(emitted, full, strict=True)]
        if any(cut):
            counts = on_device([len(tokens) for tokens in emitted], verdict.path.device)
            column = torch.arange(verdict.path.shape[1], device=verdict.path.device)
            bonus = on_device([tokens[-1] if tokens else -1 for tokens in emitted], verdict.path.device)
            verdict = replace(verdict, path=torch.where(column < counts[:, None], verdict.path, -1), bonus=bonus, counts=counts)
        shortened = [short and not done for short, done in zip(cut, state.done, strict=True)]
        in_place = draft.is_chain or all(path == list(range(len(path))) for path in host.paths)
        ended = [stop is not None for stop in stops]
        return replace(verdict, tokens=emitted, cut=shortened, ended=ended, in_place=in_place, drafted=host.drafted, depths=host.depths)

    def _stop(self, row: int, tokens: list[int], room: int, state: DecodeState) -> int | None:
        """How many of the tokens are emitted, the last one ending the row; None if the row goes on."""
        eos = self.eos_ids
        for count, token in enumerate(tokens, 1):
            if count >= room or token in eos or (self.criteria and self._criterion_met(row, [*state.seen(row), *tokens[:count]], state)):
                return count
        return None

    def _criterion_met(self, row: int, tokens: list[int], state: DecodeState) -> bool:
        ids = torch.tensor([tokens], device=state.device)
        return any(_says_stop(criterion, ids, state.prompt_of[row], state.num_prompts) for criterion in self.criteria or ())


def _says_stop(criterion: Callable, ids: Tensor, place: int, num_prompts: int) -> bool:
    """A criterion's answer for a row with the tokens `ids` [1, T] at a place in the batch. It may know its row, so it gets the shape of the batch."""
    num_rows = 1 if type(criterion) in _PLACE_FREE else num_prompts
    name = type(criterion).__name__
    try:
        answer = torch.as_tensor(criterion(ids.repeat(num_rows, 1), None))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{name} failed: {shown(error)}; a stopping criterion gets scores=None here, so let it judge by ids alone") from error
    if answer.numel() != 1 and answer.shape != (num_rows,):
        raise ValueError(f"{name} answered in the shape {list(answer.shape)} for {num_rows} rows; a stopping criterion gives one truth value per row")
    return bool(answer.flatten()[place if answer.numel() > 1 else 0])
