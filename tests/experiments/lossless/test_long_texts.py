"""The bets on long texts: fair under the distribution, quick to see what is wrong, and never fooled by an honest drafter."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.multi_draft import MultiDraft
from drafters.prompt_lookup import PromptLookup
from drafters.stopping.confidence import Confidence
from experiments.lossless.betting.bets import TILTS, Bets
from experiments.lossless.betting.sets import NAMES, Places, behind, sets_of
from experiments.lossless.betting.witness import DRAFTED, EMITTED, first_children
from experiments.lossless.checks.drawn_as_declared import Watch, WatchedNoise
from experiments.lossless.checks.long_texts import Ending, check_long_texts
from experiments.lossless.enumeration.loop import PROMPT, golden_model
from experiments.lossless.enumeration.tables import GOLDEN_P, GOLDEN_Q
from experiments.lossless.mutants.drafter_battery import VOCABULARY, DrafterMutant
from experiments.lossless.mutants.drafters import PeeksAtAcceptNumbers, StaleDistributions, WrongChain
from experiments.lossless.subject import Effort, Subject
from spec.interfaces import Drafter, Verifier
from spec.model import CausalLM
from spec.noise import Noise, Purpose
from spec.sampling import Sampler
from spec.types import Draft
from verifiers.block import Block
from verifiers.coupled import Coupled
from verifiers.kseq import KSeq
from verifiers.lenient import Lenient
from verifiers.recursive import Recursive
from verifiers.traversal import Traversal

FEW = Effort(long_texts=1200, long_batch=24)


def distribution_of(size: int, seed: int) -> Tensor:
    distribution = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) ** 4
    return distribution / distribution.sum()


def test_every_set_has_the_probability_that_it_claims():
    """All tokens of one distribution at once, each with its own weight: the weight of those in a set is the mass of the set."""
    size, spread = 60, 400
    distribution, other = distribution_of(size, 1), distribution_of(size, 2)
    distribution[7] = distribution[9]  # a tie
    distribution = distribution / distribution.sum()
    tokens = torch.arange(size).repeat_interleave(spread)
    places = Places(distribution.expand(len(tokens), -1), tokens, other.expand(len(tokens), -1), torch.full_like(tokens, 3))
    found = sets_of(places, torch.tensor([5, 11]), torch.Generator().manual_seed(0))
    found = behind(found, torch.full((len(tokens),), 0.3, dtype=torch.float64))
    weights = distribution[tokens] / spread
    assert found.mass.shape == (len(tokens), len(NAMES))
    hit = (found.hit * weights[:, None]).sum(0)
    assert (hit - found.mass[0]).abs().max() < 5e-3  # where a token lies half in a set, chance decides
    certain = [
        index for index, name in enumerate(NAMES) if "likeliest token" in name or "other distribution" in name or name in ("end tokens", NAMES[-2])
    ]
    assert (hit - found.mass[0])[certain].abs().max() < 1e-12
    assert len(certain) >= 10


def test_rows_without_another_distribution_have_no_sets_by_it():
    distribution = distribution_of(9, 3).expand(2, -1)
    others = torch.stack([distribution_of(9, 4), torch.full((9,), torch.nan, dtype=torch.float64)])
    found = sets_of(Places(distribution, torch.tensor([1, 2]), others, torch.tensor([-1, 2])), torch.tensor([], dtype=torch.int64), torch.Generator())
    ratio = [index for index, name in enumerate(NAMES) if "other distribution" in name]
    assert found.mass[1, ratio].isnan().all()
    assert not found.mass[0, ratio].isnan().any()
    drafted = NAMES.index("the token drafted for this place, or beside it")
    assert found.mass[0, drafted].isnan()
    assert found.mass[1, drafted] == distribution[1, 2]


def test_a_bet_is_fair():
    """The expected factor of every bet on a set of mass m is one."""
    for mass in (0.0, 0.001, 0.3, 0.999, 1.0):
        factors = []
        for hit in (True, False):
            bets = Bets(["a"])
            bets.add(torch.tensor([[mass]], dtype=torch.float64), torch.tensor([[hit]]))
            factors.append(bets.log_capital[0, :, 0].exp())
        assert (mass * factors[0] + (1 - mass) * factors[1]).tolist() == pytest.approx([1.0] * len(TILTS), abs=1e-12)


def test_the_capital_of_all_bets_begins_at_one_and_a_missing_set_costs_nothing():
    bets = Bets(["a", "b"], ["early"])
    assert bets.log_e_value == pytest.approx(0, abs=1e-12)
    bets.add(torch.full((3, 2), torch.nan), torch.ones(3, 2), torch.ones(3, 1))
    assert bets.log_e_value == pytest.approx(0, abs=1e-12)
    assert bets.p_value == 1.0


def test_an_impossible_token_refutes_the_distribution():
    bets = Bets(["a"])
    bets.add(torch.tensor([[0.5]]), torch.tensor([[True]]), impossible=1)
    assert bets.p_value == 0.0


def run(truth: Tensor, distribution: Tensor, seed: int, num_tokens: int, every: int = 100) -> Bets:
    """Tokens of `truth` judged by `distribution`, looked at again and again."""
    generator, bets = torch.Generator().manual_seed(seed), Bets(NAMES, ["even"])
    tokens = torch.multinomial(truth, num_tokens, True, generator=generator)
    before = torch.full((every,), torch.nan, dtype=torch.float64)
    for part in tokens.split(every):
        none = torch.full_like(part, -1)
        found = sets_of(Places(distribution.expand(len(part), -1), part, None, none), torch.tensor([0]), generator)
        found = behind(found, before)
        before = found.where
        bets.add(found.mass, found.hit, (torch.arange(len(part)) % 2 == 0)[:, None], found.impossible)
        if bets.p_value < 1e-3:
            break
    return bets


def test_false_alarms_over_200_seeds_at_one_in_twenty():
    distribution = distribution_of(40, 5)
    alarms = sum(run(distribution, distribution, seed, 1500).p_value <= 0.05 for seed in range(200))
    assert alarms <= 18


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_a_bias_of_the_stated_size_is_found(share):
    """The most probable token too often: by the stated detectable deviation, or more."""
    distribution = distribution_of(40, 6)
    truth = distribution * (1 - share)
    truth[distribution.argmax()] += share
    found = run(truth, distribution, 1, 20_000)
    assert found.p_value < 1e-3
    assert found.taken < 20_000
    assert found.best()[2] > 0


def test_what_is_detectable_shrinks_with_the_root_of_the_tokens():
    small, large = Bets(NAMES, EMITTED, taken=10_000), Bets(NAMES, EMITTED, taken=40_000)
    assert small.detectable(5e-4, 0.95) == pytest.approx(2 * large.detectable(5e-4, 0.95))
    assert Bets(NAMES, EMITTED, taken=100_000).detectable(5e-4, 0.95) == pytest.approx(0.0126, abs=5e-4)
    assert Bets(NAMES).detectable(5e-4, 0.95) == 1.0


HONEST: dict[str, tuple] = {
    "chain": (lambda model: DraftModel(model=model, num_tokens=3), Recursive()),
    "block, stopped by confidence": (lambda model: DraftModel(model=model, num_tokens=4, stopping=Confidence(0.02)), Block()),
    "independent chains": (lambda model: MultiDraft(model=model, num_tokens=2), KSeq()),
    "distinct chains": (lambda model: MultiDraft(model=model, num_tokens=2, siblings="distinct"), Traversal()),
    "grown tree": (lambda model: DraftTree(model=model, widths=None, num_nodes=6), Traversal()),
    "lookup": (lambda model: PromptLookup(), Recursive()),
    "coupled": (lambda model: CoupledDraft(model=model, num_tokens=3), Coupled()),
}


def subject_of(make: object, verifier: Verifier, seed: int = 0) -> Subject:
    target, assistant = (golden_model(constants, VOCABULARY) for constants in (GOLDEN_P, GOLDEN_Q))

    def drafter(model: object = assistant) -> Drafter:
        return make(model)  # type: ignore[operator]

    return Subject(CausalLM(target), drafter, verifier, Sampler(0.7, seed=seed), [PROMPT, PROMPT[1:] + [7]])


@pytest.mark.parametrize("name", HONEST)
def test_honest_parts_pass(name):
    found = check_long_texts(subject_of(*HONEST[name]), FEW)
    assert {check.verdict for check in found} <= {"pass", "not applicable"}
    assert (found[1].verdict == "not applicable") == (name in ("lookup", "coupled"))


@pytest.mark.parametrize("verifier", [Recursive(), Block()])
def test_drafts_whose_width_depends_on_their_tokens_are_not_convicted(verifier):
    """One row at a time, a rule that stops at unlikely tokens, drafts of up to eight: how wide a draft is says much of what is in it."""
    subject = subject_of(lambda model: DraftModel(model=model, num_tokens=8, stopping=Confidence(0.015)), verifier)
    found = check_long_texts(subject, Effort(long_texts=900, long_batch=1))
    assert [check.verdict for check in found[:2]] == ["pass", "pass"]
    assert max(check.statistic or 0.0 for check in found[:2]) < math.log(100)


@pytest.mark.slow
def test_false_alarms_of_real_loops_over_70_seeds():
    """Seven honest combinations in turn, both kinds of bets, at a level of one in twenty each: at most 9 of 70 (more has a chance of .002)."""
    names, alarms = list(HONEST), [0, 0]
    for seed in range(70):
        found = check_long_texts(subject_of(*HONEST[names[seed % len(names)]], seed=seed), replace(FEW, long_texts=160, long_batch=8))
        for kind in (0, 1):
            statistic = found[kind].statistic
            alarms[kind] += statistic is not None and statistic >= math.log(20)
    assert max(alarms) <= 9


def test_a_lossy_verifier_is_seen():
    found = check_long_texts(subject_of(HONEST["chain"][0], Lenient(0.3)), replace(FEW, long_texts=20_000))
    assert found[0].verdict == "fail"


def test_a_wrong_drafter_without_a_seen_draw_is_judged_by_the_counts():
    class Elsewhere(WrongChain):
        """Draws by torch's own generator, and declares another row's distributions."""

        def propose(self, state, sampler):
            draft = super().propose(state, sampler)
            if draft.q is None:
                return draft
            tokens = draft.tokens.clone()
            for slot in range(1, draft.num_slots):
                tokens[:, slot] = torch.multinomial(draft.q[:, slot], 1, generator=self.coin.generator).squeeze(1)
            return replace(draft, tokens=tokens, q=draft.q.roll(1, 2))

    found = {check.name: check for check in check_long_texts(subject_of(lambda model: Elsewhere(model=model, num_tokens=1), Recursive()), FEW)}
    assert found["declared distributions"].verdict == "fail"


def test_numbers_of_other_purposes_are_noticed():
    found = {check.name: check for check in check_long_texts(DrafterMutant("peeks", PeeksAtAcceptNumbers).subject(), FEW)}
    assert "ACCEPT numbers" in found["drawn as declared"].detail


def test_a_number_that_serves_twice_is_noticed():
    watch = Watch()
    plain = Noise(0).at(torch.tensor([3]), torch.tensor([7]))
    noise = WatchedNoise(plain.rows, plain.root_positions, watch)
    distribution = torch.tensor([[0.5, 0.5]])
    watch.verifying = True
    noise.categorical(distribution, Purpose.RESIDUAL, torch.tensor([2]))
    assert not watch.repeated
    noise.categorical(distribution, Purpose.RESIDUAL, torch.tensor([2]))
    assert "slot 2" in watch.repeated


def test_declared_and_drawn_distributions_are_compared_to_the_last_digit():
    found = {check.name: check for check in check_long_texts(DrafterMutant("stale", StaleDistributions).subject(), FEW)}["drawn as declared"]
    assert found.verdict == "fail"
    assert found.tv is not None
    assert found.tv > 0.01


def test_rows_end_at_different_times_and_by_what_they_hold_alone():
    ending = Ending(every=4, shortest=3)
    lengths = set()
    for seed in range(12):
        tokens = torch.randint(80, (1, 200), generator=torch.Generator().manual_seed(seed))
        lengths.add(next(length for length in range(3, 201) if bool(ending(tokens[:, :length]))))
    assert len(lengths) > 4


def test_first_children_of_a_tree():
    draft = Draft(torch.tensor([[9, 1, 2, 3, 4, 5]]), torch.tensor([[-1, 0, 0, 1, 1, 2]]), torch.tensor([5]))
    assert first_children(draft).tolist() == [[1, 3, -1, -1, -1, -1]]
    chain = Draft.chain(torch.tensor([[9, 1, 2]]), torch.tensor([2]))
    assert first_children(chain).tolist() == [[1, -1, -1]]


def test_contexts_have_names_of_their_own():
    assert len(set(EMITTED)) == len(EMITTED)
    assert len(set(DRAFTED)) == len(DRAFTED)
    assert len(set(NAMES)) == len(NAMES)
