"""The mode `verifiers`: its drafts are honest, every exact verifier is timed on them, and its record is the one that docs/exactness.md shows."""

import pytest
import torch
from hydra import compose, initialize_config_module

from experiments.bench import job as bench
from experiments.bench.verifier_cost import logits_and_draft
from experiments.parts.build import exact_verifiers
from experiments.recording import machine
from experiments.recording.published import newest
from experiments.report.pages.exactness import LINES, cost


@pytest.mark.parametrize("shape", ["chain", "tree"])
def test_the_draft_is_honest(shape):
    logits, draft = logits_and_draft(shape, 7, 2, 50, torch.device("cpu"))
    assert logits.shape == (2, 7, 50)
    assert draft.q is not None
    assert torch.allclose(draft.q.sum(-1), torch.ones(2, 7))
    assert draft.parents[0].tolist() == ([-1, 0, 1, 2, 3, 4, 5] if shape == "chain" else [-1, 0, 0, 1, 1, 2, 2])
    if shape == "tree":
        assert torch.equal(draft.q[:, 1::2], draft.q[:, 2::2])


def test_every_exact_verifier_is_timed_and_the_record_is_the_one_that_the_page_takes(tmp_path, monkeypatch, capsys):
    names = exact_verifiers()
    assert {"rejection", "block", "recursive", "traversal", "kseq", "greedy_multi", "sample_match", "coupled"} == set(names)
    monkeypatch.setattr(bench, "RECORDS", tmp_path)
    monkeypatch.setattr(machine, "git_commit", lambda: "0123456789ab")
    target = ["target=random", "target.name=tiny", "target.device=cpu", "target.dtype=bfloat16", "ours=[none]", "against=[]", "num_prompts=1"]
    sizes = ["verifiers.vocabularies=[40]", "verifiers.rows=[1]", "verifiers.repeats=6", "verifiers.tree_slots=7"]
    with initialize_config_module("conf", version_base=None):
        bench.execute(compose("bench", ["mode=verifiers", "record=true", *target, *sizes]), tmp_path)
    record = newest("verification-cost", "", tmp_path)
    chain, tree = record["cases"]
    assert (chain["shape"], tree["shape"]) == ("chain", "tree")
    assert set(chain["verifiers"]) == {"softmax", "distribution", *names}
    assert "block" not in tree["verifiers"]
    assert chain["verifiers"]["softmax"]["ratio"] == 1
    assert chain["verifiers"]["softmax"]["interval"] == [1, 1]
    assert record["provenance"]["dtype"] == "float32"
    assert all(cost(record, line, vocabulary=40) != "-" for line in LINES if line.verifier in chain["verifiers"])
    assert "V = 40, tree of 7, 1 rows" in capsys.readouterr().out
