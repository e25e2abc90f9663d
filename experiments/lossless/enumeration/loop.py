"""The whole loop, enumerated: real decode, cache, masks, drafter, sampler and verifier on table models, all randomness followed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from experiments.lossless.enumeration.branches import Branches, BranchingNoise, Keys, enumerate_distribution
from experiments.lossless.enumeration.step_distribution import Distribution, tv
from experiments.lossless.enumeration.table_model import TableLM, Weights, branching, branching_rows
from experiments.lossless.enumeration.tables import GOLDEN, GOLDEN_P, GOLDEN_Q, SMALL, Instance, Prefix, Z, golden_weights
from spec.decode import decode
from spec.interfaces import Drafter, Verifier, Wrapped
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import Limits
from spec.types import Draft, Verdict
from verifiers.recursive import Recursive

PROMPT = [2, 1, 0, 2, 1, 1, 0, 2, 1]  # repeats itself, so that lookups find something
NUM_SLOTS = 16  # of the largest draft that can be followed
MAX_BRANCHES = 60_000
MAX_PAIRS = 20_000
CERTAIN = 1 - 1e-9
AHEAD = 0  # the token that the second of two rows has more than the first


class NotFollowedError(ValueError):
    """The drafter draws random numbers that are not the step's noise, so its outcomes cannot be followed."""


class TooManyBranchesError(ValueError):
    """The distribution cannot be enumerated in reasonable time."""


def golden_model(constants: tuple[int, int, int, int], vocabulary: int = 4) -> TableLM:
    """The golden weights as a language model after PROMPT."""
    return TableLM(partial(golden_weights, constants, vocabulary=vocabulary), vocabulary, len(PROMPT))


def constant_weights(instance: Instance, which: str) -> Weights:
    """Weights of an instance whose tokens are independent; `which` is "p" or "q"."""
    row = getattr(instance, which)(())
    return lambda h: row.expand(*h.shape, -1)


def table_models(instance: Instance) -> tuple[TableLM, TableLM]:
    """Target and assistant of golden, small or Z."""
    if instance is Z:
        target, assistant = (TableLM(constant_weights(Z, which), Z.vocabulary, len(PROMPT)) for which in "pq")
        return target, assistant
    return golden_model(GOLDEN_P, instance.vocabulary), golden_model(GOLDEN_Q, instance.vocabulary)


