"""`auto` in decodes of real models: greedy text is plain decoding's, measuring leaves no trace, and `coupled` text depends on no clock."""

from collections.abc import Callable

import pytest
import torch

from drafters.adversarial import Adversarial
from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.multi_draft import MultiDraft
from drafters.none import NoDraft
from drafters.oracle import Oracle
from drafters.prompt_lookup import PromptLookup
from drafters.stopping.bandit import Bandit
from drafters.stopping.cost import Cost
from drafters.stopping.heuristic import Heuristic
from spec.auto import Auto
from spec.decode import Generation, decode
from spec.interfaces import Drafter, Wrapped
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import DecodeState, Limits
from spec.types import Draft
from tests.drafters.bench import PROMPTS, new_tokens, tiny_greedy, tiny_target
from tests.drafters.contract import assistant_model
from tests.tiny import build
from verifiers.coupled import Coupled
from verifiers.recursive import Recursive

DRAFTERS: dict[str, Callable[[], Drafter]] = {
    "draft_model": lambda: DraftModel(model=assistant_model(), num_tokens="auto"),
    "draft_model, heuristic": lambda: DraftModel(model=assistant_model(), num_tokens="auto", stopping=Heuristic(2)),
    "draft_model, bandit of costs": lambda: DraftModel(model=assistant_model(), num_tokens="auto", stopping=Bandit((1,), [Cost(None)])),
    "draft_model, cost alone": lambda: DraftModel(model=assistant_model(), stopping=Cost(None)),
    "multi_draft": lambda: MultiDraft(model=assistant_model(), num_tokens="auto"),
    "coupled": lambda: CoupledDraft(model=assistant_model(), num_tokens="auto"),
    "oracle": lambda: Oracle(num_tokens="auto"),
    "jacobi": lambda: Jacobi("auto"),
    "prompt_lookup": lambda: PromptLookup(num_tokens="auto"),
    "lookahead": lambda: Lookahead("auto"),
    "adversarial": lambda: Adversarial(num_tokens="auto"),
}


def run(drafter: Drafter, temperature: float = 1.0, verifier: object = None, new: int = 24, batch_size: int = 2) -> Generation:
    sampler, limits = Sampler(temperature, seed=3), Limits(new)
    return decode(tiny_target(), drafter, verifier or Recursive(), PROMPTS, sampler=sampler, limits=limits, batch_size=batch_size)  # pyright: ignore


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("name", DRAFTERS)
def test_greedy_text_is_unchanged_whatever_is_chosen(name: str, measured: bool) -> None:
    """What is accepted depends on the other rows of a batch, since they share the choice; the text does not."""
    drafter = DRAFTERS[name]() if measured else DRAFTERS[name]().by_nominal_costs()
    for batch_size in (3, 2, 1):
        assert new_tokens(run(drafter, 0.0, batch_size=batch_size)) == tiny_greedy(24)


