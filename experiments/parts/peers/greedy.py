"""Does a peer's greedy output stay plain `generate`'s, token for token, and where it leaves it, can rounding be the reason."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.analysis.divergence import choice_margin, first_difference, unexplained
from experiments.parts.peers.transformers_generate import Generate
from experiments.parts.roles import Role
from spec.sampling import Sampler
from spec.state import Limits


@dataclass(frozen=True)
class GreedyRow:
    """One line of the table. A tie is a divergence at which, replayed in float32, the two tokens are closer than the model's dtype resolves."""

    peer: str
    setting: str
    verdict: str  # "pass" or "fail": fail if any divergence is too wide for rounding
    num_prompts: int
    identical: int
    ties: int
    bugs: int
    widest_margin: float | None  # of the float32 logits at a divergence
    num_tokens: int
    tokens_per_step: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class GreedyCheck:
    """Holds the answers of plain `generate` to some prompts, `max_new_tokens` each without an EOS, and compares peers with them."""

    def __init__(self, target: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int):
        self.target, self.prompts, self.limits = target, prompts, Limits(max_new_tokens)
        self.plain = [answer.tokens for answer in Generate(target).answer(prompts, sampler=Sampler(0.0), limits=self.limits)]

    def run(self, role: Role, setting: str) -> GreedyRow:
        """Decodes all prompts greedily."""
        answers = role.answer(self.prompts, sampler=Sampler(0.0), limits=self.limits)
        found = self.divergences({index: answer.tokens for index, answer in enumerate(answers)})
        tokens, bugs = sum(len(answer.tokens) for answer in answers), len(unexplained(found, str(self.target.dtype).removeprefix("torch.")))
        return GreedyRow(
            peer=role.name,
            setting=setting,
            verdict="fail" if bugs else "pass",
            num_prompts=len(self.prompts),
            identical=len(self.prompts) - len(found),
            ties=len(found) - bugs,
            bugs=bugs,
            widest_margin=max((item["margin"] for item in found), default=None),
            num_tokens=tokens,
            tokens_per_step=tokens / sum(answer.forwards for answer in answers),
        )

    def divergences(self, answers: Mapping[int, Sequence[int]]) -> list[dict[str, Any]]:
        """Where answers, by the index of their prompt, leave plain `generate`'s; margins are of at least float32. A missing token is no tie."""
        found = []
        for prompt, answer in answers.items():
            wanted = self.plain[prompt]
            place = first_difference(answer, wanted)
            if place is None:
                continue
            margin = {"margin": float("inf"), "logit": 0.0}
            if place < min(len(answer), len(wanted)):
                model = self.target if self.target.dtype.itemsize >= 4 else copy.deepcopy(self.target).float()
                margin = choice_margin(model, Sampler(0.0), [*self.prompts[prompt], *wanted[:place]], [answer[place], wanted[place]])
            found.append({"prompt": prompt, "index": place} | margin)
        return found
