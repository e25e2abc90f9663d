"""What verifiers share: the ratio of every token of a chain, the verdict once the last kept slot is known, and the greedy match."""

from collections.abc import Callable

import torch
from torch import Tensor

from spec.noise import Purpose, StepNoise
from spec.residual import over
from spec.tree import longest_path, numbers
from spec.types import Draft, Verdict


def require_chain(draft: Draft, verifier: object) -> None:
    """Raises ValueError for a draft that may branch."""
    if not draft.is_chain and draft.num_slots > 1:
        raise ValueError(
            f"{type(verifier).__name__} verifies chains and was given a draft that may branch (width={draft.width}); make it with Draft.chain, or "
            "take a verifier for trees: recursive, traversal, sample_match or coupled"
        )


def root_only(p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
    """The verdict on a draft without drafted tokens, N = 1: one token from the target."""
    slots = torch.zeros_like(draft.tokens)
    return Verdict(slots, noise.categorical(p[:, 0], Purpose.RESIDUAL, slots[:, 0]), draft.sizes)


def match(choice: Tensor, draft: Draft) -> Verdict:
    """Keeps the longest path of the draft that the target's choices follow; choice [B, N]: what the target takes after each slot."""
    if draft.num_slots == 1:
        return Verdict(draft.slots, choice[:, 0], draft.sizes)
    if draft.is_chain:
        hit = draft.tokens[:, 1:] == choice[:, :-1]
        node = (hit if draft.is_full else hit & (draft.slots[:, 1:] < draft.sizes[:, None])).cumprod(1).sum(1)
        path, counts = draft.slots_to(node)
        return Verdict(path, choice.gather(1, node[:, None]).squeeze(1), counts)
    hit = draft.tokens == choice.gather(1, draft.parents.clamp(min=0))
    path, counts = longest_path(hit if draft.is_full else hit & (draft.slots < draft.sizes[:, None]), draft.ancestors)  # equal siblings all hit
    return Verdict(path, choice.gather(1, path.gather(1, counts[:, None] - 1)).squeeze(1), counts)


def token_by_token(
    p: Tensor, draft: Draft, noise: StepNoise, odds: Callable[[Tensor], Tensor] = lambda ratio: ratio, scale: float | None = None
) -> Verdict:
    """Judges a chain, or a draft of the root alone: each token is accepted on its own, and the first rejection is corrected from (scale p - q)+.

    Leviathan et al., arXiv 2211.17192, algorithm 1. Verifiers of trees use it for chains, too: with one child per node their rules equal this one.
    `odds` turns p(x) / q(x) [B, N - 1] into the probability of acceptance; values above 1 mean certain.
    """
    if draft.num_slots == 1:
        return root_only(p, draft, noise)
    node = until_rejected(odds(chain_odds(p, draft)), draft, noise)
    return keep_chain(node, p, draft, noise, None if scale is None else torch.full_like(node, scale, dtype=p.dtype))


def chain_odds(p: Tensor, draft: Draft) -> Tensor:
    """p(x) / q(x) of every drafted token of a chain, under the distribution of its parent, the slot before it; [B, N - 1]."""
    tokens = draft.tokens[:, 1:, None]
    wanted = p[:, :-1].gather(2, tokens)
    return (wanted if draft.q is None else over(wanted, draft.q[:, 1:].gather(2, tokens))).squeeze(2)


def until_rejected(odds: Tensor, draft: Draft, noise: StepNoise) -> Tensor:
    """The last slot before the first rejection, [B], where every drafted token is accepted with probability `odds` [B, N - 1] on its own."""
    slots = draft.slots[:, 1:]
    accepted = noise.bernoulli(odds, Purpose.ACCEPT, slots)
    return (accepted if draft.is_full else accepted & (slots < draft.sizes[:, None])).cumprod(1).sum(1)


def keep_chain(node: Tensor, p: Tensor, draft: Draft, noise: StepNoise, scale: Tensor | None = None) -> Verdict:
    """Keeps a chain down to slot `node` [B] and draws what follows it.

    The token follows p if the whole chain is kept, otherwise the normalised (scale p - q)+ with q of the rejected slot; scale [B], default 1.
    """
    rows, child = numbers(len(node), p.device), node + 1
    failed, slot = child < draft.sizes, child.clamp(max=draft.num_slots - 1)
    distribution = p[rows, node]
    if scale is not None:
        distribution = distribution * scale.masked_fill(~failed, 1.0).to(distribution.dtype)[:, None]
    if draft.q is None:
        rest = distribution.scatter(1, draft.tokens.gather(1, slot[:, None]), 0.0)
    else:
        rest = (distribution - draft.q[rows, slot]).clamp_(min=0)
    # a rejection implies mass > 0 in exact arithmetic; where rounding leaves none, the distribution itself is the right answer
    left = torch.where((failed & (rest.sum(-1) > 0))[:, None], rest, distribution)
    path, counts = draft.slots_to(node)
    return Verdict(path, noise.categorical(left, Purpose.RESIDUAL, node), counts)
