"""How often one of K siblings at one node is accepted: the optimum by optimal transport, and what each rule reaches.

p and q are float64 rows [V], the target's distribution and the distribution that siblings are drawn from; K-fold, independently or without
replacement. All results are floats in [0, 1]; 1 + them is the tokens per step of a tree of depth one. Where q runs out of tokens before K, fewer are
drafted.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_TUPLES = 20_000_000


def acceptance(p: Tensor, q: Tensor) -> float:
    """Of a single draft: sum_x min(p(x), q(x)) = 1 - TV(p, q). Leviathan et al., arXiv 2211.17192, theorem 3.5."""
    return float(torch.minimum(p, q).sum())


def transport_bound(p: Tensor, q: Tensor, num_siblings: int, replacement: bool = True) -> float:
    """The largest probability with which any exact rule can emit one of the drafted tokens: min over token sets H of p(H) + 1 - Pr(drafts in H).

    The dual of optimal transport with membership cost (Sun et al., arXiv 2310.15141; in subset form Hu et al., 2502.18779). The minimising H is a
    prefix of the tokens in falling order of q / p, so independent drafts cost O(V log V), and K without replacement O(V^(K-1)).
    """
    _check(p, q, num_siblings)
    order = torch.where(p > 0, q / p, math.inf).argsort(descending=True)
    order = order[q[order] > 0]
    p, q = p[order], q[order]
    inside = q.cumsum(0).clamp(max=1) ** num_siblings if replacement else _all_inside(q, min(num_siblings, len(q)))
    return min(1.0, float((p.cumsum(0) + 1 - inside).min()))


def _all_inside(q: Tensor, num_siblings: int) -> Tensor:
    """Pr(all drafts without replacement are among the first n tokens) for n = 1 ... V; [V]."""
    if len(q) ** (num_siblings - 1) > MAX_TUPLES:
        raise ValueError(f"{num_siblings} siblings of {len(q)} tokens without replacement are too many tuples; give fewer, or replacement=True")
    weights, taken = torch.ones(1, dtype=q.dtype), torch.zeros(1, dtype=q.dtype)
    last, used = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 0, dtype=torch.int64)
    tokens = torch.arange(len(q))
    for _ in range(num_siblings - 1):
        free = (used[:, None, :] != tokens[:, None]).all(-1)
        row, token = free.nonzero(as_tuple=True)
        weights = weights[row] * q[token] / (1 - taken[row])
        taken, last, used = taken[row] + q[token], torch.maximum(last[row], token), torch.cat([used[row], token[:, None]], 1)
    remaining = 1 - taken
    chances = torch.zeros_like(q).index_add_(0, last, weights / remaining).cumsum(0)
    spent = torch.zeros_like(q).index_add_(0, last, weights * taken / remaining).cumsum(0)
    inside = q.cumsum(0) * chances - spent
    inside[: num_siblings - 1] = 0.0
    inside[-1] = 1.0
    return inside


@dataclass(frozen=True)
class KSeq:
    """K-SEQ at one node: every draft is accepted with min(1, p / (rho q)); `beta` is the chance of a single one."""

    rho: float
    beta: float
    acceptance: float


def kseq(p: Tensor, q: Tensor, num_siblings: int) -> KSeq:
    """K-SEQ of SpecTr (arXiv 2310.15141) for K independent drafts: rho in [1, K] solves 1 - (1 - beta)^K = rho beta, beta = sum min(q, p / rho).

    The left side less the right one falls in rho, so it is found by bisection. Acceptance is at least 1 - (1 - 1 / K)^K of the optimum.
    """
    _check(p, q, num_siblings)

    def beta(rho: float) -> float:
        return min(1.0, float(torch.minimum(q, p / rho).sum()))

    def accepted(rho: float) -> float:
        return 1 - (1 - beta(rho)) ** num_siblings

    low, high = 1.0, float(num_siblings)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if accepted(middle) > middle * beta(middle) else (low, middle)
    rho = low if accepted(1.0) > beta(1.0) else 1.0
    return KSeq(rho, beta(rho), accepted(rho))


def recursive_acceptance(p: Tensor, q: Tensor, num_siblings: int, replacement: bool = True) -> float:
    """Recursive rejection: each sibling is tested against what the earlier ones left of p (SpecInfer, arXiv 2305.09781; Yang et al., 2401.06706).

    Independent: 1 - prod_j (1 - alpha_j), alpha_j = sum min(p_j, q). Without replacement (Jeon et al., 2402.14160) q_j depends on which tokens were
    rejected: all V^(K-1) orders are followed.
    """
    _check(p, q, num_siblings)
    left, offered, reach = p[None], q[None], torch.ones(1, dtype=p.dtype)
    accepted = 0.0
    for rank in range(num_siblings):
        overlap = torch.minimum(left, offered)
        accepted += float(reach @ overlap.sum(-1))
        if rank == num_siblings - 1:
            break
        rejected, left = reach[:, None] * (offered - overlap), _normalised((left - offered).clamp(min=0))
        if replacement:
            reach = rejected.sum(-1)
            continue
        row, token = (rejected > 0).nonzero(as_tuple=True)
        if len(row) * len(p) > MAX_TUPLES:
            raise ValueError(f"{num_siblings} siblings of {len(p)} tokens without replacement are too many orders; give fewer, or replacement=True")
        reach, left = rejected[row, token], left[row]
        offered = _normalised(offered[row].scatter(1, token[:, None], 0.0))
    return min(1.0, accepted)


def greedy_acceptance(p: Tensor, q: Tensor, num_siblings: int) -> float:
    """Greedy multi-draft (Hu et al., arXiv 2502.18779): p(T) + sum outside T of min(p, r), T the K - 1 likeliest tokens, r = q outside T, normalised.

    T is certain to be drafted and the last sibling is drawn from r; optimal for that way of drafting. Ties: the lowest id is likelier.
    """
    _check(p, q, num_siblings)
    top = q.sort(descending=True, stable=True).indices[: num_siblings - 1]
    top = top[q[top] > 0]
    rest = _normalised(q.scatter(0, top, 0.0)[None])[0]
    return min(1.0, float(p[top].sum() + torch.minimum(p.scatter(0, top, 0.0), rest).sum()))


def _normalised(rows: Tensor) -> Tensor:
    """Rows [N, V] scaled to sum 1; zero where there is no mass."""
    mass = rows.sum(-1, keepdim=True)
    return torch.where(mass > 0, rows / mass, 0.0)


def _check(p: Tensor, q: Tensor, num_siblings: int) -> None:
    if p.ndim != 1 or p.shape != q.shape or num_siblings < 1:
        raise ValueError(
            f"p {tuple(p.shape)}, q {tuple(q.shape)}, num_siblings={num_siblings}: give two rows of one vocabulary and at least one sibling"
        )
