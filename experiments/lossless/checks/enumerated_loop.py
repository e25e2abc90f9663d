"""The drafter, the verifier and the sampler in the whole loop, enumerated on table models."""

from dataclasses import replace
from functools import partial

from torch import Tensor

from experiments.lossless.enumeration.loop import LOOPS, PAIR, NotFollowedError, TableLoop, TooManyBranchesError
from experiments.lossless.subject import FAIL, NOT_APPLICABLE, NOT_RUN, PASS, Check, Effort, Subject

NAME = "enumerated loop"
EXACT = 1e-12
AGAIN = 2000  # outcomes that are followed again, alone
REFUSALS = (ValueError, NotImplementedError)  # what a part raises to refuse its input; anything else is a crash
NOT_ON_TABLES = (ValueError, TypeError, AttributeError, NotImplementedError, KeyError, IndexError, RuntimeError)


def check_loop(subject: Subject, effort: Effort) -> Check:
    """Runs the golden table, a smaller vocabulary with longer texts, an end token, and zeros in the distributions."""
    done, alone, missing, crash = 0, 0, "", ""
    for loop in map(partial(_with, subject), LOOPS):
        try:
            kept: list[tuple[Tensor, Tensor]] = []
            error = loop.error(subject.make_drafter, kept=kept)
            if error >= EXACT:
                try:
                    failed = convicted(subject, loop, error, kept)
                except TooManyBranchesError as reason:  # what was measured is not forgotten
                    return Check(NAME, NOT_RUN, f"{_describe(loop)}: off by TV {error:.3g} when followed in one batch, and alone {reason}", tv=error)
                if failed:
                    return failed
                alone += 1
        except NotFollowedError as reason:
            return Check(NAME, NOT_APPLICABLE, f"{reason}; the bets on long texts judge them")
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


def convicted(subject: Subject, loop: TableLoop, error: float, kept: list[tuple[Tensor, Tensor]]) -> Check | None:
    """Finds out what an error means. If drafts depend on other rows, a batch of many outcomes misleads, so small batches are looked at too.

    First a short loop with every outcome in a batch of its own, then with two rows per batch: an error there is the drafter's, or one row spoils the
    other. Then the loop that failed: if thousands of its outcomes are the same alone, its error stands; otherwise all are followed alone.
    None: all of this is exact, only the batch of all outcomes was not.
    """
    short = _with(subject, PAIR)
    for tried, how, look in (
        (short, "", lambda: short.error(subject.make_drafter, batch=1)),
        (short, "exact alone, and with another row in the batch ", lambda: short.pair_error(subject.make_drafter)),
        (loop, "", lambda: error if stands(subject, loop, error, kept) else loop.error(subject.make_drafter, batch=1)),
    ):
        found = look()
        if found >= EXACT:
            detail = f"{_describe(tried)}: {how}the distribution of the output is off by TV {found:.3g}"
            return Check(NAME, FAIL, detail, tv=found, detectable_tv=EXACT, power=1.0)
    return None


def stands(subject: Subject, loop: TableLoop, error: float, kept: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether an error is real: it is too large to come from outcomes that depend on their batch, since none of `AGAIN` outcomes does."""
    return error > 10 / AGAIN and not loop.alone_otherwise(subject.make_drafter, kept, AGAIN)


def _with(subject: Subject, loop: TableLoop) -> TableLoop:
    return replace(loop, verifier=subject.verifier, sampler=subject.sampler, wrap=subject.wrap)


def _describe(loop: TableLoop) -> str:
    return f"{loop.instance.name}, {loop.length} tokens" + ("" if loop.eos is None else ", with an end token")