@dataclass
class Following(Wrapped):
    """Checks whether drafted tokens with a choice were drawn through the noise."""

    others: int = 0  # tokens that were not, and that are not just the most probable ones of their distribution

    def __call__(self, p: Tensor, draft: Draft, noise: Any) -> Verdict:
        if draft.q is not None and draft.num_slots > 1 and isinstance(noise, BranchingNoise):
            used = (draft.slots > 0) & (draft.slots < draft.sizes[:, None])
            used = used if noise.live is None else used & noise.live[:, None]
            own, most = draft.q.gather(2, draft.tokens[..., None]).squeeze(2), draft.q.amax(2)
            undrawn = (used & (own < CERTAIN)).sum(1) > noise.taken()
            self.others += int((undrawn[:, None] & used & (own < most)).sum())
        return self.inner(p, draft, noise)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class TableLoop:
    """Decoding on a table model. By default: the golden instance, three tokens, temperature 1, the recursive verifier."""

    instance: Instance = GOLDEN
    length: int = 3
    eos: int | None = None
    verifier: Verifier = Recursive()  # noqa: RUF009
    sampler: Sampler | None = None
    wrap: Callable[[TableLM], CausalLM] = CausalLM

    @property
    def keys(self) -> Keys:
        return Keys(NUM_SLOTS, self.length, len(PROMPT) - 1)

    def distribution(
        self, make_drafter: Callable[[TableLM], Drafter], batch: int = 4000, kept: list[tuple[Tensor, Tensor]] | None = None
    ) -> Distribution:
        """The distribution of what the loop emits within `length` tokens, with a drafter that is made anew for every batch from the small model.

        A drafter whose drafts depend on the other rows of a batch can be followed with batch=1 only. `kept` collects the scripts of every batch and
        what they led to. Raises TooManyBranchesError where it takes too long, NotFollowedError where tokens are drawn by other means.
        """
        run, rows, following = self._runner(make_drafter), 0, Following(self.verifier)

        def counted(branches: Branches) -> Tensor:
            nonlocal rows
            rows += len(branches)
            if rows > MAX_BRANCHES:
                raise TooManyBranchesError(f"more than {MAX_BRANCHES} outcomes; give the drafter fewer tokens")
            outcomes = run(branches, following)
            if kept is not None:
                kept.append((branches.scripts, outcomes))
            return outcomes

        distribution = enumerate_distribution(counted, self.keys, batch=batch)
        if following.others:
            raise NotFollowedError("its tokens do not come from the step's noise, so their chances cannot be followed")
        return distribution

    def _runner(self, make_drafter: Callable[[TableLM], Drafter]) -> Callable[[Branches, Any], Tensor]:
        """What a batch of scripts leads to under a verifier; [B, length], -1 after the end."""
        table, assistant = table_models(self.instance)
        target, sampler = self.wrap(table), self.sampler or Sampler()

        def run(branches: Branches, verifier: Any) -> Tensor:
            limits, prompts = Limits(max_new_tokens=self.length, eos_token_id=self.eos), [PROMPT] * len(branches)
            drafter = make_drafter(assistant)
            generation = decode(target, drafter, verifier, prompts, sampler=branching(sampler, branches), limits=limits, allow_lossy=True)
            emitted = [sequence[len(PROMPT) :] for sequence in generation.sequences]
            return torch.stack([pad(tokens, (0, self.length - len(tokens)), value=-1) for tokens in emitted])

        return run

    def alone_otherwise(self, make_drafter: Callable[[TableLM], Drafter], kept: list[tuple[Tensor, Tensor]], most: int) -> bool:
        """Whether any of `most` scripts, chosen evenly from those that `distribution` kept, leads to something else in a batch of its own."""
        run, scripts, outcomes = self._runner(make_drafter), *(torch.cat(parts) for parts in zip(*kept, strict=True))
        origin, weight = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
        for index in range(0, len(scripts), max(len(scripts) // most, 1)):
            branches = Branches(self.keys, origin, scripts[index : index + 1].clone(), weight.clone())
            if not torch.equal(run(branches, self.verifier)[0], outcomes[index]):
                return True
        return False

    def target_distribution(self, start: Prefix = ()) -> Distribution:
        """The target's own distribution of the first `length` tokens after the prompt and `start`, cut after the first EOS."""
        sampler, table, distribution = self.sampler or Sampler(), table_models(self.instance)[0], {}

        def p(prefix: Prefix) -> Tensor:
            h = torch.tensor([[table.h_after((*start, *prefix))]], dtype=torch.float64)
            return sampler.distribution(table.weights(h).log(), lambda row, slot: [*PROMPT, *start, *prefix])[0, 0]

        def extend(prefix: Prefix, mass: float) -> None:
            if mass == 0:
                return
            if len(prefix) == self.length or (prefix and prefix[-1] == self.eos):
                distribution[prefix] = mass
                return
            for token, share in enumerate(p(prefix).tolist()):
                extend((*prefix, token), mass * share)

        extend((), 1.0)
        return distribution

    def pair_error(self, make_drafter: Callable[[TableLM], Drafter]) -> float:
        """Total variation between the joint distribution of two rows that are decoded together, one a token ahead, and the product of the target's
        own.

        Every outcome is decoded in a batch of its own, so a drafter may look at both rows as it likes. Raises TooManyBranchesError as `distribution`
        does.
        """
        table, assistant = table_models(self.instance)
        target, sampler, prompts, tried = self.wrap(table), self.sampler or Sampler(), (PROMPT, [*PROMPT, AHEAD]), 0

        def run(branches: Branches) -> Tensor:
            nonlocal tried
            tried += 1
            if tried > MAX_PAIRS:
                raise TooManyBranchesError(f"more than {MAX_PAIRS} outcomes of two rows; give the drafter fewer tokens")
            limits = Limits(max_new_tokens=self.length)
            sampling = branching_rows(sampler, branches, NUM_SLOTS)
            generation = decode(target, make_drafter(assistant), self.verifier, prompts, sampler=sampling, limits=limits, allow_lossy=True)
            return torch.cat([sequence[len(prompt) :] for sequence, prompt in zip(generation.sequences, prompts, strict=True)])[None]

        distribution = enumerate_distribution(run, Keys(2 * NUM_SLOTS, self.length + 1, len(PROMPT) - 1), batch=1)
        ours, ahead = self.target_distribution(), self.target_distribution((AHEAD,))
        product = {(*left, *right): mass * other for left, mass in ours.items() for right, other in ahead.items()}
        return max(tv(distribution, product), abs(sum(distribution.values()) - 1))

    def error(self, make_drafter: Callable[[TableLM], Drafter], batch: int = 4000, kept: list[tuple[Tensor, Tensor]] | None = None) -> float:
        """Total variation between what the loop emits and what the target would; a distribution that does not sum to 1 counts too. `kept` as in
        `distribution`."""
        distribution = self.distribution(make_drafter, batch, kept)
        return max(tv(distribution, self.target_distribution()), abs(sum(distribution.values()) - 1))


PAIR, SHORT = TableLoop(SMALL, 2), TableLoop(SMALL, 3)
LOOPS = (SHORT, TableLoop(Z, 3), TableLoop(eos=2), TableLoop(), TableLoop(SMALL, 4))  # what takes long comes last
