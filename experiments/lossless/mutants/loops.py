"""Loops that are wrong in one place outside the verifier: processors, declared distributions, noise keys, masks, positions, cache. All on table
models."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

import spec.masks as masks
from drafters.draft_model import DraftModel
from experiments.lossless.enumeration.loop import PROMPT, table_models
from experiments.lossless.enumeration.tables import GOLDEN
from experiments.lossless.mutants.chains import SoftArgmax
from experiments.lossless.mutants.choosing import LooksAtTheDraft
from experiments.lossless.subject import Subject
from spec.cache import KVCache
from spec.interfaces import Drafter, Verifier
from spec.model import CausalLM
from spec.noise import Purpose, StepNoise
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.tree import children
from spec.types import Draft
from verifiers.block import Block
from verifiers.recursive import Recursive


class LogPenalty:
    """A processor that doubles the log-probability of every token the answer holds already."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        answer = input_ids[:, len(PROMPT) :]
        scores = scores.log_softmax(-1)
        return scores.scatter(1, answer, 2 * scores.gather(1, answer))


class CommittedOnly(Sampler):
    """P1: processors are shown the committed tokens, whichever slot they judge."""

    def distribution(self, logits: Tensor, contexts: Callable[[int, int], list[int]] | None = None) -> Tensor:
        return super().distribution(logits, None if contexts is None else lambda row, slot: contexts(row, 0))


class Filtered(DraftModel):
    """P2: draws from the two most probable tokens, declares the distribution before the filter."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        self.raw: list[Tensor] = []
        draft = super().propose(state, sampler)
        return Draft.chain(draft.tokens, draft.sizes, torch.stack([torch.zeros_like(self.raw[0]), *self.raw], 1)) if self.raw else draft

    def _next_distribution(self, *args: Any) -> Tensor:
        distribution = super()._next_distribution(*args)
        self.raw.append(distribution)
        kept = torch.where(distribution >= distribution.topk(2).values[:, -1:], distribution, 0.0)
        return kept / kept.sum(-1, keepdim=True)


class Tempered(DraftModel):
    """M9 in the loop: draws at temperature 1, declares temperature 1/2."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        draft = super().propose(state, sampler)
        if draft.q is None:
            return draft
        squared = draft.q**2
        return Draft.chain(draft.tokens, draft.sizes, squared / squared.sum(-1, keepdim=True).clamp(min=1e-300))


class Colliding(Drafter):
    """N2: draws its token with the number that will judge it."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        rows, root = [tuple(row[len(PROMPT) :]) for row in state.rows], torch.tensor(state.roots)
        sizes = torch.tensor([1 + (room > 1) for room in state.room])
        distribution = torch.stack([GOLDEN.q(row) for row in rows])
        distribution = torch.where(sizes[:, None] > 1, distribution, torch.eye(len(distribution[0]), dtype=distribution.dtype)[0])
        token = sampler.noise(state).categorical(distribution, Purpose.ACCEPT, torch.ones_like(root))
        return Draft.chain(torch.stack([root, token], 1), sizes, torch.stack([torch.zeros_like(distribution), distribution], 1))


@dataclass(frozen=True)
class AbsoluteNoise:
    """Noise keyed by absolute positions: what a rejected block was judged by serves the next step again."""

    inner: Any  # StepNoise, or its branching stand-in

    def bernoulli(self, prob: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        columns = [self._at(slots[:, k]).bernoulli(prob[:, k], purpose, torch.zeros_like(slots[:, k])) for k in range(slots.shape[1])]
        return torch.stack(columns, 1)

    def categorical(self, distribution: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        return self._at(slots).categorical(distribution, purpose, torch.zeros_like(slots))

    def _at(self, slots: Tensor) -> Any:
        positions = self.inner.root_positions + slots
        return StepNoise(self.inner.rows, positions) if isinstance(self.inner, StepNoise) else replace(self.inner, root_positions=positions)


class AbsoluteKeys:
    """N1: a verifier that keys its numbers by absolute position; wraps a right one."""

    exact: ClassVar[bool] = True

    def __init__(self, inner: Verifier):
        self.inner = inner

    def __call__(self, p: Tensor, draft: Draft, noise: Any):
        return self.inner(p, draft, AbsoluteNoise(noise))  # pyright: ignore[reportArgumentType]


class Bushy(Drafter):
    """A right drafter, to move slots in the cache: a fixed tree in which the second branch is often the one that is kept."""

    tokens, parents = (1, 2, 2, 1, 2), (-1, 0, 0, 1, 2, 4)
    used = (1, 3, 5, 6)  # slots that are used with room for 1, 2, 3, 4 tokens

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        tokens = torch.tensor([[root, *self.tokens] for root in state.roots])
        sizes = torch.tensor([self.used[min(max(room, 1), 4) - 1] for room in state.room])
        return Draft(tokens, torch.tensor(self.parents).expand(len(tokens), -1), sizes)


class SiblingsVisible(CausalLM):
    """K1: a slot sees its siblings, and its ancestors' siblings."""

    def _additive_mask(self, draft: Draft, cache: KVCache, num_scored: int) -> Tensor:
        family = children(draft.parents, draft.sizes).clamp(min=0)  # [B, R, N]
        beside = torch.zeros(*draft.tokens.shape, draft.num_slots, dtype=torch.bool)
        own = family.transpose(1, 2).gather(1, draft.parents.clamp(min=0)[..., None].expand(-1, -1, family.shape[1]))
        beside.scatter_(2, own, True)
        seen = draft.ancestors | ((draft.ancestors.float() @ beside.float()) > 0)
        lowest = torch.finfo(self.dtype).min
        bias = torch.full(seen.shape, lowest, dtype=self.dtype).masked_fill(seen, 0.0)[:, None, num_scored:]
        return masks.behind_prefix(bias, cache.starts() - num_scored, cache.longest + bias.shape[2])


