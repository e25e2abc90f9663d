"""The drafter, the verifier and the sampler in the whole loop, enumerated on table models."""

from dataclasses import replace
from functools import partial

from experiments.exactness.checks import FAIL, NOT_APPLICABLE, PASS, Check, Effort, Subject
from experiments.exactness.loop import LOOPS, SHORT, SHORTER, TableLoop

NAME = "enumerated loop"
EXACT = 1e-12
REFUSALS = (ValueError, NotImplementedError)  # what a part raises that says no; anything else is a crash
NOT_ON_TABLES = (ValueError, TypeError, AttributeError, NotImplementedError, KeyError, IndexError, RuntimeError)


def check_loop(subject: Subject, effort: Effort) -> Check:
    """Golden, a smaller vocabulary that goes on for longer, an end token, and zeros in the laws."""
    done, missing, crash = 0, "", ""
    for loop in map(partial(_with, subject), LOOPS):
        try:
            error = loop.error(subject.make_drafter)
            if error >= EXACT and _depends_on_other_rows(subject):
                reason = "the drafts of a row depend on the rest of its batch; alone, one row after the other, they are exact"
                return Check(NAME, NOT_APPLICABLE, reason)
        except AssertionError as failure:
            return Check(NAME, FAIL, f"{_describe(loop)}: {failure}")
        except NOT_ON_TABLES as reason:
            missing = f"{type(reason).__name__}: {reason}"
            crash = crash if isinstance(reason, REFUSALS) else f"{_describe(loop)}: {missing}"
            continue
        if error >= EXACT:
            detail = f"{_describe(loop)}: the law of the output is off by TV {error:.3g}"
            return Check(NAME, FAIL, detail, tv=error, detectable_tv=EXACT, power=1.0)
        done += 1
    if not done:
        return Check(NAME, NOT_APPLICABLE, f"cannot be put on table models ({missing})")
    if crash:
        return Check(NAME, FAIL, f"works on {done} table models and breaks on another ({crash})")
    left = f"; not on the others ({missing})" if missing else ""
    return Check(NAME, PASS, f"{done} table models, every outcome followed{left}", tv=0.0, detectable_tv=EXACT, power=1.0)


def _with(subject: Subject, loop: TableLoop) -> TableLoop:
    return replace(loop, verifier=subject.verifier, sampler=subject.sampler, wrap=subject.wrap)


def _describe(loop: TableLoop) -> str:
    return f"{loop.instance.name}, {loop.length} tokens" + ("" if loop.eos is None else ", with an end token")


def _depends_on_other_rows(subject: Subject) -> bool:
    """An error that is gone when every outcome is followed in a batch of its own is a limit of the enumeration, which follows many at once."""
    return all(_with(subject, loop).error(subject.make_drafter, batch=1) < EXACT for loop in (SHORTER, SHORT))
