"""The drafter, the verifier and the sampler in the whole loop, enumerated on table models."""

from dataclasses import replace
from functools import partial

from experiments.exactness.checks import FAIL, NOT_APPLICABLE, NOT_RUN, PASS, Check, Effort, Subject
from experiments.exactness.loop import LOOPS, PAIR, TableLoop

NAME = "enumerated loop"
EXACT = 1e-12
REFUSALS = (ValueError, NotImplementedError)  # what a part raises that says no; anything else is a crash
NOT_ON_TABLES = (ValueError, TypeError, AttributeError, NotImplementedError, KeyError, IndexError, RuntimeError)


def check_loop(subject: Subject, effort: Effort) -> Check:
    """Golden, a smaller vocabulary that goes on for longer, an end token, and zeros in the laws."""
    done, alone, missing, crash = 0, 0, "", ""
    for loop in map(partial(_with, subject), LOOPS):
        try:
            error = loop.error(subject.make_drafter)
            if error >= EXACT:
                if failed := convicted(subject, loop):
                    return failed
                alone += 1
        except AssertionError as failure:
            return Check(NAME, FAIL, f"{_describe(loop)}: {failure}")
        except NOT_ON_TABLES as reason:
            missing = f"{type(reason).__name__}: {reason}"
            crash = crash if isinstance(reason, REFUSALS) else f"{_describe(loop)}: {missing}"
            continue
        done += 1
    if crash and done:
        return Check(NAME, FAIL, f"works on {done} table models and breaks on another ({crash})")
    if not done:
        return Check(NAME, NOT_RUN if crash else NOT_APPLICABLE, f"cannot be put on table models ({missing})")
    left = f"; not on the others ({missing})" if missing else ""
    singly = f"; {alone} of them row by row and in pairs, since drafts depend on the rest of the batch" if alone else ""
    return Check(NAME, PASS, f"{done} table models, every outcome followed{singly}{left}", tv=0.0, detectable_tv=EXACT, power=1.0)


def convicted(subject: Subject, loop: TableLoop) -> Check | None:
    """What an error means. Following many outcomes in one batch misleads where drafts depend on other rows, so small batches are looked at, too.

    Every outcome in a batch of its own: an error there is the drafter's, on a short loop, which is quick, or on the one that failed. Two rows in
    every batch: an error there is one row spoiling the other. None: all of these are exact, and only the batch of all outcomes was not.
    """
    short = _with(subject, PAIR)
    for tried, how, error in (
        (short, "", lambda: short.error(subject.make_drafter, batch=1)),
        (short, "exact alone, and with another row in the batch ", lambda: short.pair_error(subject.make_drafter)),
        (loop, "", lambda: loop.error(subject.make_drafter, batch=1)),
    ):
        found = error()
        if found >= EXACT:
            detail = f"{_describe(tried)}: {how}the law of the output is off by TV {found:.3g}"
            return Check(NAME, FAIL, detail, tv=found, detectable_tv=EXACT, power=1.0)
    return None


def _with(subject: Subject, loop: TableLoop) -> TableLoop:
    return replace(loop, verifier=subject.verifier, sampler=subject.sampler, wrap=subject.wrap)


def _describe(loop: TableLoop) -> str:
    return f"{loop.instance.name}, {loop.length} tokens" + ("" if loop.eos is None else ", with an end token")

