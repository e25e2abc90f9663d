"""Distributions by the shape of the forward: that reading a text in any shape reads the same text, and that the figures are those of given
distributions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module

from experiments.lossless.slots import job as slots
from experiments.lossless.slots.forwards import PLAIN, Text, Way, draft, read
from experiments.lossless.slots.gaps import figures, gap, likelihood, text_gap
from experiments.recording.published import newest
from experiments.report.pages import slots as slots_page
from spec import CausalLM
from tests.tiny import build

TEXTS = [Text([3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8]), Text([2, 7], [1, 8, 2, 8, 1, 8, 2])]
WAYS = [Way("chain", 2), Way("chain", 4), Way("tree", 6), Way("tree", 16), Way("chain", 1, rows=2), Way("chain", 3, rows=2)]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_every_way_reads_the_same_distributions_in_float64(way: Way) -> None:
    """Held against one forward over the whole text, which knows nothing of caches and drafts."""
    target = CausalLM(build("llama"))
    found = [logits for group in slots.chunks(TEXTS, way.rows) for logits in read(target, group, way)]
    for text, logits in zip(TEXTS, found, strict=True):
        tokens = [*text.prompt, *text.answer]
        with torch.inference_mode():
            whole = target.model(input_ids=torch.tensor([tokens])).logits[0, len(text.prompt) - 1 : -1]
        assert logits.shape == whole.shape
        assert torch.allclose(logits, whole, atol=1e-10)


def test_the_text_stands_on_a_path_of_the_tree() -> None:
    way = Way("tree", 16)
    parents, path = way.parents(), way.path()
    assert path == [0, 2, 6, 14]
    assert [parents[slot] for slot in path[1:]] == path[:-1]
    assert sorted(parents) == [-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]
    assert draft(way, torch.zeros(2, 16, dtype=torch.int64)).depths()[0, path].tolist() == [0, 1, 2, 3]


def test_a_tree_that_mixes_up_its_slots_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Way, "path", lambda way: [0, 1, 3] if way.shape == "tree" else [0])
    monkeypatch.setattr(Way, "parents", lambda way: [-1, 0, 0, 2, 2, 1, 1] if way.shape == "tree" else [-1])
    target = CausalLM(build("llama"))
    plain, other = (read(target, TEXTS[:1], way)[0] for way in (PLAIN, Way("tree", 7)))
    assert figures([gap(plain, other, [1.0])], [1.0])["tv"][0]["largest"] > 1e-3


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="tree of 0 slots for 1 rows: give at least 1"):
        Way("tree", 0)


def test_figures_of_known_distributions() -> None:
    one = torch.tensor([[0.5, 0.25, 0.25], [0.4, 0.4, 0.2]]).double().log()
    other = torch.tensor([[0.25, 0.5, 0.25], [0.4, 0.4, 0.2]]).double().log()
    found = figures([gap(one, other, [1.0, 0.5])], [1.0, 0.5])
    assert [entry["temperature"] for entry in found["tv"]] == [1.0, 0.5]
    assert found["tv"][0]["mean"] == pytest.approx(0.25 / 2)
    assert found["tv"][0]["largest"] == pytest.approx(0.25)
    assert found["tv"][1]["largest"] == pytest.approx((0.25 - 0.0625) / 0.375)  # squares, normalised
    assert (found["flips"], found["flip_share"]) == (1, 0.5)
    assert found["largest_flipped_margin"] == pytest.approx(np.log(2))
    bins = {entry["margin_up_to"]: (entry["positions"], entry["flips"]) for entry in found["by_margin"]}
    assert bins[0.0] == (1, 0)
    assert bins[1.0] == (1, 1)
    assert sum(entry["positions"] for entry in found["by_margin"]) == found["positions"] == 2


def test_a_mean_has_an_interval_over_texts_and_equal_texts_have_none() -> None:
    even, odd = torch.tensor([[0.5, 0.5]]).double().log(), torch.tensor([[0.3, 0.7]]).double().log()
    several = [gap(even, odd if index % 2 else even, [1.0]) for index in range(20)]
    low, high = figures(several, [1.0])["tv"][0]["interval"]
    assert 0.02 < low < 0.1 < high < 0.18
    assert figures(several[1::2], [1.0])["tv"][0]["interval"] == pytest.approx([0.2, 0.2])


def test_the_tv_of_texts_is_that_of_their_distributions() -> None:
    """Every text of two tokens, each weighed by the probability with which it is sampled."""
    distributions = [torch.rand(2, 3, generator=torch.Generator().manual_seed(seed)).double() for seed in range(3)]
    logits = [(distribution / distribution.sum(-1, keepdim=True)).log() for distribution in distributions]
    estimate, direct = 0.0, 0.0
    for text in np.ndindex(3, 3):
        one, other, sampled = (likelihood(found, text, 1.0) for found in logits)
        estimate += np.exp(sampled) * text_gap(one, other, sampled)
        direct += 0.5 * abs(np.exp(one) - np.exp(other))
    assert estimate == pytest.approx(direct)
    assert direct > 0.05


def test_the_command_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "slots.json"
    sizes = ["num_prompts=3", "max_new_tokens=4", "dtypes=[float64,bfloat16]", "chains=[4]", "trees=[7]", "rows=[2]", f"output={output}"]
    with initialize_config_module("conf", version_base=None):
        config = compose("slots", sizes)
    slots.execute(config)
    found = json.loads(output.read_text())
    names = ["chain of 4", "tree of 7", "1 slot, 2 rows"]
    assert [(case["dtype"], case["way"]) for case in found["cases"]] == [
        *(("float64", name) for name in names),
        *(("bfloat16", name) for name in [*names, slots.ROUNDING]),
    ]
    largest = {(case["dtype"], case["way"]): case["tv"][0]["largest"] for case in found["cases"]}
    assert max(largest["float64", name] for name in names) < 1e-12
    assert 1e-5 < largest["bfloat16", slots.ROUNDING] < 0.2
    assert max(largest["bfloat16", name] for name in names) < 0.2
    assert all(case["positions"] == 12 for case in found["cases"])
    assert found["provenance"]["dtype"] == ["float64", "bfloat16"]
    assert "chain of 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("temperatures=[0]", "temperatures above 0"),
        ("dtypes=[]", "at least one dtype"),
        ("chains=[0]", "at least 1"),
        ("target=random", "no tokenizer"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(override: str, reason: str) -> None:
    with initialize_config_module("conf", version_base=None):
        config = compose("slots", ["num_prompts=1", "max_new_tokens=2", "dtypes=[float32]", override])
    with pytest.raises(ValueError, match=reason) as caught:
        slots.execute(config)
    assert "\n" not in str(caught.value)


def test_the_page_says_what_the_record_says() -> None:
    assert slots_page.PAGE.read_text() == slots_page.pages()[slots_page.PAGE]


def test_what_the_page_says_in_words_holds_in_the_record() -> None:
    """As far in a batch of eight as in a draft of eight; further by the dtype's own rounding than by any shape."""
    record = newest("slots", "experiments.lossless.slots output=...")
    mean = {(case["dtype"], case["way"]): slots_page.tv(case, 1.0)["mean"] for case in record["cases"]}
    for dtype in ("float32", "bfloat16", "float16"):
        assert mean[dtype, "1 slot, 8 rows"] == pytest.approx(mean[dtype, "chain of 8"], rel=0.1)
    for dtype in ("bfloat16", "float16"):
        assert all(value <= mean[dtype, slots.ROUNDING] for (name, _), value in mean.items() if name == dtype)
    assert "dirty" not in record["provenance"]["git_commit"]


def test_numbers_are_written_with_two_digits() -> None:
    assert [slots_page.said(value) for value in (0.0, 3.21e-16, 6.3e-4, 0.00434, 0.0716, 0.125)] == [
        "0",
        "3.2e-16",
        "6.3e-4",
        "0.0043",
        "0.072",
        "0.12",
    ]
