"""The battery: right parts pass, wrong ones are convicted by name, every mutant is rejected, and no check is idle."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from scipy.stats import binom

from drafters.draft_model import DraftModel
from drafters.none import NoDraft
from experiments.lossless import battery
from experiments.lossless.checks import drawn_as_declared, enumerated_steps, long_texts
from experiments.lossless.checks.enumerated_loop import check_loop
from experiments.lossless.checks.parity import check_parity
from experiments.lossless.checks.sampled import check_sampled
from experiments.lossless.enumeration.loop import PROMPT, TableLoop
from experiments.lossless.enumeration.table_model import TableLM
from experiments.lossless.enumeration.tables import SMALL
from experiments.lossless.mutants.drafters import DistributionsOfAnotherRow, SiblingsReordered, StaleDistributions
from experiments.lossless.mutants.loops import RIGHT, Bushy, LoopMutant, penalised
from experiments.lossless.subject import Check, Effort, Subject
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft, Scores
from verifiers.lenient import Lenient
from verifiers.recursive import Recursive
from verifiers.sample_match import SampleMatch

LITTLE = Effort(samples=1000, long_tokens=12, batch=1000, long_texts=1000, long_batch=24)
WITHOUT_LAWS = [long_texts.CONTRACT_NAME, drawn_as_declared.NAME]  # what does not apply to a drafter that declares none


@pytest.fixture(scope="module")
def rejections() -> list[dict[str, Any]]:
    return battery.run_mutants()


def test_every_mutant_is_rejected(rejections):
    assert [mutant["id"] for mutant in rejections if not mutant["rejected_by"]] == []


def test_the_whole_table_of_mutants_is_there_once(rejections):
    ids = [mutant["id"] for mutant in rejections]
    table = [f"M{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13)] + ["M1b"] + [f"{k}{n}" for k in "BR" for n in range(1, 7)]
    assert {*table, "T1", "T2", "N1", "V1", "V2", "P1", "P2", "K1", "K2", "K3", "K4", "A1"} <= set(ids)
    assert len(rejections) == len({(mutant["id"], mutant["fault"]) for mutant in rejections})


def test_no_check_is_idle(rejections):
    assert battery.idle_checks(rejections) == []


def test_idle_checks_are_named():
    assert battery.idle_checks([{"rejected_by": list(battery.NAMES[1:])}]) == [battery.NAMES[0]]


@pytest.mark.parametrize("right", RIGHT[:3], ids=lambda right: right.name)
def test_right_loops_pass_everything(right):
    found = [check for _, run in battery.loop_checks() for check in battery.as_list(run(right.subject(), LITTLE))]
    assert {check.verdict for check in found} <= {"pass", "not applicable"}
    assert [check.name for check in found if check.verdict == "not applicable"] in ([], WITHOUT_LAWS)


def test_right_processors_are_exact():
    assert TableLoop(SMALL, 2, sampler=penalised(Sampler)).error(lambda model: DraftModel(model=model, num_tokens=1)) < 1e-12


def test_lossy_verifier_is_convicted():
    found = enumerated_steps.check_steps(LoopMutant("lenient", verifier=Lenient()).subject(), LITTLE)
    assert found[0].verdict == "fail"
    assert found[0].tv is not None
    assert found[0].tv > 0.01


def test_greedy_configuration_is_enumerated_with_one_hot_distributions():
    subject = replace(LoopMutant("greedy").subject(), sampler=Sampler(temperature=0))
    distributions, expected = enumerated_steps.check_steps(subject, LITTLE)
    assert (distributions.verdict, expected.verdict) == ("pass", "not applicable")
    assert check_sampled(subject, LITTLE).verdict == "not applicable"
    assert {check.verdict for check in long_texts.check_long_texts(subject, LITTLE)} == {"not applicable"}
    assert check_loop(subject, LITTLE).verdict == "pass"


class Stranger(NoDraft):
    """A drafter that knows nothing of table models."""

    def attach(self, target: CausalLM) -> None:
        raise ValueError("needs a model with a language head of its own")


def test_drafter_that_cannot_be_put_on_a_table_is_not_passed():
    check = check_loop(LoopMutant("stranger", lambda model: Stranger()).subject(), LITTLE)
    assert check.verdict == "not applicable"
    assert "language head" in check.detail


class Crowd(Bushy):
    """Right, but its drafts depend on how many rows there are."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        return super().propose(state, sampler) if state.num_rows % 2 else NoDraft().propose(state, sampler)


