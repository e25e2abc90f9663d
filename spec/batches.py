"""Which prompts are decoded together: a finished row leaves the batch, and a waiting prompt takes its place.

This changes no row's tokens: its noise is keyed by its sequence id and its own positions, and its slots in the cache are its own. A finished row is
replaced at once, or the batch is made smaller: moving a few rows costs one copy, while a finished row that stayed would cost work in every further
forward.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from spec.arguments import whole
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.state import DecodeState, Limits


@dataclass
class Queue:
    """The prompts of one decode, which enter the batch in their order, and the tokens of each."""

    target: CausalLM
    limits: Limits
    prompts: Sequence[Sequence[int]]
    sequence_ids: Sequence[int]  # one for each prompt
    hidden: bool = False  # whether the drafter needs the target's hidden states

    def __post_init__(self) -> None:
        self.num_admitted = 0
        self.rows = [list(prompt) for prompt in self.prompts]  # per prompt: its tokens; once its row has left the batch, the new ones too

    def admit(self, count: int) -> DecodeState:
        """Prefills the next `count` prompts. The first call makes a cache with room for all that follows, later ones a small and short-lived one."""
        chosen = range(self.num_admitted, self.num_admitted + count)
        prompts = [self.prompts[number] for number in chosen]
        room = 0 if self.num_admitted else max(map(len, self.prompts)) - max(map(len, prompts)) + self.limits.max_new_tokens
        self.num_admitted += count
        ids = [self.sequence_ids[number] for number in chosen]
        state = self.target.prefill(prompts, sequence_ids=ids, hidden=self.hidden, room=room)
        state.prompt_of, state.num_prompts = list(chosen), len(self.prompts)
        self.limits.start(state)
        return state

    def turn_over(self, state: DecodeState, drafter: Drafter) -> bool:
        """Takes finished rows out of the batch and waiting prompts in; returns whether any prompt came in."""
        self.collect(state)
        origin = succession(state.done, len(self.prompts) - self.num_admitted)
        num_newcomers = origin.count(None)
        if origin:
            state.rearrange(origin, self.admit(num_newcomers) if num_newcomers else None)
            drafter.rows_changed(state, origin)
        return num_newcomers > 0

    def collect(self, state: DecodeState) -> None:
        """Remembers the tokens of finished rows."""
        for number, row, done in zip(state.prompt_of, state.rows, state.done, strict=True):
            if done:
                self.rows[number] = row


def succession(done: Sequence[bool], num_waiting: int) -> list[int | None]:
    """The old row that each place of the batch holds next; None: the next waiting prompt. If too few wait, the last rows move into the gaps."""
    num_rows = min(len(done), done.count(False) + num_waiting)
    movers = [row for row in range(num_rows, len(done)) if not done[row]]
    return [row if not done[row] else movers.pop() if movers else None for row in range(num_rows)]


def rows_at_once(batch_size: int | None, num_prompts: int) -> int:
    """The largest number of rows in the batch. Raises ValueError for what is no whole number of at least 1."""
    if batch_size is None:
        return num_prompts
    allowed = "at least 1, the prompts that are decoded at once, or leave it out to take all of them"
    return min(whole("batch_size", batch_size, allowed, 1), num_prompts)
