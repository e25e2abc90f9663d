"""What `summary.json` says, against records small enough to count by hand."""

import dataclasses
import json
import math
from typing import Any

import pytest

from experiments.analysis.repetition import loops, repeated_ngrams
from experiments.analysis.speedup import faster
from experiments.analysis.summary import by_position, labels, summarise, to_json
from experiments.analysis.tables import comparison_rows, run_rows
from experiments.recording.record import Pair
from tests.experiments.recorded import PROVENANCE, clocks
from tests.experiments.samples import record

CONFIG: dict[str, Any] = {
    "seed": 0,
    "target": {"_target_": "experiments.parts.target.load_target", "name": "embedded/target"},
    "drafter": {"_target_": "drafters.prompt_lookup.PromptLookup", "num_tokens": 5},
    "verifier": {"_target_": "verifiers.recursive.Recursive"},
    "data": {"_target_": "experiments.parts.data.sources.jsonl", "path": "some/questions.jsonl"},
    "sampling": {"_target_": "spec.sampling.Sampler", "temperature": 0.0},
}


def a_pair(index: int, seconds: float = 1.0, baseline_seconds: float = 1.5, **changes: Any) -> Pair:
    """Four tokens in two steps against four in four, at `baseline_seconds / seconds` the speed."""
    common = {"batch": index, "tokens": [1, 2, 3, 4], "category": "ab"[index % 2]}
    counts = {"num_steps": 2, "num_drafted": 5, "num_accepted": 2, "tested": [2, 1], "kept": [1, 1]}
    method = record(f"p{index}", **{**common, **counts, "seconds": clocks(seconds), **changes})
    plain = {"num_steps": 4, "num_drafted": 0, "num_accepted": 0, "tested": [], "kept": []}
    return Pair(method, record(f"p{index}", "baseline", **common, **plain, seconds=clocks(baseline_seconds)))


def summary(pairs: list[Pair], exact: bool = True, **provenance: Any) -> dict[str, Any]:
    return summarise(pairs, CONFIG, {**PROVENANCE, **provenance}, exact=exact)


def test_rates_and_speedup_by_hand() -> None:
    found = summary([a_pair(index) for index in range(6)])
    assert found["num_prompts"] == found["num_units"] == 6
    assert found["num_tokens"] == 24
    assert found["tokens_per_step"] == 2.0
    assert found["accepted_per_step"] == 1.0
    assert found["acceptance_rate"] == pytest.approx(0.4)
    assert found["acceptance_by_position"] == [0.5, 1.0]
    assert found["tokens_per_second"] == pytest.approx(4.0)
    assert found["baseline_tokens_per_second"] == pytest.approx(12 / 4.5)
    assert found["tokens_per_second_with_prefill"] == pytest.approx(4 / 1.1)
    assert found["baseline_tokens_per_second_with_prefill"] == pytest.approx(4 / 1.6)
    assert found["speedup"] == pytest.approx(1.5)
    assert found["speedup_macro"] == pytest.approx(1.5)
    assert found["speedup_with_prefill"] == pytest.approx(1.6 / 1.1)
    assert found["speedup_interval"] == pytest.approx((1.5, 1.5))
    assert found["speedup_with_prefill_interval"] == pytest.approx((1.6 / 1.1, 1.6 / 1.1))
    assert (found["over_fastest_plain"], found["fastest_plain"]) == (pytest.approx(1.6 / 1.1), "baseline")
    assert found["seconds"] == pytest.approx({name: 6 * value for name, value in clocks(1.0).items()})
    assert found["greedy_identical"] == 1.0
    assert found["valid"]
    assert found["warnings"] == []
    assert {name: part["num_prompts"] for name, part in found["by_category"].items()} == {"a": 3, "b": 3}
    assert json.loads(to_json(found))["labels"] == {**labels(CONFIG)}


def test_the_ratio_weighs_tokens_and_the_macro_mean_weighs_prompts() -> None:
    slow, fast = a_pair(0, seconds=1.0, baseline_seconds=1.0), a_pair(1, seconds=0.1, baseline_seconds=0.4)
    found = faster([slow.baseline, fast.baseline], [slow.method, fast.method])
    assert found.ratio == pytest.approx(1.4 / 1.1)
    assert found.macro == pytest.approx(2.0)
    assert found.interval is None


def test_prompts_of_one_batch_are_one_unit() -> None:
    second = Pair(dataclasses.replace(a_pair(1).method, batch=0), dataclasses.replace(a_pair(1).baseline, batch=0))
    found = faster([a_pair(0).baseline, second.baseline], [a_pair(0).method, second.method])
    assert (found.interval, found.wins, found.units) == (None, 1, 1)


def test_the_fastest_plain_decoding_of_a_run_may_be_a_peer() -> None:
    """A peer that drafts is faster still, and does not count: a forward of it may make several tokens."""
    pairs = []
    for index in range(6):
        pair = a_pair(index)
        plain = dataclasses.replace(pair.baseline, role="openvino", seconds={"generate": 0.8}, prefill_seconds=0.0)
        drafting = dataclasses.replace(pair.method, role="assisted", seconds={"generate": 0.4}, prefill_seconds=0.0)
        pairs.append(Pair(pair.method, pair.baseline, {"openvino": plain, "assisted": drafting}))
    found = summary(pairs)
    assert found["fastest_plain"] == "openvino"
    assert found["over_fastest_plain"] == pytest.approx(0.8 / 1.1)
    assert found["over_fastest_plain_interval"] == pytest.approx((0.8 / 1.1, 0.8 / 1.1))
    row = run_rows(found)[0]
    assert (row["end-to-end speedup"], row["over fastest plain"]) == ("1.45 [1.45, 1.45]", "0.73 [0.73, 0.73] (openvino)")