def test_drafts_that_depend_on_other_rows_are_followed_row_by_row_and_in_pairs():
    check = check_loop(LoopMutant("crowd", lambda model: Crowd()).subject(), LITTLE)
    assert check.verdict == "pass"
    assert "row by row and in pairs" in check.detail


@pytest.mark.parametrize(
    ("wrong", "said", "tv"),
    [
        (DistributionsOfAnotherRow, "with another row in the batch", 0.1957),
        (StaleDistributions, "off by TV", None),
        (SiblingsReordered, "off by TV", 0.2286),
    ],
)
def test_a_drafter_that_mixes_rows_up_is_convicted_by_the_instance_that_failed(wrong, said, tv):
    check = check_loop(LoopMutant("wrong", lambda model: wrong(model=model, num_tokens=2)).subject(), LITTLE)
    assert check.verdict == "fail"
    assert said in check.detail
    assert check.tv is not None
    assert check.tv > 0.01 if tv is None else check.tv == pytest.approx(tv, abs=5e-4)


def test_a_check_that_was_not_run_leaves_the_verdict_open():
    passed, left = Check("a", "pass", ""), Check("b", "not run", "")
    assert battery.Outcome([passed], []).verdict == "pass"
    assert battery.Outcome([passed, left], []).verdict == "incomplete"
    assert battery.Outcome([left, Check("c", "fail", "")], []).verdict == "fail"
    assert battery.Outcome([Check("d", "not applicable", "")], []).verdict == "incomplete"


class Breaking(NoDraft):
    """A drafter that breaks on small vocabularies."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        raise RuntimeError("selected index k out of range")


def test_a_drafter_that_breaks_on_tables_is_not_excused():
    check = check_loop(LoopMutant("breaking", lambda model: Breaking()).subject(), LITTLE)
    assert check.verdict == "not run"
    assert "out of range" in check.detail


class Rounding(CausalLM):
    """Logits come out a little different where several slots are scored at once."""

    size = 1e-16

    def score(self, draft: Draft, *args: Any, **kwargs: Any) -> Scores:
        scores = super().score(draft, *args, **kwargs)
        return scores if draft.num_slots == 1 else replace(scores, logits=scores.logits + self.size * torch.arange(4))


class Wrong(Rounding):
    """By more than rounding can."""

    size = 1e-3


@pytest.mark.parametrize(("target", "verdict", "said"), [(Rounding, "pass", "ties within rounding"), (Wrong, "fail", "logits")])
def test_a_tie_is_told_from_a_bug(target, verdict, said):
    def weights(h: torch.Tensor) -> torch.Tensor:
        tilt = 0.0 if target is Rounding else -1e-4
        return torch.ones(*h.shape, 4, dtype=torch.float64) + tilt * torch.arange(4)

    subject = Subject(target(TableLM(weights, 4, len(PROMPT))), Bushy, Recursive(), Sampler(), [PROMPT])
    check = check_parity(subject, LITTLE)
    assert check.verdict == verdict
    assert said in check.detail


@pytest.mark.slow
def test_false_alarms_of_the_frequencies_over_200_seeds():
    """Exact configurations at a false-alarm rate that can be measured."""
    effort, alarms = Effort(samples=320, looks=2, alpha=0.05, tokens=3, batch=320), 0
    for seed in range(200):
        verifier = (Recursive(), SampleMatch())[seed % 2]
        alarms += check_sampled(replace(LoopMutant("right", verifier=verifier).subject(), sampler=Sampler(seed=seed)), effort).failed
    assert 0 < alarms <= binom.isf(1e-3, 200, 0.05)  # nor is it so careful that it finds nothing


def test_yaml_names_every_knob_with_its_default():
    with initialize_config_module("conf", version_base=None):
        config = compose("lossless")
    defaults = {field.name: field.default for field in fields(Effort)}
    assert dict(config.effort) | {"long_tokens": config.max_new_tokens} == defaults


class Elsewhere(DraftModel):
    """Honest, but it draws by a generator of its own."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        generator = torch.Generator().manual_seed(3)
        return DraftModel.propose(self, state, sampler.with_noise(lambda state: Chances(generator)))


class Chances:
    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def categorical(self, distribution: torch.Tensor, purpose: object, slots: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(distribution, 1, generator=self.generator).squeeze(1)


def test_an_honest_drafter_with_chances_of_its_own_is_not_convicted_by_enumeration():
    check = check_loop(LoopMutant("elsewhere", lambda model: Elsewhere(model=model, num_tokens=2)).subject(), LITTLE)
    assert check.verdict == "not applicable"
    assert "the step's noise" in check.detail
