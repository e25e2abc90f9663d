"""Greedy decoding with a drafter against greedy decoding without one, and for every divergence whether rounding can be the reason."""

import copy
from collections.abc import Sequence
from dataclasses import replace

from experiments.analysis.divergence import choice_margin, first_difference, unexplained
from experiments.lossless.checks.coupling import outputs
from experiments.lossless.subject import FAIL, PASS, Check, Effort, Subject, greedy

NAME = "greedy parity"


def check_parity(subject: Subject, effort: Effort) -> Check:
    """A divergence is a tie if, in at least float32, the two tokens' logits are no further apart than the target's dtype can tell."""
    subject = replace(subject, sampler=greedy(subject.sampler))
    prompts, ids = subject.prompts, list(range(len(subject.prompts)))
    plain = outputs(subject, [prompts], [ids], effort.long_tokens, without=True)
    answers = outputs(subject, [prompts], [ids], effort.long_tokens)
    ties, bugs = [], []
    for index, (prompt, answer, wanted) in enumerate(zip(prompts, answers, plain, strict=True)):
        place = first_difference(answer, wanted)
        if place is not None:
            found = divergence(subject, index, [*prompt, *wanted[:place]], [answer[place : place + 1], wanted[place : place + 1]])
            (bugs if unexplained([found], str(subject.target.dtype).removeprefix("torch.")) else ties).append(found)
    count = f"{sum(map(len, plain))} tokens of {len(prompts)} prompts"
    if bugs:
        first = bugs[0]
        detail = f"prompt {first['prompt']} leaves greedy decoding at token {first['index']}, where the logits are {first['margin']:.3g} apart: a bug"
        return Check(NAME, FAIL, detail, statistic=float(len(bugs)))
    return Check(NAME, PASS, f"{count} are plain greedy decoding's" + (f" but for {len(ties)} ties within rounding" if ties else ""))


def divergence(subject: Subject, index: int, tokens: list[int], choices: Sequence[list[int]]) -> dict:
    """How far the worse of the two choices after `tokens` is from the largest logit, replayed in at least float32."""
    model = subject.target.model
    if subject.target.dtype.itemsize < 4:
        model = copy.deepcopy(model).float()
    found = choice_margin(model, subject.sampler, tokens, [choice[0] for choice in choices if choice])
    return {"prompt": index, "index": len(tokens) - len(subject.prompts[index])} | found
