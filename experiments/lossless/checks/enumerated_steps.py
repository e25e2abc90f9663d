"""The verifier alone, enumerated: every outcome of one step on table models, completed by the target, against the target's own distribution."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from experiments.lossless.enumeration.branches import GumbelError
from experiments.lossless.enumeration.proposals import Proposals, Rule, distinct, independent, one_hot, top, tree
from experiments.lossless.enumeration.step_distribution import Report, examine
from experiments.lossless.enumeration.tables import B4, GOLDEN, A, Instance, S, Z
from experiments.lossless.subject import FAIL, NOT_APPLICABLE, NOT_RUN, PASS, Check, Effort, Subject
from spec.interfaces import Verifier

NAME, YIELD_NAME = "enumerated steps", "expected tokens"
EXACT, CLOSE = 1e-12, 1e-9
SHAPES: tuple[tuple[list[int], tuple[Rule, ...]], ...] = (
    ([], (independent,)),
    ([1], (independent, top)),
    ([1, 1], (independent, top)),
    ([1, 1, 1], (independent, top)),
    ([2], (independent, distinct, top)),
    ([3], (independent, distinct, top)),
    ([2, 1], (independent, distinct, top)),
)
TOKEN = {"golden": (89 / 51, 2729 / 1224, 9996485771971 / 3881202212160), "A": (1.7, 2.19, 2.533), "Z": (1.4, 1.56, 1.624)}
BLOCK = {"golden": (89 / 51, 98471 / 42840, 5905792247179 / 2130856116480), "A": (1.7, 2.25, 2.695), "Z": (1.4, 1.56, 1.624)}
KNOWN = {"Recursive": TOKEN, "Rejection": TOKEN, "Block": BLOCK, "Traversal": BLOCK}  # tokens a step on chains of 1, 2, 3 that are drawn from q


@dataclass(frozen=True)
class Case:
    """One kind of draft on one instance."""

    instance: Instance
    widths: list[int]
    rule: Rule
    declared: bool = True

    @property
    def name(self) -> str:
        rule = getattr(self.rule, "__name__", "drawn")
        return f"{self.instance.name} {self.widths} {rule}{'' if self.declared else ', q left out'}"

    def proposals(self) -> Proposals:
        hints: dict[str, Any] = {"width": 1} if max(self.widths, default=1) == 1 else {}
        return tree(self.instance, self.widths, self.rule, declare=self.declared, **hints)


def cases(verifier: Verifier, greedy: bool) -> Iterator[Case]:
    """Every kind of draft that the verifier says it takes (`chains_only`, `takes`); at temperature 0 the target's distributions are one-hot."""
    taken = getattr(verifier, "takes", None)  # names of rules
    for instance in (GOLDEN, A, B4, S, Z):
        instance = hardened(instance) if greedy else instance
        for widths, rules in SHAPES:
            branching = max(widths, default=1) > 1
            if (branching and getattr(verifier, "chains_only", False)) or (len(widths) > 2 and instance.vocabulary > 3 and instance.name == "B4"):
                continue
            for rule in rules:
                if taken is None or not branching or getattr(rule, "__name__", "") in taken:
                    yield Case(instance, widths, rule)
                    if rule is top:
                        yield Case(instance, widths, rule, declared=False)


def hardened(instance: Instance) -> Instance:
    """The instance at temperature 0."""
    return replace(instance, p=lambda prefix: one_hot(int(instance.p(prefix).argmax()), instance.vocabulary))


def check_steps(subject: Subject, effort: Effort) -> list[Check]:
    """The distributions, and what is known of the expected number of tokens. A draft that the verifier refuses is named, not counted."""
    verifier, refused, seen = subject.verifier, {}, []
    for case in cases(verifier, subject.sampler.greedy):
        try:
            seen.append((case, examine(case.instance, case.proposals(), verifier)))
        except ValueError as error:
            refused[case.name] = str(error)
        except GumbelError as error:
            return [Check(NAME, NOT_APPLICABLE, f"{type(verifier).__name__}: {error}; the race over a real vocabulary finds its distribution")]
        except AttributeError as error:
            return [Check(NAME, NOT_RUN, f"{type(verifier).__name__} asks the noise for what cannot be followed outcome by outcome ({error})")]
        except AssertionError as error:
            return [Check(NAME, FAIL, f"{case.name}: {error}")]
    if not seen:
        return [Check(NAME, NOT_APPLICABLE, f"the verifier refuses every draft: {next(iter(refused.values()))}")]
    worst, report = max(seen, key=lambda pair: error_of(pair[1]))
    error = error_of(report)
    about = f"{len(seen)} kinds of drafts" + (f", {len(refused)} more are refused" if refused else "")
    detail = about if error < EXACT else f"{worst.name}: the distribution of the emitted tokens is off by TV {error:.3g}"
    return [Check(NAME, PASS if error < EXACT else FAIL, detail, tv=error, detectable_tv=EXACT, power=1.0), _expected(verifier, seen)]


def error_of(report: Report) -> float:
    """TV from the target; a distribution that does not sum to 1 counts too."""
    return max(report.error, abs(report.mass - 1))


def _expected(verifier: Verifier, seen: list[tuple[Case, Report]]) -> Check:
    known, checked = KNOWN.get(type(verifier).__name__, {}), 0
    for case, report in seen:
        if report.expected < 1 - CLOSE:
            return Check(YIELD_NAME, FAIL, f"{case.name}: {report.expected:.9g} tokens a step, fewer than plain decoding", statistic=report.expected)
        chain = case.widths and max(case.widths) == 1 and case.rule is independent
        one_hot_p = float(case.instance.p(()).max()) == 1
        if chain and not one_hot_p and case.instance.name in known:
            checked += 1
            wanted = known[case.instance.name][len(case.widths) - 1]
            if abs(report.expected - wanted) > CLOSE:
                detail = f"{case.name}: {report.expected:.9g} tokens a step, should be {wanted:.9g}"
                return Check(YIELD_NAME, FAIL, detail, statistic=report.expected)
    if not checked:
        return Check(YIELD_NAME, NOT_APPLICABLE, "no closed form is on file for this verifier; it never emits less than plain decoding")
    return Check(YIELD_NAME, PASS, f"{checked} closed forms met to {CLOSE:g}")
