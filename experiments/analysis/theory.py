"""What drafting can gain: expected tokens of a step, walltime, the best number of drafted tokens.

Sources: Leviathan et al., arXiv 2211.17192 (tokens per step, walltime); Fu et al., 2402.02057 (steps without a guess).
Letters: a the acceptance of one token, g drafted tokens; a step emits those accepted and one more.
"""

import math
from collections.abc import Callable


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


def step_compression(tokens_per_hit: float, hit_every: float) -> float:
    """Tokens per step (f - 1 + E) / f if one step in f has a useful guess and then emits E tokens. 2402.02057, section 4."""
    return (hit_every - 1 + tokens_per_hit) / hit_every


def _check(acceptance: float, num_tokens: int) -> None:
    if not 0 <= acceptance <= 1 or num_tokens < 0:
        raise ValueError(f"acceptance={acceptance}, num_tokens={num_tokens}: give an acceptance in [0, 1] and at least 0 tokens")