@pytest.mark.parametrize("name", DRAFTERS)
def test_measuring_leaves_no_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the costs of a decode that measured, another that did not says the same and drafts the same, but for what the clock says of real steps."""
    monkeypatch.setattr(Auto, "slowness", lambda self, drafting: 1.0)
    measuring, knowing = DRAFTERS[name](), DRAFTERS[name]()
    first = run(measuring, batch_size=3)
    assert measuring.costs is not None
    assert set(measuring.costs.seconds) == {3}
    assert knowing.costs is not None
    knowing.costs.restore(measuring.costs.to_json())
    second = run(knowing, batch_size=3)
    assert new_tokens(first) == new_tokens(second)
    assert [step.proposed for step in first.stats.steps] == [step.proposed for step in second.stats.steps]


@pytest.mark.parametrize("name", [name for name in DRAFTERS if "alone" not in name])
def test_what_is_settled_repeats(name: str) -> None:
    drafter = DRAFTERS[name]()
    assert drafter.auto is not None
    run(drafter)
    drafter.auto.settle()
    first, second = run(drafter), run(drafter)
    assert [step.proposed for step in first.stats.steps] == [step.proposed for step in second.stats.steps]


@pytest.mark.parametrize("name", ["coupled", "draft_model", "prompt_lookup", "lookahead"])
@pytest.mark.parametrize("slope", [0.0, 0.3, 9.0])
def test_coupled_text_does_not_depend_on_costs(name: str, slope: float) -> None:
    drafter = DRAFTERS[name]()
    assert drafter.costs is not None
    drafter.costs.restore({"1": {str(length): 1 + slope * length for length in drafter.costs.lengths}})
    made = run(drafter, verifier=Coupled())
    assert new_tokens(made) == new_tokens(run(NoDraft(), verifier=Coupled()))
    if slope != 0.3:
        assert (made.stats.num_drafted == 0) == (slope == 9.0)


def test_a_drafter_that_never_pays_is_tried_seldom_and_learns_in_between() -> None:
    drafter = Lookahead("auto")
    assert drafter.costs is not None
    drafter.costs.restore({"1": {"0": 1.0, "2": 1.5, "4": 2.0, "7": 3.0}})
    run(drafter, new=60)
    for pool, row in zip(drafter.pools, range(2), strict=False):
        assert pool.seen > len(PROMPTS[row])
    jacobi = Jacobi("auto").by_nominal_costs()
    made = run(jacobi, 0.0, new=60)
    assert {len(tokens) for step in made.stats.steps for tokens in step.proposed} >= {0, 1}


class Clocked(DraftModel):
    """Notes how long the drafts are that it is asked to try."""

    tried: list[tuple[int, int]]

    def try_out(self, state: DecodeState, sampler: Sampler, option: int) -> Draft:
        draft = super().try_out(state, sampler, option)
        self.tried.append((option, draft.num_slots - 1))
        return draft


def test_whole_drafts_are_measured_although_the_answer_is_short() -> None:
    drafter = Clocked(model=assistant_model(), num_tokens="auto", stopping=Heuristic(1))
    drafter.tried = []
    run(drafter, new=1)
    assert {option for option, _ in drafter.tried} == {1, 2, 4, 8, 16}
    assert all(option == made for option, made in drafter.tried)


class Observing(Wrapped):
    """Counts what a verifier is shown."""

    seen = 0

    def __call__(self, *args: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.seen += 1
        return self.inner(*args)  # pyright: ignore


def test_an_observer_is_shown_real_steps_alone() -> None:
    witness = Observing(Recursive())
    made = run(PromptLookup(num_tokens="auto"), verifier=witness)
    assert witness.seen == len(made.stats.steps)


def test_a_length_that_is_set_ends_the_choosing() -> None:
    drafter = PromptLookup(num_tokens="auto")
    assert drafter.length == 16
    drafter.length = 3
    assert drafter.auto is None
    assert max(step.drafted[0] for step in run(drafter, batch_size=1).stats.steps) <= 3


@pytest.mark.parametrize("given", ["fast", "no", "", 0, 1.5, True, None])
def test_anything_but_a_number_or_auto_is_refused(given: object) -> None:
    for make in (lambda: PromptLookup(num_tokens=given), lambda: DraftModel(num_tokens=given), lambda: Lookahead(given)):  # pyright: ignore
        with pytest.raises(ValueError, match=r"(num_tokens|window)=.*: give .* or auto"):
            make()


def test_short_answers_and_one_token_prompts() -> None:
    for new in (1, 2):
        made = decode(tiny_target(), DRAFTERS["draft_model"](), Recursive(), [[5]], sampler=Sampler(seed=1), limits=Limits(new))
        assert len(made.new_tokens()) == new
    assert torch.is_inference_mode_enabled() is False


def test_another_model_is_measured_anew():
    drafter = PromptLookup(num_tokens="auto")
    seen = []
    for seed in (0, 0, 1):
        target = CausalLM(build("llama", seed=seed)) if not seen or seed else seen[-1][0]
        decode(target, drafter, Recursive(), [[1, 2, 3, 1, 2]], sampler=Sampler(0), limits=Limits(6))
        seen.append((target, drafter.costs.seconds))
    assert seen[0][1] is seen[1][1]
    assert seen[2][1] is not seen[0][1]


def test_a_length_that_is_set_measures_nothing():
    drafter = PromptLookup(num_tokens="auto")
    drafter.length = 3
    assert drafter.auto is drafter.costs is None