def test_conditional_rates_of_records_of_different_depth() -> None:
    assert by_position([record("a", tested=[4, 2], kept=[2, 1]), record("b", tested=[4], kept=[0])]) == [0.25, 0.5]


def test_a_speedup_beyond_tokens_per_step_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.analysis.summary.CLOCKS_WOBBLE", 1.05)
    found = summary([a_pair(index, baseline_seconds=2.5) for index in range(6)])
    assert not found["valid"]
    assert "the baseline is too slow" in found["warnings"][0]


def test_a_speedup_without_an_interval_is_doubted_and_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.analysis.summary.CLOCKS_WOBBLE", 1.05)
    found = summary([a_pair(0, baseline_seconds=2.5)])
    assert found["valid"]
    assert any("speedup 2.50 exceeds tokens per step 2.00" in text for text in found["warnings"])
    uneven = summary([a_pair(0, baseline_seconds=4.0), a_pair(1, baseline_seconds=1.5), a_pair(2, baseline_seconds=1.5)])
    assert uneven["speedup"] > 1.05 * uneven["tokens_per_step"]
    assert uneven["valid"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_accepted": 3}, "4 tokens emitted, but 3 accepted in 2 steps"), ({"after_eos": 2}, "2 tokens were emitted after an EOS")],
)
def test_books_that_do_not_balance_are_an_error(changes: dict[str, Any], message: str) -> None:
    found = summary([a_pair(0, **changes), a_pair(1)])
    assert not found["valid"]
    assert message in found["warnings"][0]


@pytest.mark.parametrize(
    ("dtype", "margin", "valid"), [("float32", 0.01, False), ("bfloat16", 0.01, True), ("bfloat16", 0.5, False), ("float32", 1e-6, True)]
)
def test_a_greedy_divergence_is_excused_by_rounding_only(dtype: str, margin: float, valid: bool) -> None:
    parted = {"index": 3, "method": 9, "baseline": 4, "margin": margin, "logit": 5.0}
    found = summary([a_pair(0, tokens=[1, 2, 3, 9], divergence=parted), a_pair(1)], dtype=dtype)
    assert found["greedy_identical"] == 0.5
    assert found["divergences"] == [{"prompt": "p0", **parted}]
    assert found["valid"] is valid
    assert any("differ from plain greedy decoding" in text for text in found["warnings"])


def test_a_lossy_verifier_may_diverge() -> None:
    parted = {"index": 3, "method": 9, "baseline": 4, "margin": 1.0, "logit": 5.0}
    assert summary([a_pair(0, tokens=[1, 2, 3, 9], divergence=parted), a_pair(1)], exact=False)["valid"]


def test_a_busy_machine_and_looping_answers_are_told() -> None:
    found = summary([a_pair(0, loops=True), a_pair(1)], load_average_before=7.5)
    assert found["valid"]
    assert "load average 7.50 on 8 cores" in found["warnings"][0]
    assert "1 of 2 answers end in a loop" in found["warnings"][1]


def test_eight_grams_seen_before() -> None:
    assert repeated_ngrams(range(7)) == (0, 0)
    assert repeated_ngrams(range(20)) == (0, 13)
    assert repeated_ngrams([*range(8), *range(8)]) == (1, 9)
    assert repeated_ngrams([5] * 20) == (12, 13)


def test_loops_are_found_at_the_end_only() -> None:
    start = list(range(100, 140))
    assert loops([*start, *[1, 2, 3] * 8])
    assert loops([*start, *[1, 2, 3] * 8, 1])
    assert loops([*start, *list(range(20)) * 3])
    assert loops([7] * 24)
    assert not loops([7] * 23)
    assert not loops([*[1, 2, 3] * 8, *start])
    assert not loops([*start, *list(range(20)) * 2])
    assert not loops([])


def test_tables_show_what_differs() -> None:
    pairs = [a_pair(index) for index in range(6)]
    one = summary(pairs)
    other = summarise(pairs, {**CONFIG, "drafter": {**CONFIG["drafter"], "num_tokens": 9}}, PROVENANCE, exact=True)
    rows = comparison_rows([one, other])
    assert [row["drafter"] for row in rows] == ["prompt_lookup (num_tokens=5)", "prompt_lookup (num_tokens=9)"]
    assert "target" not in rows[0]
    assert (rows[0]["units"], rows[0]["end-to-end tokens/s"], rows[0]["plain"]) == ("6", "3.6", "2.5")
    assert rows[0]["end-to-end speedup"] == "1.45 [1.45, 1.45]"
    assert rows[0]["over fastest plain"] == "1.45 (our own)"
    assert rows[0]["decode-only speedup"] == "1.50 [1.50, 1.50]"
    assert rows[0]["decode time in draft/target/rest"] == "20 % / 50 % / 30 %"
    assert [row["category"] for row in run_rows(one)] == ["all", "a", "b"]
    assert run_rows(one)[1]["decode-only speedup"] == "1.50 [-, 3 units]"


def test_an_answer_too_short_for_a_rate_has_none() -> None:
    found = summary([a_pair(0, num_drafted=0, num_accepted=0, num_steps=4, tested=[], kept=[])])
    assert found["acceptance_rate"] is None
    assert found["repetition"] is None
    assert found["speedup_interval"] is None
    assert math.isfinite(found["speedup"])
    assert run_rows(found)[0]["accepted"] == "-"
