"""Pathwise: with the verifier `coupled` the output for a seed is the target's own, so every drafter must give what plain decoding gives."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.analysis.divergence import first_difference
from experiments.lossless.subject import FAIL, NOT_APPLICABLE, PASS, Check, Effort, Subject, drawn
from verifiers.coupled import Coupled

NAME = "pathwise coupling"


def check_coupling(subject: Subject, effort: Effort) -> Check:
    """Each prompt alone and all together. What differs in the target's own dtype and not in float64 was rounding."""
    subject = replace(subject, verifier=Coupled(), sampler=drawn(subject.sampler))
    parted, num_tokens = differences(subject, effort.long_tokens)
    exact = subject.doubled()
    if exact is None:
        verdict = NOT_APPLICABLE if parted else PASS
        return Check(NAME, verdict, f"{num_tokens} tokens compared; {len(parted)} answers differ, and the target is too large for float64")
    if exact is not subject:
        in_float64, more = differences(exact, effort.long_tokens)
        rounding, num_tokens = len(parted) if not in_float64 else 0, num_tokens + more
        parted = in_float64
        about = f"; {rounding} answers differ by rounding in {str(subject.target.dtype).removeprefix('torch.')}" if rounding else ""
    else:
        about = ""
    if parted:
        return Check(NAME, FAIL, f"in float64 the output depends on the drafter: {parted[0]}", statistic=float(len(parted)))
    return Check(NAME, PASS, f"{num_tokens} tokens of {len(subject.prompts)} prompts, alone and in a batch, are plain decoding's{about}")


def differences(subject: Subject, num_tokens: int) -> tuple[list[str], int]:
    """A sentence for every answer that differs from plain decoding's, and the tokens compared."""
    prompts, ids = subject.prompts, list(range(len(subject.prompts)))
    plain = outputs(subject, [prompts], [ids], num_tokens, without=True)
    together = outputs(subject, [prompts], [ids], num_tokens)
    alone = outputs(subject, [[prompt] for prompt in prompts], [[index] for index in ids], num_tokens)
    found = []
    for how, answers in (("in a batch", together), ("alone", alone)):
        for index, (answer, wanted) in enumerate(zip(answers, plain, strict=True)):
            place = first_difference(answer, wanted)
            if place is not None:
                found.append(f"prompt {index} {how}, token {place}: {answer[place : place + 1]} instead of {wanted[place : place + 1]}")
    return found, 2 * sum(map(len, plain))


def outputs(
    subject: Subject, batches: Sequence[Sequence[Sequence[int]]], ids: Sequence[Sequence[int]], num_tokens: int, without: bool = False
) -> list[list[int]]:
    """New tokens of every prompt, batch after batch; `without` a drafter."""
    run = subject.baseline if without else subject.decode
    made = [run(prompts, num_tokens, sequence_ids=own) for prompts, own in zip(batches, ids, strict=True)]
    return [generation.new_tokens(row) for generation in made for row in range(len(generation.sequences))]
