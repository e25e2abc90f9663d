"""Drafts whose acceptance is set instead of earned, so that costs can be measured apart from a drafter's skill. Results are labelled so."""

from collections.abc import Mapping, Sequence

from drafters.draft_model import DraftModel
from drafters.none import NoDraft
from drafters.oracle import Oracle
from spec import CausalLM, Drafter, Limits, Sampler, Verifier, decode
from spec.state import DecodeState
from spec.types import Draft

Recorded = dict[int, list[int]]  # sequence id -> new tokens


def record(target: CausalLM, verifier: Verifier, prompts: Sequence[Sequence[int]], sampler: Sampler, max_new_tokens: int) -> Recorded:
    """What plain decoding makes of every prompt, by its index; one prompt at a time, so that no padding changes a sum.

    Raises ValueError under sampling, where a draft does not repeat what another run drew.
    """
    if not sampler.greedy:
        raise ValueError("acceptance can be set under sampling=greedy alone: a recorded continuation is what the target would say only there")
    found: Recorded = {}
    for index, prompt in enumerate(prompts):
        made = decode(target, NoDraft(), verifier, [prompt], sampler=sampler, limits=Limits(max_new_tokens), sequence_ids=[index])
        found[index] = made.new_tokens()
    return found


def repeated(recorded: Mapping[int, Sequence[int]], num_rows: int) -> Recorded:
    """The continuations of a batch that takes the recorded prompts in turn until it has `num_rows`."""
    return {row: list(recorded[row % len(recorded)]) for row in range(num_rows)}


class PaidOracle(Drafter):
    """Runs a draft model as it is and pays for it, then throws its draft away and proposes recorded tokens that are accepted at a set rate."""

    def __init__(self, paid: DraftModel, oracle: Oracle):
        if oracle.continuations is None:
            raise ValueError("the oracle must have recorded continuations, or its own forwards would be paid too; use record")
        self.paid, self.oracle = self.members = paid, oracle

    def attach(self, target: CausalLM) -> None:
        self.paid.attach(target)
        self.oracle.attach(target)
        self.traits = self.paid.traits

    def reset(self, state: DecodeState) -> None:
        self.paid.reset(state)
        self.oracle.reset(state)

    def rows_changed(self, state: DecodeState, origin: Sequence[int | None]) -> None:
        self.paid.rows_changed(state, origin)
        self.oracle.rows_changed(state, origin)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        made, wanted = self.paid.propose(state, sampler), self.oracle.propose(state, sampler)
        if made.num_slots < wanted.num_slots:
            raise ValueError(f"{made.num_slots - 1} tokens were paid for and {wanted.num_slots - 1} are proposed; give both the same num_tokens")
        return wanted