class PackedPositions(CausalLM):
    """K2: a slot's index in the draft serves as its depth."""

    def _unpadded(self, draft: Draft, *rest: Any) -> tuple[Tensor, Tensor | None]:
        self.masked = draft
        return super()._unpadded(Draft.chain(draft.tokens), *rest)

    def _additive_mask(self, draft: Draft, cache: KVCache, num_scored: int) -> Tensor:
        return super()._additive_mask(self.masked, cache, num_scored)


class PlainCausal(CausalLM):
    """K3: every slot sees all slots before it."""

    def _additive_mask(self, draft: Draft, cache: KVCache, num_scored: int) -> Tensor:
        return super()._additive_mask(Draft.chain(draft.tokens), cache, num_scored)


class Cropping(KVCache):
    """K4: keeps the first slots, not those of the path."""

    def keep(self, counts: list[int], path: Tensor | None = None) -> None:
        super().keep(counts, None)


class Cropped(CausalLM):
    """K4: a target with such a cache."""

    def new_cache(self, num_rows: int, capacity: int) -> KVCache:
        return Cropping(self.config.num_hidden_layers, num_rows, capacity, self.device)


@dataclass(frozen=True)
class LoopMutant:
    """A wrong loop; the defaults are right."""

    name: str
    drafter: Callable[[Any], Drafter] = lambda assistant: DraftModel(model=assistant, num_tokens=2)
    verifier: Verifier = Recursive()  # noqa: RUF009
    sampler: Callable[[], Sampler] = Sampler
    wrap: Callable[[Any], CausalLM] = CausalLM

    def subject(self) -> Subject:
        target, assistant = table_models(GOLDEN)
        prompts = [PROMPT, PROMPT[:-1], PROMPT[2:]]
        return Subject(self.wrap(target), lambda model=assistant: self.drafter(model), self.verifier, self.sampler(), prompts, self.wrap)


def penalised(kind: type[Sampler]) -> Sampler:
    return kind(processors=[LogPenalty()])


LOOP_MUTANTS = (
    LoopMutant("M8 argmax declared soft, in the loop", lambda assistant: SoftArgmax(model=assistant, num_tokens=2)),
    LoopMutant("M9 declared at another temperature, in the loop", lambda assistant: Tempered(model=assistant, num_tokens=2)),
    LoopMutant("N1 block noise keyed by absolute position", verifier=AbsoluteKeys(Block())),  # pyright: ignore[reportArgumentType]
    LoopMutant("N2 drawn with the number that judges it", lambda assistant: Colliding()),
    LoopMutant("P1 processors see the committed prefix only", sampler=lambda: penalised(CommittedOnly)),
    LoopMutant("P2 filtered draft, raw distribution declared", lambda assistant: Filtered(model=assistant, num_tokens=2)),
    LoopMutant("K1 siblings see each other", lambda assistant: Bushy(), wrap=SiblingsVisible),
    LoopMutant("K2 slot index taken for depth", lambda assistant: Bushy(), wrap=PackedPositions),
    LoopMutant("K3 plain causal mask", lambda assistant: Bushy(), wrap=PlainCausal),
    LoopMutant("A1 length chosen by the tokens drafted", lambda assistant: LooksAtTheDraft(model=assistant)),
    LoopMutant("K4 cache cropped, not gathered", lambda assistant: Bushy(), wrap=Cropped),
)
RIGHT = (
    LoopMutant("draft_model"),
    LoopMutant("block", verifier=Block()),
    LoopMutant("tree", lambda assistant: Bushy()),
    LoopMutant("penalty", sampler=lambda: penalised(Sampler)),
)
