"""The arithmetic of the benchmark, from given seconds: nothing here is timed."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from experiments.bench import figures, memory, slots
from experiments.bench.batches import pays_until
from experiments.bench.interleaved import Rounds, Run, interleave
from experiments.bench.material import Material
from experiments.bench.set_acceptance import PaidOracle, repeated
from experiments.bench.traffic import Footprint, bytes_per_token, footprint, measure_bandwidth
from experiments.parts.random_target import random_model
from experiments.parts.roles import Answer, Loop, Role
from experiments.recording.clock import Site, Spent, Stopwatch, signs_of_load, timed
from spec import Limits, Sampler
from spec.stats import GenerationStats, Step
from verifiers.recursive import Recursive


def run(prompt, seconds, tokens, forwards, *, steps=None, process=1.0):
    stats = None
    if steps is not None:
        stats = GenerationStats([Step([2], [2], [count - 1], [count], [False], seconds={"target": 0.1, "draft": 0.05}) for count in steps], 0.5)
    answer = Answer([7] * tokens, len(forwards) if steps is None else len(steps), stats=stats)
    return Run(prompt, answer, Spent(seconds, process, forwards))


@dataclass
class Peer(Role):
    """Answers two tokens and notes that it was asked."""

    name: str
    steps_apart: bool = True
    calls: Any = None

    @property
    def sites(self):
        return [] if self.calls is not None else [Site(None, "x", "target")]

    def answer(self, prompts, *, sampler, limits, ids=None):
        self.calls.extend((self.name, index) for index in ids or ())
        return [Answer([1, 2], 2)]


def loop() -> Any:
    """Our loop as far as figures look at it."""
    model: Any = SimpleNamespace(model=None, runtime=None, runtime_kind="hf", lean=None)
    drafter: Any = SimpleNamespace(models={"drafter": model})
    return Loop(model, drafter, Recursive(), "draft_model")


def plain(prompt, seconds, tokens=4):
    return run(prompt, seconds, tokens, [("target", 0.4), *[("target", 0.1)] * (tokens - 1)])


def test_ratios_are_of_totals_paired_by_prompt_over_medians_of_rounds():
    slow = [plain(0, 4.0), plain(0, 400.0), plain(0, 4.0), plain(1, 8.0), plain(1, 8.0), plain(1, 0.1)]
    fast = [plain(0, 2.0), plain(0, 2.0), plain(1, 2.0)]
    roles = [Peer("slow"), Peer("fast")]
    rounds = Rounds({"slow": slow, "fast": fast}, {"slow": [1.0], "fast": [9.0]})
    rows = [figures.figures(role, rounds, [10, 10], {"target": Footprint(1000, 10)}, 1e4) for role in roles]
    found = figures.ratios(rows[1], rows)["slow"]
    assert found["ratio"] == pytest.approx((4 + 8) / (2 + 2))
    assert found["macro"] == pytest.approx((2 * 4) ** 0.5)
    assert (found["wins"], found["losses"]) == (2, 0)
    assert set(figures.ratios(rows[0], rows)) == {"fast"}
    assert figures.describe(found) == "3.00 [-, 2 units]"


def test_figures_of_plain_decoding_tell_the_prompt_from_the_steps():
    rounds = Rounds({"generate": [plain(0, 1.0)]}, {"generate": [3.0, 1.0]})
    found = figures.figures(Peer("generate"), rounds, [10], {"target": Footprint(1000, 10)}, bandwidth=1e4)
    assert found["ms_per_token"] == pytest.approx(250)
    assert found["decode_ms_per_token"] == pytest.approx(1000 * (1.0 - 0.4) / 3)
    assert found["outside_forwards"] == pytest.approx(0.3)
    assert found["outside_forwards_of_steps"] == pytest.approx(0.5)
    moved = 1000 + 10 * (10 + 3 / 2)
    assert found["bytes_per_token"] == pytest.approx(moved)
    assert found["of_bandwidth"] == pytest.approx(moved / 1e4 / 0.2)
    assert found["tokens_per_forward"] == 1
    assert found["warmup_seconds"] == [3.0, 1.0]


def test_figures_of_ours_come_from_its_own_clocks():
    forwards = [("target", 0.4), ("drafter", 0.2), *[("drafter", 0.02), ("drafter", 0.02), ("target", 0.1)] * 2]
    rounds = Rounds({"draft_model": [run(0, 1.0, 5, forwards, steps=[3, 2])]}, {"draft_model": []})
    found = figures.figures(loop(), rounds, [10], {"target": Footprint(1000, 0), "drafter": Footprint(100, 0)}, bandwidth=1e4)
    assert (found["ours"], found["runtime"]) == (True, "hf")
    assert found["decode_ms_per_token"] == pytest.approx(1000 * 0.3 / 5)
    assert found["tokens_per_forward"] == 2.5
    assert found["bytes_per_token"] == pytest.approx((2 * 1000 + 4 * 100) / 5)
    assert found["outside_forwards_of_steps"] == pytest.approx(1 - (0.2 + 0.08) / 0.3)
    assert found["phase_ms_per_token"]["draft"] == pytest.approx(1000 * 0.1 / 5)
    assert found["phase_ms_per_token"]["prefill"] == pytest.approx(1000 * 0.5 / 5)
    assert found["acceptance_rate"] == pytest.approx(3 / 4)


def test_an_assisted_peer_counts_its_first_forward_since_that_checks_a_draft_too():
    runs = [run(0, 1.0, 8, [("target", 0.1)] * 2)]
    assert figures.rate(runs) == 4
    role = Peer("generate, assisted", steps_apart=False)
    found = figures.figures(role, Rounds({role.name: runs}, {role.name: []}), [10], {"target": Footprint(1, 1)}, 1.0)
    assert found["decode_ms_per_token"] is None
    assert found["bytes_per_token"] is None
    assert found["outside_forwards_of_steps"] is None


def test_a_stopwatch_counts_nested_calls_once_and_gives_methods_back():
    class Model(torch.nn.Module):
        def forward(self, number):
            return 1 / number if number <= 1 else self.forward(number - 1)

    model, watch = Model(), Stopwatch(torch.device("cpu"))
    with watch.watch([Site(model, "forward", "target")]):
        _, spent = timed(lambda: [model(3), model(1)], watch)
        with pytest.raises(ZeroDivisionError):
            model(0)
    assert [role for role, _ in spent.forwards] == ["target", "target"]
    assert 0 < spent.forward_seconds("target") <= spent.seconds
    assert (spent.num_forwards("target"), spent.num_forwards("drafter"), spent.forward_seconds("drafter")) == (2, 0, 0)
    assert "forward" not in vars(model)


def test_every_role_answers_every_prompt_in_an_order_of_its_own():
    calls = []
    roles = [Peer(name, calls=calls) for name in "abc"]
    config: Any = OmegaConf.create({"repeats": 4, "warmup": 2, "seed": 0})
    target: Any = SimpleNamespace(device=torch.device("cpu"))
    material = Material(config, target, Sampler(), Recursive(), Limits(2), [[1], [2], [3]])
    rounds = interleave(roles, material)
    assert calls[:6] == [("a", 0), ("a", 1), ("a", 2)] * 2
    measured = calls[18:]
    assert all(sorted(measured[start : start + 3]) == [(name, start // 3 % 3) for name in "abc"] for start in range(0, 36, 3))
    assert len({tuple(name for name, _ in measured[start : start + 3]) for start in range(0, 36, 3)}) > 2
    assert {name: len(runs) for name, runs in rounds.runs.items()} == {"a": 12, "b": 12, "c": 12}
    assert all(len(rounds.warmup_seconds[name]) == 2 for name in "abc")
    with pytest.raises(ValueError, match="two ways have the same name"):
        interleave([roles[0], roles[0]], material)


@pytest.mark.parametrize(
    ("before", "after", "waiting", "signs"),
    [(0.3, 1.2, 0.99, 0), (1.8, 1.0, None, 1), (0.1, 2.9, None, 1), (0.1, 1.0, 0.6, 1), (3.0, 4.0, 0.5, 3), (None, None, None, 0)],
)
def test_a_run_under_load_is_marked(before, after, waiting, signs):
    assert len(signs_of_load(before, after, 2, 1, waiting)) == signs


def test_a_footprint_leaves_out_an_input_embedding_that_is_not_the_head():
    model = random_model("tiny", "bfloat16", context=64)
    found = footprint(model)
    rest = sum(weights.nbytes for weights in model.parameters()) - model.model.embed_tokens.weight.nbytes
    assert rest <= found.weights < rest + 1000  # and a few buffers
    assert found.kv_per_position == 2 * 2 * 2 * 16 * 2  # keys and values, layers, heads, width, bytes
    model.lm_head.weight = model.model.embed_tokens.weight
    assert footprint(model).weights == found.weights
    assert found.forward(3, 10) == found.weights + 30 * found.kv_per_position
    assert bytes_per_token(Footprint(100, 1), forwards=5, prompt_tokens=8, new_tokens=10) == 5 * (100 + 13) / 10


def test_bandwidth_is_measured_both_ways():
    found = measure_bandwidth(torch.device("cpu"), num_bytes=2**16, repeats=2)
    assert found.limit == max(found.read, found.copy) > 0


def test_growth_compares_the_peak_after_the_warm_up_with_the_peak_in_it():
    found = memory.growth([10, 30, 20, 20, 22, 24, 26], warmup=3)
    assert (found.peak_before, found.peak_after, found.grew) == (30, 26, 0)
    assert found.per_prompt == pytest.approx(2)
    assert memory.growth([10, 10, 25, 15], warmup=2).grew == 15
    with pytest.raises(ValueError, match="at least 2 of each"):
        memory.growth([1, 2, 3], warmup=2)
    assert memory.resident() > 2**20


def test_what_must_be_held_is_weights_cache_and_logits():
    model = random_model("tiny", context=64)
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    found = memory.must_hold(model, rows=2, positions=10, slots=3)
    assert found - weights <= 2 * 10 * 512 + 2 * 3 * 512 * 4
    assert found >= sum(tensor.nbytes for tensor in model.parameters()) + 2 * 10 * 512 + 2 * 3 * 512 * 4


def test_drafting_pays_up_to_the_size_before_the_first_that_is_not_faster():
    def lines(*speedups):
        return [{"rows": 2**index, "speedup": speedup} for index, speedup in enumerate(speedups)]

    assert pays_until(lines(1.5, 1.2, 0.9, 1.1)) == 2
    assert pays_until(lines(0.9, 1.2)) is None
    assert pays_until(lines(1.5, 1.2)) == 2


def test_a_point_of_the_cost_curve_is_a_ratio_of_medians():
    seconds = {("bed", 1): [1.0, 1.0, 5.0] * 2, ("bed", 4): [2.0, 3.0, 3.0] * 2}
    found = slots.point(seconds, "bed", 4)
    assert (found["slots"], found["ms"], found["ratio"]) == (4, 3000, 3)
    assert found["interval"][0] <= found["interval"][1]


def test_recordings_are_repeated_for_larger_batches():
    assert repeated({0: [1], 1: [2]}, 3) == {0: [1], 1: [2], 2: [1]}


def test_an_oracle_without_recordings_cannot_be_paid_for():
    from drafters.draft_model import DraftModel
    from drafters.oracle import Oracle

    with pytest.raises(ValueError, match="recorded continuations"):
        PaidOracle(DraftModel(), Oracle())
