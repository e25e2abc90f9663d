"""The recipe of the embedded pair, end to end on a corpus of a few lines, and the promises of its data."""

import math
import random
import re

import pytest
import torch
from hydra import compose, initialize_config_module
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from experiments.training import command as training
from experiments.training.card import bits_per_byte, windows_of
from experiments.training.command import train_tokenizer
from experiments.training.corpus import Corpus, edit, edit_examples, functions, is_held_out
from experiments.training.muon import orthogonalised
from experiments.training.trainer import Windows
from spec.model import resolve_name

SOURCE = '''
def gather(values, limit=10):
    """Collect the first values of an iterable, at most as many as the limit allows."""
    found = []
    for value in values:
        if len(found) >= limit:
            break
        found.append(value)
    return found
'''
HELD_OUT = {"kept.py": SOURCE.replace("found", "result")}
CORPUS = Corpus([SOURCE * 3, SOURCE.replace("gather", "collect") * 2], [SOURCE.replace("value", "item")], HELD_OUT)


def test_what_is_held_out_depends_on_the_path_alone():
    names = [f"package/module{index}.py" for index in range(4000)]
    share = sum(map(is_held_out, names)) / len(names)
    assert 0.025 < share < 0.055
    assert [is_held_out(name) for name in names[:50]] == [is_held_out(name) for name in names[:50]]


def test_edits_do_what_they_say():
    source = functions(SOURCE)[0]
    kinds = set()
    for seed in range(60):
        request, edited = edit(source, random.Random(seed))
        kinds.add(request.split("`")[0].split(" with ")[0])
        if "renamed" in request:
            old, new = request.split("`")[1::2]
            assert not re.search(rf"\b{old}\b", edited) or old == new
            assert len(re.findall(rf"\b{new}\b", edited)) >= len(re.findall(rf"\b{old}\b", source)) > 0
        elif "without" in request:
            assert len(edited.splitlines()) == len(source.splitlines()) - 1
        elif "changed" in request:
            assert "limit=10" not in edited or request.endswith("changed to 10.")
        else:
            assert edited == source
    assert len(kinds) == 3
    assert all(text.startswith("# Repeat") and text.endswith("# End\n") for text in edit_examples([SOURCE], 20, 0))


def test_windows_follow_the_shares():
    pools = {"a": [torch.zeros(50, dtype=torch.int64)], "b": [torch.ones(20, dtype=torch.int64)]}
    windows = Windows(pools, {"a": 0.8, "b": 0.2}, 0)
    batches = torch.cat([windows.batch(4, 24) for _ in range(50)])
    assert batches.shape == (200, 25)
    assert batches.float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_the_tokenizer_keeps_every_byte():
    tokenizer = train_tokenizer(CORPUS.library, 300)
    text = SOURCE + "\n\tünïcode → 'λ'\x00ÿ"
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[1:], clean_up_tokenization_spaces=False) == text
    assert max(ids) < 300
    assert len(tokenizer) == 300
    assert tokenizer.pad_token_id not in ids


def test_padding_takes_no_id_from_a_text():
    """The place of a byte that no text holds is the only one that changes: the embedded weights keep the ids they were trained with."""
    tokenizer = train_tokenizer(CORPUS.library, 300)
    byte_255 = sorted(ByteLevel.alphabet()).index("ÿ") + 1  # behind END
    assert (tokenizer.pad_token_id, len(tokenizer)) == (byte_255, 300)
    embedded = AutoTokenizer.from_pretrained(resolve_name("embedded/target"))
    assert (embedded.pad_token, embedded.pad_token_id, embedded.eos_token_id) == (tokenizer.pad_token, byte_255, tokenizer.eos_token_id)


def test_every_token_is_counted_once():
    tokenizer = train_tokenizer(CORPUS.library, 300)
    text = SOURCE * 40
    tokens = tokenizer(text, verbose=False).input_ids
    counted = [token for start, window in windows_of(text, tokenizer) for token in window[1 + start :].tolist()]
    assert counted == tokens[1:]

    class Uniform:
        device = torch.device("cpu")

        def __call__(self, input_ids, use_cache):
            return type("Output", (), {"logits": torch.zeros(*input_ids.shape, 300)})

    assert bits_per_byte(Uniform(), tokenizer, [text]) == pytest.approx((len(tokens) - 1) * math.log2(300) / len(text.encode()), rel=1e-5)


def test_muon_orthogonalises():
    for shape in ((3, 8, 20), (2, 20, 8)):
        singular = torch.linalg.svdvals(orthogonalised(torch.randn(*shape, generator=torch.Generator().manual_seed(0))))
        assert singular.min() > 0.6
        assert singular.max() < 1.3


def test_the_recipe_runs_goes_on_and_leaves_a_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "read_corpus", lambda: CORPUS)
    shape = ["hidden_size=16", "intermediate_size=16", "num_hidden_layers=1", "num_attention_heads=2", "num_key_value_heads=1", "steps=4"]
    overrides = [f"{part}.{item}" for part in ("target", "drafter") for item in shape]
    with initialize_config_module("conf", version_base=None):
        sizes = ["compile=false", "vocabulary=300", "edit_examples=10", "own_samples=64", "repeats=20"]
        config = compose("train_pair", [*overrides, f"output={tmp_path}", *sizes])
    config.save_every, config.drafter.lessons = 2, 3
    for part in (config.target, config.drafter):
        part.tokens_per_step, part.phases = 64, [{"length": 32, "share": 1.0}]
    main = training.execute
    main(config)
    from spec.model import load_model

    target, drafter = load_model(str(tmp_path / "target")), load_model(str(tmp_path / "drafter"))
    assert target.dtype == torch.float16
    assert target.config.vocab_size == drafter.config.vocab_size == 300
    pad = AutoTokenizer.from_pretrained(tmp_path / "target").pad_token_id
    assert pad == target.config.pad_token_id == drafter.generation_config.pad_token_id != target.config.eos_token_id
    before = {name: path.stat().st_mtime_ns for name in ("target", "drafter") for path in [tmp_path / f"{name}.checkpoint.pt"]}
    main(config)  # finished: nothing is trained again
    assert before == {name: path.stat().st_mtime_ns for name in ("target", "drafter") for path in [tmp_path / f"{name}.checkpoint.pt"]}
    assert "agreement" in (tmp_path / "CARD.md").read_text()
    config.distil_from, config.output = str(tmp_path / "target"), str(tmp_path / "again")
    main(config)  # another drafter for the same target
    assert not (tmp_path / "again" / "target.checkpoint.pt").exists()
    saved = [load_model(str(folder / "target")).state_dict() for folder in (tmp_path, tmp_path / "again")]
    assert all(torch.equal(one, other) for one, other in zip(*(state.values() for state in saved), strict=True))
