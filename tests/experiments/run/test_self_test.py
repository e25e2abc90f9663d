"""The witness of a run: it reads what is recorded and nothing else, goes on after an interruption, and speaks up when texts are wrong."""

import json
import math

import pytest
import torch

from drafters.draft_model import DraftModel
from experiments.analysis import summary
from experiments.lossless.betting.bets import Bets
from experiments.lossless.betting.sets import NAMES
from experiments.lossless.betting.witness import EMITTED, Witness
from experiments.lossless.enumeration.loop import PROMPT, golden_model
from experiments.lossless.enumeration.tables import GOLDEN_P, GOLDEN_Q
from experiments.lossless.mutants.drafter_battery import VOCABULARY
from experiments.run import self_test
from spec.decode import decode
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import Limits
from verifiers.lenient import Lenient
from verifiers.recursive import Recursive

LIMITS = Limits(40)


def witness(verifier=None, sampler=None) -> Witness | None:
    return self_test.witness_of(DraftModel(model=golden_model(GOLDEN_Q, VOCABULARY)), verifier or Recursive(), sampler or Sampler(0.7), LIMITS)


def read(watching: Witness, num_rows: int, first: int = 0) -> list[list[int]]:
    target, assistant = (golden_model(constants, VOCABULARY) for constants in (GOLDEN_P, GOLDEN_Q))
    drafter, ids = DraftModel(model=assistant, num_tokens=3), range(first, first + num_rows)
    made = decode(
        CausalLM(target), drafter, watching, [PROMPT] * num_rows, sampler=Sampler(0.7), limits=LIMITS, sequence_ids=list(ids), allow_lossy=True
    )
    watching.judge()
    return [made.new_tokens(row) for row in range(num_rows)]


def test_there_is_no_witness_at_temperature_zero():
    assert witness(sampler=Sampler(0)) is None
    assert self_test.figures(None) is None


def test_a_witness_changes_no_token():
    watching = witness()
    assert watching is not None
    target, assistant = (golden_model(constants, VOCABULARY) for constants in (GOLDEN_P, GOLDEN_Q))
    plain = decode(CausalLM(target), DraftModel(model=assistant, num_tokens=3), Recursive(), [PROMPT] * 4, sampler=Sampler(0.7), limits=LIMITS)
    assert read(watching, 4) == [plain.new_tokens(row) for row in range(4)]


def test_bets_go_on_where_they_stopped(tmp_path):
    whole, first, second = witness(), witness(), witness()
    assert whole is not None
    assert first is not None
    assert second is not None
    read(first, 3)
    self_test.save(first, tmp_path, ["a", "b"])
    assert self_test.restore(second, tmp_path, {"a", "b", "c"}) == ["a", "b"]
    assert second.texts.taken == first.texts.taken
    assert second.texts.log_e_value == pytest.approx(first.texts.log_e_value, abs=1e-6)
    read(second, 3, first=3)
    assert second.texts.taken > first.texts.taken


def test_bets_begin_anew_where_an_answer_would_count_twice(tmp_path):
    first, second = witness(), witness()
    assert first is not None
    assert second is not None
    read(first, 2)
    self_test.save(first, tmp_path, ["a", "b"])
    assert self_test.restore(second, tmp_path, {"a"}) == []
    assert second.texts.taken == 0


def test_bets_on_other_sets_are_not_gone_on_with(tmp_path):
    watching = witness()
    assert watching is not None
    read(watching, 2)
    self_test.save(watching, tmp_path, [])
    held = json.loads((tmp_path / self_test.FILE).read_text())
    held["sets"] = held["sets"][1:]
    (tmp_path / self_test.FILE).write_text(json.dumps(held | {"digest": self_test.digest(held)}))
    fresh = witness()
    assert fresh is not None
    self_test.restore(fresh, tmp_path, set())
    assert fresh.texts.taken == 0


@pytest.mark.parametrize("damage", ["", "{", '{"sets": 3}', "[]"])
def test_damaged_bets_are_named(tmp_path, damage):
    (tmp_path / self_test.FILE).write_text(damage)
    watching = witness()
    assert watching is not None
    with pytest.raises(ValueError, match=r"bets\.json: cannot be read.*remove it"):
        self_test.restore(watching, tmp_path, set())


@pytest.mark.parametrize("change", [{"taken": -5}, {"highest": 50.0}, {"highest": math.nan}, {"log_capital": []}])
def test_edited_bets_are_named(tmp_path, change):
    watching = witness()
    assert watching is not None
    read(watching, 1)
    self_test.save(watching, tmp_path, [])
    held = json.loads((tmp_path / self_test.FILE).read_text())
    (tmp_path / self_test.FILE).write_text(json.dumps(held | change))
    with pytest.raises(ValueError, match=r"bets\.json: cannot be read.*does not add up"):
        self_test.restore(watching, tmp_path, set())


def test_a_folder_in_the_place_of_bets_is_named(tmp_path):
    (tmp_path / self_test.FILE).mkdir()
    watching = witness()
    assert watching is not None
    with pytest.raises(ValueError, match=r"bets\.json: cannot be read"):
        self_test.restore(watching, tmp_path, set())


def test_a_run_whose_texts_are_wrong_is_told():
    watching = witness(Lenient(0.05))
    assert watching is not None
    read(watching, 96)
    found = self_test.figures(watching)
    assert found is not None
    assert found["p_value"] < 1e-6
    assert "draftproof lossless" in str(summary.refuted(found))


def test_an_honest_run_is_not_told():
    watching = witness()
    assert watching is not None
    read(watching, 48)
    found = self_test.figures(watching)
    assert found is not None
    assert found["e_value"] < 20
    assert summary.refuted(found) is None


def test_a_million_is_the_line():
    watching = witness()
    assert watching is not None
    watching.texts = Bets(NAMES, EMITTED, taken=5, highest=math.log(1e6) + 1e-6)
    assert summary.refuted(self_test.figures(watching)) is not None
    watching.texts.highest = math.log(1e6) - 1e-6
    assert summary.refuted(self_test.figures(watching)) is None


def answered(watching: Witness) -> int:
    """Tokens of one answer that is watched."""
    target, drafter = CausalLM(golden_model(GOLDEN_P, VOCABULARY)), DraftModel(model=golden_model(GOLDEN_Q, VOCABULARY), num_tokens=2)
    return len(decode(target, drafter, watching, [PROMPT], sampler=Sampler(0.7), limits=LIMITS).new_tokens(0))


def test_nothing_is_judged_within_a_step_and_memory_is_bounded():
    watching = witness()
    assert watching is not None
    watching.most = 1000
    num_tokens = answered(watching)
    assert watching.texts.taken == 0
    assert watching.held <= 1000 + 3 * 2 * VOCABULARY
    assert watching.num_passed > 0
    watching.judge()
    assert 0 < watching.texts.taken < num_tokens
    assert torch.isfinite(watching.texts.log_capital).all()
    found = self_test.figures(watching)
    assert found is not None
    assert found["steps_not_bet_on"] == watching.num_passed


def test_all_steps_of_an_answer_that_fits_are_bet_on():
    watching = witness()
    assert watching is not None
    num_tokens = answered(watching)
    watching.judge()
    assert (watching.texts.taken, watching.num_passed) == (num_tokens, 0)


def test_the_battery_judges_whenever_many_distributions_wait():
    watching = witness()
    assert watching is not None
    watching.most, watching.in_steps = 1000, True
    answered(watching)
    assert watching.texts.taken > 20
    assert watching.held <= 1000 + 3 * 2 * VOCABULARY
    assert watching.num_passed == 0
