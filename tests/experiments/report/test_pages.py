"""The recorded measurements behind docs/exactness.md: that they can be made, and that the page says what they say."""

import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from experiments.bench import verifier_yield
from experiments.report.pages import exactness


def composed(name: str, *overrides: str):
    with initialize_config_module("conf", version_base=None):
        return compose(name, list(overrides))


def test_acceptance_runs_and_pairs_its_methods(tmp_path: Path) -> None:
    output = tmp_path / "acceptance.json"
    sizes = ["num_prompts=12", "max_new_tokens=8", "num_tokens=[2]", "num_chains=[2]", "samples=1", "multi_samples=1"]
    verifier_yield.execute(composed("acceptance", *sizes, f"output={output}"))
    found = json.loads(output.read_text())
    by_name = {row["method"]: row for row in found["methods"]}
    assert {"rejection", "block", "coupled", "kseq, 2 independent", "traversal, 2 distinct", "greedy_multi, 2 greedy"} <= set(by_name)
    assert all(1 <= row["interval"][0] <= row["tokens_per_step"] <= row["interval"][1] <= 3 for row in by_name.values())
    assert "over_rejection" not in by_name["rejection"]
    gain = by_name["block"]["tokens_per_step"] - by_name["rejection"]["tokens_per_step"]
    assert by_name["block"]["over_rejection"] == pytest.approx(gain, abs=1e-3)
    assert found["provenance"]["config_hash"]


def test_tokens_per_step_weigh_every_step_the_same() -> None:
    method, reference = np.array([[10, 30], [5, 10]]), np.array([[10, 20], [5, 5]])
    row = verifier_yield.figures(next(verifier_yield.methods(composed("acceptance"))), method, reference)
    assert row["tokens_per_step"] == pytest.approx(40 / 15, abs=1e-4)
    assert row["over_rejection"] == pytest.approx(40 / 15 - 30 / 10, abs=1e-4)
    assert (row["interval"], row["over_rejection_interval"], row["units"]) == (None, None, 2)


def test_the_page_says_what_the_records_say() -> None:
    page = exactness.PAGE.read_text()
    assert exactness.pages()[exactness.PAGE] == page
