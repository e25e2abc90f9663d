"""The verifier at the size of a real vocabulary, in float32: the distribution of the next token, exactly, against plain decoding's own row.

No model is needed: logits of a known shape go through the sampler, as in the loop. What is looked at: `real_rows`; how it is followed: `real_noise`.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiments.lossless.enumeration.branches import GumbelError
from experiments.lossless.real_size.noise import first_token_distribution, race_distribution
from experiments.lossless.real_size.rows import Case, Drafts, build, cases
from experiments.lossless.subject import FAIL, NOT_APPLICABLE, PASS, Check, Effort, Subject
from spec.interfaces import Verifier
from spec.sampling import Sampler

NAME = "real vocabulary"
LIMIT = 1e-7  # TV; one rounding to float32 changes a probability by up to 6e-8 of itself
MANY = 8  # most classes for which the scores of a Gumbel draw are searched


@dataclass(frozen=True)
class Found:
    """One case: how far the distribution of the first token is from the reference, or why that is not known."""

    case: Case
    tv: float | None
    reason: str = ""


def check_real_vocabulary(subject: Subject, effort: Effort) -> Check:
    """Passes where every kind of draft that the verifier takes gives the reference within LIMIT."""
    found = [look(case, subject.verifier, subject.sampler) for case in cases(subject.verifier, subject.sampler.greedy)]
    seen = [(one.tv, one.case.name) for one in found if one.tv is not None]
    if not seen:
        return Check(NAME, NOT_APPLICABLE, found[0].reason)
    tv, name = max(seen)
    about = f"{len(seen)} kinds of drafts" + (f", {len(found) - len(seen)} more are refused" if len(seen) < len(found) else "")
    detail = about if tv < LIMIT else f"{name}: the distribution of the next token is off by TV {tv:.3g}, of {about}"
    return Check(NAME, PASS if tv < LIMIT else FAIL, detail, tv=tv, detectable_tv=LIMIT, power=1.0)


def look(case: Case, verifier: Verifier, sampler: Sampler) -> Found:
    """One case; a draft that the verifier refuses is no fault."""
    try:
        drafts = build(case, sampler)
    except ValueError as error:
        return Found(case, None, str(error))
    try:
        return Found(case, distance(first_token_distribution(verifier, drafts), drafts))
    except GumbelError:
        return _raced(case, verifier, drafts)
    except ValueError as error:
        return Found(case, None, f"the verifier refuses every draft: {error}")
    except AttributeError as error:
        return Found(case, None, f"{type(verifier).__name__} draws what cannot be followed outcome by outcome ({error})")
    except AssertionError as error:
        return Found(case, 1.0, str(error))


def _raced(case: Case, verifier: Verifier, drafts: Drafts) -> Found:
    if int(drafts.classes.max()) >= MANY:
        return Found(case, None, "Gumbel numbers over too many different probabilities")
    try:
        return Found(case, distance(race_distribution(verifier, drafts), replace(drafts, certain=False)))
    except (AttributeError, ValueError) as error:
        return Found(case, None, f"{type(verifier).__name__} draws Gumbel numbers and others beside them ({error})")


def distance(distribution: Tensor, drafts: Drafts) -> float:
    """TV between distribution [V + 1] and the reference, token by token or class by class."""
    difference = distribution[:-1] - drafts.reference
    if not drafts.certain:
        difference = torch.bincount(drafts.classes, difference)
    return (float(difference.abs().sum()) + float(distribution[-1])) / 2
