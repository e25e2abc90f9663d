"""The loop. Everything goes through it: every drafter, every verifier, greedy and sampling, one row or many, and the baseline (`drafters.none`)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spec.arguments import sequence_keys, shown
from spec.batches import Queue, rows_at_once
from spec.chains import match, require_chain
from spec.checks import check_draft
from spec.costs import clock_of
from spec.interfaces import Drafter, Verifier, check_pair, check_verifier, unwrapped
from spec.kept import Kept
from spec.model import CausalLM
from spec.noise import covering
from spec.sampling import Sampler
from spec.state import DecodeState, Limits
from spec.stats import Clock, GenerationStats
from spec.tree import on_device
from spec.trial import Trial, happened
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Generation:
    """What `decode` returns."""

    sequences: list[Tensor]  # one 1-D tensor of ids per prompt, in their order, prompt included
    prompt_lengths: list[int]
    stats: GenerationStats
    scores: list[Tensor] | None = None  # per prompt [new tokens, V]: processed logits that each token was drawn from, where `keep` asks for them
    logits: list[Tensor] | None = None  # the same as the model gave them

    def new_tokens(self, row: int = 0) -> list[int]:
        """The ids that were generated for one prompt."""
        return self.sequences[row][self.prompt_lengths[row] :].tolist()


@torch.inference_mode()
def decode(
    target: CausalLM,
    drafter: Drafter,
    verifier: Verifier,
    prompts: Sequence[Sequence[int] | Tensor],
    *,
    sampler: Sampler,
    limits: Limits,
    streamer: Any = None,
    allow_lossy: bool = False,
    sequence_ids: Sequence[int] | None = None,
    batch_size: int | None = None,
    keep: Sequence[str] = (),
) -> Generation:
    """Continues every prompt; with an exact verifier the output's distribution is the target's own.

    `prompts` are token ids of any lengths. `sequence_ids` key the noise (default 0, 1, ...): a row with the same id, prompt and seed comes out
    the same in any batch, so an id that is given twice gets a UserWarning under sampling. At most `batch_size` prompts are decoded at once (default:
    all); the others wait and take the places of finished rows, and if none waits the batch shrinks. `streamer`: a transformers streamer, for a single
    prompt; it gets the prompt first. `keep`: "scores" or "logits" or both, of every emitted token. Raises ValueError for input that cannot be served.
    """
    _check_roles(target, sampler, limits)
    check_pair(drafter, verifier)
    check_verifier(verifier, allow_lossy)
    rows = target.check(prompts)
    stream = _Stream(streamer, len(rows))
    kept = Kept(keep, len(rows))
    ids = sequence_keys(sequence_ids, len(rows))
    if not sampler.greedy:
        _warn_of_twins(ids)
    num_rows = rows_at_once(batch_size, len(rows))
    drafter.attach(target)
    limits.check(rows, min(target.context, drafter.traits.context or target.context))
    sampler.check(limits.shown(rows, 0), len(rows), target.vocab_size, target.device)
    loop = _Loop(target, drafter, verifier, limits, Clock(target.device), kept)
    queue = Queue(target, limits, rows, ids, loop.needs_hidden)
    state, stats = queue.admit(num_rows), GenerationStats(clock=loop.clock)
    sampler = sampler.among(state)
    drafter.reset(state)
    loop.begin(state, sampler)
    loop.clock.lap("prefill")
    stream.put(rows)
    while not all(state.done):
        live = [not done for done in state.done]
        verdict = loop.step(state, sampler)
        stats.record(verdict, live, [len(tokens) for tokens in state.fresh], state.prompt_of)
        stream.put(state.fresh[0])
        loop.clock.lap("commit")
        if any(state.done) and queue.turn_over(state, drafter):
            loop.clock.lap("prefill")
    stream.end()
    queue.collect(state)
    sequences = [torch.tensor(row) for row in queue.rows]
    return Generation(sequences, [len(prompt) for prompt in rows], stats.finish(), kept.joined("scores"), kept.joined("logits"))


@dataclass(frozen=True)
class _Loop:
    """What every step of one decode needs."""

    target: CausalLM
    drafter: Drafter
    verifier: Verifier
    limits: Limits
    clock: Clock
    kept: Kept

    @property
    def needs_hidden(self) -> bool:
        return "hidden" in self.drafter.traits.needs

    def begin(self, state: DecodeState, sampler: Sampler) -> None:
        """Measures what steps cost, if the drafter wants to know it and does not yet."""
        costs, auto = self.drafter.costs, self.drafter.auto
        if costs is not None:
            costs.serve(id(self.target.model), self.target.runtime_kind, type(unwrapped(self.verifier)).__name__, sampler.greedy)
            if costs.lacks(state.num_rows):
                judging = replace(self, verifier=unwrapped(self.verifier))
                costs.measure(state.num_rows, Trial(self.target, self.drafter, judging.judge, state, sampler), clock_of(state.device))
                self.drafter.reset(state)
        if auto is not None:
            auto.begin()

    def step(self, state: DecodeState, sampler: Sampler) -> Verdict:
        """Drafts, scores, verifies and commits: one forward of the target, and at least one token for every live row."""
        self.clock.lap("other")
        auto, room = self.drafter.auto, [0 if done else left - 1 for done, left in zip(state.done, state.room, strict=True)]
        now = clock_of(state.device) if auto is not None and state.device.type == "cpu" else None  # elsewhere a step is done later
        began = 0.0 if now is None else now()
        chosen = None if auto is None else auto.choose(state.num_rows, max(room))
        draft = self.draft(state, sampler, chosen)
        self.clock.lap("draft")
        scores = self.target.score(draft, state.cache, hidden=self.needs_hidden)
        self.clock.lap("target")
        verdict = self.limits.cut(self.judge(draft, scores.logits, state, sampler), draft, state)
        self.clock.lap("verify")
        self.kept.record(state, sampler, draft, verdict, scores.logits)
        state.commit(draft, verdict, scores)
        if chosen != 0:
            self.drafter.observe(state, draft, verdict, scores)
        if auto is not None and chosen is not None:
            auto.observe(chosen, happened(verdict, [min(chosen, most) for most in room]), None if now is None else now() - began)
        return verdict

    def judge(self, draft: Draft, logits: Tensor, state: DecodeState, sampler: Sampler) -> Verdict:
        """The verifier's verdict on a draft, given the target's logits [B, N, V]."""
        contexts, verifier = draft.contexts(state.seen), self.verifier
        if sampler.greedy and vars(type(verifier)).get("matches", False) and type(sampler).distribution is Sampler.distribution:
            if getattr(verifier, "chains_only", False):
                require_chain(draft, verifier)
            return match(sampler.best(logits, contexts), draft)
        return verifier(sampler.distribution(logits, contexts), draft, covering(sampler.noise(state), draft.num_slots))

    def draft(self, state: DecodeState, sampler: Sampler, chosen: int | None) -> Draft:
        """What is drafted: as much as was chosen, or as the drafter's settings say (None)."""
        if chosen == 0:
            return Draft.chain(on_device(state.roots, state.device)[:, None])
        if chosen is not None:
            self.drafter.take(chosen)
        draft = check_draft(self.drafter.propose(state, sampler), self.drafter, state, self.target.vocab_size)
        return draft.check_distributions(type(self.drafter).__name__)


