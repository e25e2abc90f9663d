"""docs/models.md is what `python -m experiments.lossless.families` finds: a part on every run, all where DRAFTPROOF_ALL_FAMILIES is set."""

import os
import warnings

import pytest
import torch
import transformers

import spec.masks
from experiments.lossless.families.__main__ import main, trials
from experiments.lossless.families.judge import CHAINS, CRASH, IDENTICAL, NOT_BUILT, REFUSED, WRONG, Finding, find
from experiments.lossless.families.page import PAGE, Trial, page, totals
from experiments.lossless.families.tiny import build, model_class, model_types
from experiments.lossless.families.variants import VARIANTS
from spec import CausalLM

TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| type |", "| what "))]
SAME_VERSION = f"transformers {transformers.__version__} " in TEXT
SOME = ["bart", "bloom", "blt", "deepseek_v3", "deepseek_v32", "gpt_neox", "gpt_oss", "mamba2", "mixtral", "openai-gpt", "roberta", "xglm"]
SOME_VARIANTS = [
    "longrope, a context that passes its switch",
    "longrope, a context below its switch",
    "queries scaled by position",
    "ALiBi from a mask of columns",
]


@pytest.fixture(autouse=True)
def quiet():
    """Classes are tried in ways they were not made for, and say so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def holds(trial):
    """The row is on the page; under another transformers its wording may differ, but nothing may be wrong."""
    assert trial.finding.verdict in (IDENTICAL, CHAINS, REFUSED, NOT_BUILT), trial.finding.why
    assert not SAME_VERSION or trial.row() in ROWS


@pytest.mark.slow
@pytest.mark.parametrize("model_type", SOME)
def test_a_type_is_what_the_page_says(model_type):
    holds(Trial(model_type, find(model_type)))


@pytest.mark.slow
@pytest.mark.parametrize("question", SOME_VARIANTS)
def test_a_variant_is_what_the_page_says(question):
    variant = next(variant for variant in VARIANTS if variant.question == question)
    holds(Trial(variant.model_type, find(variant.model_type, variant.settings, variant.context), variant))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("DRAFTPROOF_ALL_FAMILIES"), reason="set DRAFTPROOF_ALL_FAMILIES=1 for the whole table, which takes minutes")
def test_the_whole_table_is_what_the_page_says():
    for trial in trials():
        holds(trial)


def test_the_page_says_nothing_wrong_and_leaves_little_out():
    cells = [row.split(" | ") for row in ROWS]
    verdicts = [row[2] for row in cells]
    assert set(verdicts) == {IDENTICAL, CHAINS, REFUSED, NOT_BUILT}
    kinds = [row for row in cells if row[1].startswith("`")]
    assert len({row[1] for row in kinds if row[2] == IDENTICAL}) >= 55
    assert sum(row[2] == NOT_BUILT for row in kinds) <= 5
    assert not any(row[2] == NOT_BUILT for row in cells if row not in kinds)


@pytest.mark.skipif(not SAME_VERSION, reason="the page was made with another transformers")
def test_the_page_lists_every_type_and_variant():
    listed = [row.split(" | ")[0].removeprefix("| ") for row in ROWS]
    assert listed == [*model_types(), *[variant.question for variant in VARIANTS]]


def test_a_wrong_mask_is_found(monkeypatch):
    real = spec.masks.draft_bias
    monkeypatch.setattr(spec.masks, "draft_bias", lambda draft, dtype: real(draft, dtype) if draft.is_chain else 0 * real(draft, dtype))
    found = find("llama")
    assert found.verdict == WRONG
    assert "draft tree" in found.why


def test_wrong_positions_are_found(monkeypatch):
    real = spec.masks.positions
    monkeypatch.setattr(spec.masks, "positions", lambda *arguments: (real(*arguments) - 1).clamp(min=0))
    assert find("llama").verdict == WRONG


def test_a_crash_is_found(monkeypatch):
    monkeypatch.setattr(CausalLM, "score", lambda *_, **__: 1 / 0)
    found = find("llama")
    assert (found.verdict, found.why) == (CRASH, "ZeroDivisionError: division by zero")


def test_what_cannot_be_built_says_why():
    assert find("llama", {"hidden_size": 33}).verdict == NOT_BUILT
    found = find("llama", {"intermediate_size": 10**6})
    assert found.verdict == NOT_BUILT
    assert "does not shrink" in found.why


def test_a_model_that_does_not_read_its_prompt_proves_nothing(monkeypatch):
    monkeypatch.setattr("experiments.lossless.families.judge.build", deaf)
    assert "does not read its prompt" in find("llama").why


def deaf(model_type, settings=None):
    model = build(model_type, settings)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    return model


def test_models_are_the_same_every_time():
    first, second = build("qwen3"), build("qwen3")
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    assert isinstance(first, model_class("qwen3"))


def test_an_unknown_type_is_answered_in_one_line():
    with pytest.raises(ValueError, match=r"'lama' is no causal LM of transformers .*; there are llama"):
        main(["lama"])


def test_totals_count_types_and_classes():
    found = [Trial("llama", find("xlm")), Trial("bloom", find("xlm")), Trial("bart", Finding(CHAINS))]
    counted = "3 types: 0 identical, 1 chains only, 2 refused, 0 not built, 0 wrong, 0 crash. Identical are 0 classes, 1 more serve chains."
    assert totals(found) == counted
    assert page(found).count("| refused |") == 2
    assert page(found).count("| chains only |") == 1
