"""All checks of a drafter, a verifier and a target, and the mutants (wrong ones) that must not pass them."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from experiments.lossless.checks import (
    coupling,
    drawn_as_declared,
    enumerated_loop,
    enumerated_steps,
    long_texts,
    parity,
    real_vocabulary,
    sampled,
    tree_logits,
)
from experiments.lossless.checks.enumerated_steps import EXACT, YIELD_NAME, error_of
from experiments.lossless.enumeration.proposals import chain, distinct, tree
from experiments.lossless.enumeration.step_distribution import examine
from experiments.lossless.enumeration.tables import GOLDEN
from experiments.lossless.mutants.blocks import BLOCK_MUTANTS
from experiments.lossless.mutants.chains import MUTANTS, ChainRule, Mutant, SiblingRule
from experiments.lossless.mutants.drafter_battery import DRAFTER_MUTANTS, EFFORT, DrafterMutant
from experiments.lossless.mutants.loops import LOOP_MUTANTS, LoopMutant
from experiments.lossless.mutants.real_size import REAL_MUTANTS, RealMutant
from experiments.lossless.mutants.trees import SLOW_TREE_MUTANTS, TREE_MUTANTS, SlowMutant
from experiments.lossless.subject import FAIL, NOT_RUN, PASS, Check, Effort, Subject

LONG = (long_texts.NAME, long_texts.CONTRACT_NAME, drawn_as_declared.NAME, long_texts.FORWARD_NAME)
NAMES = (
    *(tree_logits.NAME, enumerated_steps.NAME, YIELD_NAME, real_vocabulary.NAME),
    *(enumerated_loop.NAME, parity.NAME, coupling.NAME, *LONG, sampled.NAME),
)
INCOMPLETE = "incomplete"
DRAWING = (long_texts.NAME, sampled.NAME)  # checks that draw many tokens
SMALL_EFFORT = Effort(samples=2000, long_tokens=12, long_texts=2000, long_batch=24)  # for a table model
SLOW_MUTANTS = (
    SlowMutant("E1 no bonus token", GOLDEN, lambda: chain(GOLDEN, 3), ChainRule(emit_bonus=False), 2.5756158080739806, 2.2295751633986932),
    SlowMutant("E2 first child only", GOLDEN, lambda: tree(GOLDEN, [2], distinct), SiblingRule(num_tested=1), 1.8860671191553546, 89 / 51),
)
ALL_SLOW = (*SLOW_MUTANTS, *(replace(mutant, name=f"E{number} {mutant.name}") for number, mutant in enumerate(SLOW_TREE_MUTANTS, 3)))
Listener = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """The answer of the whole battery."""

    checks: list[Check]
    mutants: list[dict[str, Any]]  # id, what it does wrong, rejected_by: names of checks

    @property
    def surviving(self) -> list[str]:
        """Mutants that no check rejects: then the battery itself is at fault."""
        return [mutant["id"] for mutant in self.mutants if not mutant["rejected_by"]]

    @property
    def verdict(self) -> str:
        """ "pass": every check that applies was run and passed, one of them at least judged the output, and every mutant was rejected.

        "incomplete": nothing failed, but not everything that applies was looked at.
        """
        if self.surviving or any(check.failed for check in self.checks):
            return FAIL
        judged = any(check.verdict == PASS and check.name != tree_logits.NAME for check in self.checks)
        return PASS if judged and not any(check.verdict == NOT_RUN for check in self.checks) else INCOMPLETE

    @property
    def passed(self) -> bool:
        return self.verdict == PASS

    def to_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "checks": [asdict(check) for check in self.checks], "mutants": self.mutants}


def run_checks(subject: Subject, effort: Effort, listener: Listener = lambda name: None) -> list[Check]:
    """All checks of one subject, cheap ones first; `listener` gets the name of each check as it begins."""
    found: list[Check] = []
    for name, check in (
        (tree_logits.NAME, tree_logits.check_tree_logits),
        (enumerated_steps.NAME, enumerated_steps.check_steps),
        (real_vocabulary.NAME, real_vocabulary.check_real_vocabulary),
        *loop_checks(),
    ):
        listener(name)
        found += as_list(check(subject, effort))
    return found


def loop_checks() -> tuple[tuple[str, Callable[[Subject, Effort], Check | list[Check]]], ...]:
    """The checks that decode."""
    return (
        (enumerated_loop.NAME, enumerated_loop.check_loop),
        (parity.NAME, parity.check_parity),
        (coupling.NAME, coupling.check_coupling),
        (long_texts.NAME, long_texts.check_long_texts),
        (sampled.NAME, sampled.check_sampled),
    )


def as_list(found: Check | list[Check]) -> list[Check]:
    return [found] if isinstance(found, Check) else found


def run_mutants(listener: Listener = lambda name: None) -> list[dict[str, Any]]:
    """Every mutant and the checks that reject it."""
    found = []
    for mutant in (*MUTANTS, *BLOCK_MUTANTS, *TREE_MUTANTS, *ALL_SLOW, *LOOP_MUTANTS, *DRAFTER_MUTANTS, *REAL_MUTANTS):
        listener(mutant.name)
        identity, _, fault = mutant.name.partition(" ")
        found.append({"id": identity, "fault": fault, "rejected_by": rejecting(mutant)})
    return found


def rejecting(mutant: Mutant | SlowMutant | LoopMutant | DrafterMutant | RealMutant) -> list[str]:
    """Names of the checks that reject a mutant: of one step, its distribution and its expected tokens; of a loop, all that decode, and the logits.

    Wrong drafters go through the long texts, which do not need a table that is small enough to be enumerated.
    """
    if isinstance(mutant, DrafterMutant):
        return [check.name for check in long_texts.check_long_texts(mutant.subject(), EFFORT) if check.failed]
    if isinstance(mutant, RealMutant):
        check = real_vocabulary.check_real_vocabulary(mutant.subject(), SMALL_EFFORT)
        return [check.name] if check.failed else []
    if isinstance(mutant, LoopMutant):
        subject = mutant.subject()
        checks = [
            tree_logits.check_tree_logits,
            *(check for name, check in loop_checks() if name not in DRAWING or not subject.sampler.reads_prefix),
        ]
        found = [check for run in checks for check in as_list(run(subject, SMALL_EFFORT))]  # processors that read the prefix are slow to sample from
        return [check.name for check in found if check.failed]
    instance = mutant.instance if isinstance(mutant, SlowMutant) else GOLDEN
    report = examine(instance, mutant.proposals(), mutant.verifier)
    names = [enumerated_steps.NAME] if error_of(report) >= EXACT else []
    if isinstance(mutant, SlowMutant) and abs(report.expected - mutant.right) > enumerated_steps.CLOSE:
        names.append(YIELD_NAME)
    return names


def judge(subject: Subject, effort: Effort, listener: Listener = lambda name: None) -> Outcome:
    """The battery: checks, then mutants, which test the battery itself and are left out if a check has failed."""
    checks = run_checks(subject, effort, listener)
    return Outcome(checks, run_mutants(listener) if effort.mutants and not any(check.failed for check in checks) else [])


def idle_checks(mutants: Iterable[dict[str, Any]]) -> list[str]:
    """Checks that reject no mutant, and so prove nothing."""
    used = {name for mutant in mutants for name in mutant["rejected_by"]}
    return [name for name in NAMES if name not in used]