@dataclass(frozen=True)
class _Stream:
    """A streamer for a single prompt, or None: then nothing happens."""

    streamer: Any
    num_rows: int

    def __post_init__(self) -> None:
        if self.streamer is not None and self.num_rows != 1:
            raise ValueError(f"a streamer follows one prompt, {self.num_rows} were given; leave it out or decode them one by one")

    def put(self, tokens: Sequence[Any]) -> None:
        """The prompt as a batch of one row, then the new tokens of each step."""
        if self.streamer is not None:
            self.streamer.put(torch.tensor(tokens))

    def end(self) -> None:
        if self.streamer is not None:
            self.streamer.end()


def _check_roles(target: Any, sampler: Any, limits: Any) -> None:
    """Raises ValueError for arguments that are something else, as when they change places."""
    for name, value, method, wanted in (
        ("target", target, "prefill", "CausalLM(model), then drafter, verifier and prompts"),
        ("sampler", sampler, "distribution", "Sampler(...)"),
        ("limits", limits, "cut", "Limits(max_new_tokens)"),
    ):
        if not hasattr(value, method):
            raise ValueError(f"{name}={shown(value)}: give {wanted}")


def _warn_of_twins(ids: list[int]) -> None:
    if len(set(ids)) < len(ids):
        twin = next(number for place, number in enumerate(ids) if number in ids[:place])
        warnings.warn(
            f"the sequence id {twin} is given more than once: such rows draw the same random numbers, so with equal prompts they say the same; "
            "give every row an id of its own",
            stacklevel=4,
        )
