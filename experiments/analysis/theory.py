"""What one drafted chain can gain: acceptance, expected tokens, walltime, survival by position, and what a forward over many tokens costs.

Sources: Leviathan et al., arXiv 2211.17192 (acceptance, tokens per step, walltime, operations); Sun et al., 2403.10444 (block verification);
Daliri et al., 2408.07978 (Gumbel coupling); Fu et al., 2402.02057 (lookahead's scaling law). Rules with several siblings: `theory_siblings`.
Letters: p the target's law, q the drafter's, a the acceptance of one token, g drafted tokens, tau accepted ones; a step emits tau + 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

Law = Callable[[tuple[int, ...]], Tensor]  # prefix -> law of the next token, float64 [V]
Weights = Callable[[Tensor, Tensor], Tensor]  # probabilities of a chain's tokens, p and q [..., g] -> [..., g]


def acceptance(p: Tensor, q: Tensor) -> Tensor:
    """sum_x min(p(x), q(x)) = 1 - TV(p, q); p, q [..., V] -> [...]. 2211.17192, theorem 3.5."""
    return torch.minimum(p, q).sum(-1)


def gumbel_match(p: Tensor, q: Tensor) -> Tensor:
    """Probability that argmax(log p + g) = argmax(log q + g) for the same Gumbel noise g; p, q [..., V] -> [...]. 2408.07978.

    sum_j 1 / sum_i max(p_i / p_j, q_i / q_j), in O(V log V): with tokens in falling order of p / q the maximum is p_i / p_j before j, else q_i / q_j.
    """
    order = torch.where(q > 0, p / q, torch.where(p > 0, math.inf, 0.0)).argsort(-1, descending=True)
    p, q = p.gather(-1, order), q.gather(-1, order)
    before = (p.cumsum(-1) - p) / p
    behind = q.flip(-1).cumsum(-1).flip(-1) / q
    return torch.where((p > 0) & (q > 0), 1 / (before + behind), 0.0).sum(-1)


def expected_tokens(acceptance: float, num_tokens: int) -> float:
    """Tokens per step (1 - a^(g+1)) / (1 - a) if every token is accepted with the same probability; g + 1 at a = 1. 2211.17192, equation (1)."""
    _check(acceptance, num_tokens)
    return math.fsum(acceptance**i for i in range(num_tokens + 1))


def walltime_gain(acceptance: float, num_tokens: int, draft_cost: float, verify_cost: float = 1.0) -> float:
    """Expected speedup over plain decoding, E / (g c + v). 2211.17192, theorem 3.8, which has v = 1.

    `draft_cost` c is one forward of the drafter and `verify_cost` v the target's over g + 1 tokens, both in units of the target's over one token.
    """
    if draft_cost < 0 or verify_cost <= 0:
        raise ValueError(f"draft_cost={draft_cost}, verify_cost={verify_cost}: give draft_cost >= 0 and verify_cost > 0, in target forwards")
    return expected_tokens(acceptance, num_tokens) / (num_tokens * draft_cost + verify_cost)


def best_num_tokens(acceptance: float, draft_cost: float, verify_cost: Callable[[int], float] | None = None, limit: int = 64) -> int:
    """The g in 0 ... limit with the largest walltime gain, the smallest such g; 0 means that drafting does not pay.

    `verify_cost` gives v for the number of tokens in the forward (default 1 for all). At v = 1 some g pays iff a > c: 2211.17192, corollary 3.9.
    """

    def gain(num_tokens: int) -> float:
        return walltime_gain(acceptance, num_tokens, draft_cost, 1.0 if verify_cost is None else verify_cost(num_tokens + 1))

    return max(range(limit + 1), key=gain)


def operations_factor(acceptance: float, num_tokens: int, draft_operations: float) -> float:
    """Arithmetic per emitted token over that of plain decoding, (g c' + g + 1) / E. 2211.17192, theorem 3.11.

    `draft_operations` c' are the drafter's operations per token over the target's.
    """
    return (num_tokens * draft_operations + num_tokens + 1) / expected_tokens(acceptance, num_tokens)


def token_weights(p: Tensor, q: Tensor) -> Tensor:
    """prod_(j <= i) min(1, p_j / q_j) from the probabilities of a chain's tokens, p, q [..., g]: chance that token-level tests keep i tokens.

    The mean over chains drawn from q, of this as of the two below, is a survival P(tau >= i); 1 + its sum over i is tokens per step.
    """
    return (p / q).clamp(max=1).cumprod(-1)


def block_weights(p: Tensor, q: Tensor) -> Tensor:
    """r_i = min(1, r_(i-1) p_i / q_i), r_0 = 1; p, q [..., g]. Block verification keeps i tokens with probability E_q[r_i]. 2403.10444."""
    weights, current = [], torch.ones_like(p[..., 0])
    for ratio in (p / q).unbind(-1):
        current = (current * ratio).clamp(max=1)
        weights.append(current)
    return torch.stack(weights, -1)


def prefix_weights(p: Tensor, q: Tensor) -> Tensor:
    """min(1, prod_(j <= i) p_j / q_j); p, q [..., g]. Its mean over q is 1 - TV(P^i, Q^i) of the joint laws, which bounds any P(tau >= i)."""
    return (p / q).cumprod(-1).clamp(max=1)


def survival(p: Law, q: Law, num_tokens: int, weights: Weights = token_weights) -> Tensor:
    """P(tau >= i) for i = 1 ... g, exactly, by enumerating every chain that q can draw; [g]. For tables only: V^g chains."""
    vocabulary = len(p(()))
    chains = list(product(range(vocabulary), repeat=num_tokens))
    chosen = [torch.stack([torch.stack([law(x[:i])[x[i]] for i in range(num_tokens)]) for x in chains]) for law in (p, q)]
    mass = chosen[1].prod(-1)
    drawn = mass > 0
    return (mass[drawn, None] * weights(chosen[0][drawn], chosen[1][drawn])).sum(0)


def lookahead_tokens(acceptance: float, num_guesses: int, guess_length: int) -> float:
    """Tokens per step with b independent guesses of length g: (g + 1) - sum_(i=1..g) (1 - a^i)^b. 2402.02057, section 4.

    The best of b chains reaches depth i unless all b fail before it. At b = 1 it is `expected_tokens`.
    """
    _check(acceptance, guess_length)
    return guess_length + 1 - math.fsum((1 - acceptance**i) ** num_guesses for i in range(1, guess_length + 1))


def step_compression(tokens_per_hit: float, hit_every: float) -> float:
    """Tokens per step (f - 1 + E) / f if one step in f has a useful guess and then emits E tokens. 2402.02057, section 4."""
    return (hit_every - 1 + tokens_per_hit) / hit_every


@dataclass(frozen=True)
class Roofline:
    """What bounds a forward: bytes to be read or operations to be done, whichever takes longer (launch overhead is left out).

    Defaults: 8 billion parameters in bf16 with 8 key-value heads of 128 in 32 layers, on a device of 989 Tflop/s and 3.35 TB/s.
    """

    parameters: float = 8.03e9
    bytes_per_parameter: float = 2.0
    kv_bytes: float = 131072.0  # per cached position
    operations_per_second: float = 989e12
    bytes_per_second: float = 3.35e12
    efficiency: float = 0.6  # share of the peak operations that is reached

    @property
    def ridge_tokens(self) -> float:
        """Tokens B T per forward at which arithmetic at its peak takes as long as reading the weights."""
        return self.operations_per_second / self.bytes_per_second * self.bytes_per_parameter / 2

    def seconds(self, num_tokens: int, batch: int = 1, context: int = 0) -> float:
        """A forward over T new tokens in each of B rows that have `context` positions cached: 2 operations per parameter and token."""
        moved = self.parameters * self.bytes_per_parameter + batch * context * self.kv_bytes
        operations = 2 * self.parameters * batch * num_tokens
        return max(moved / self.bytes_per_second, operations / (self.efficiency * self.operations_per_second))

    def verify_cost(self, num_tokens: int, batch: int = 1, context: int = 0) -> float:
        """`seconds` in units of a forward over one token per row: the v of `walltime_gain`."""
        return self.seconds(num_tokens, batch, context) / self.seconds(1, batch, context)


def distinct_experts(num_experts: int, per_token: int, num_tokens: int) -> float:
    """Experts that T tokens touch in a layer if each picks k of E uniformly and independently: E (1 - (1 - k / E)^T).

    Verifying T tokens of a mixture of experts reads that many experts' weights, where one token reads k. Real routing is less even: an upper bound.
    """
    if not 1 <= per_token <= num_experts:
        raise ValueError(f"per_token={per_token}: give 1 to num_experts={num_experts}")
    return num_experts * (1 - (1 - per_token / num_experts) ** num_tokens)


def _check(acceptance: float, num_tokens: int) -> None:
    if not 0 <= acceptance <= 1 or num_tokens < 0:
        raise ValueError(f"acceptance={acceptance}, num_tokens={num_tokens}: give an acceptance in [0, 1] and at least 0 tokens")
