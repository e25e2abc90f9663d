"""A model with something wrong is refused in one line: damaged files, missing weights, other kinds of models, words that mean nothing."""

import json
import urllib.error
from pathlib import Path

import pytest
import torch
from transformers import BartConfig, BertConfig, BertForMaskedLM, BertLMHeadModel, T5Config

import spec.loading
from drafters.draft_model import DraftModel
from spec import CausalLM
from spec.loading import load_config, load_model, load_tokenizer
from tests.spec.damaged import INDEX, configure, copied, cut, reweigh, shard


def refusal(name, load=load_model, told="could not be loaded: ") -> str:
    """The one line that says what is wrong."""
    with pytest.raises(ValueError, match=told) as caught:
        load(name)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture
def folder(tmp_path) -> Path:
    return copied(tmp_path / "model")


def test_a_whole_copy_loads_whole_or_in_shards(folder):
    whole = load_model(folder).state_dict()
    shard(folder)
    assert all(torch.equal(weight, whole[name]) for name, weight in load_model(str(folder)).state_dict().items())
    assert len(load_tokenizer(folder)) == len(load_tokenizer("embedded/target"))


WRONG_WEIGHTS = {
    "one missing": (lambda folder: reweigh(folder, "model.norm"), r"1 missing \(model\.norm\.weight\)"),
    "a layer missing": (lambda folder: reweigh(folder, "layers.3."), r"9 missing \(model\.layers\.3\.input_layernorm\.weight, .*, \.\.\.\)"),
    "a head missing": (lambda folder: configure(folder, tie_word_embeddings=False), r"1 missing \(lm_head\.weight\)"),
    "unknown": (lambda folder: reweigh(folder, value_head=torch.zeros(2)), r"1 unknown \(value_head\)"),
    "another shape": (
        lambda folder: reweigh(folder, model__norm__weight=torch.zeros(3)),
        r"1 of another shape \(model\.norm\.weight is \[3\] .* \[256\]\)",
    ),
    "more layers wanted": (lambda folder: configure(folder, num_hidden_layers=8), r"18 missing \(model\.layers\.6"),
    "fewer layers wanted": (lambda folder: configure(folder, num_hidden_layers=4), r"18 unknown \(model\.layers\.4"),
}


@pytest.mark.parametrize("damage", WRONG_WEIGHTS)
def test_weights_must_be_those_of_the_model(folder, damage, caplog):
    change, told = WRONG_WEIGHTS[damage]
    change(folder)
    line = refusal(folder, told=told)
    assert f"the weights in {folder} are not those of its config.json: " in line
    assert line.endswith("; take a complete copy of the model")
    assert "LOAD REPORT" not in caplog.text


def test_a_draft_model_is_checked_alike(folder):
    reweigh(folder, "model.norm")
    target = CausalLM(load_model("embedded/target"))
    with pytest.raises(ValueError, match=r"model '.*' could not be loaded: .*1 missing \(model\.norm\.weight\)"):
        DraftModel(str(folder)).attach(target)


def test_rotary_buffers_of_old_checkpoints_and_tied_heads_are_no_fault(folder):
    reweigh(folder, model__layers__0__self_attn__rotary_emb__inv_freq=torch.zeros(3), model__attention__inv_freq=torch.zeros(3))
    assert load_model(folder).config.tie_word_embeddings


DAMAGED = {
    "weights empty": (lambda folder: cut(folder / "model.safetensors", 0), r"model\.safetensors is empty"),
    "weights cut": (
        lambda folder: cut(folder / "model.safetensors"),
        r"model\.safetensors is cut short: it has 4954284 bytes and should have 9908568",
    ),
    "header cut": (lambda folder: cut(folder / "model.safetensors", 1e-5), r"model\.safetensors is no safetensors file, or a damaged one"),
    "weights are text": (lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs"), "is no safetensors file"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"has no weights: neither model\.safetensors nor"),
    "shard missing": (lambda folder: shard(folder)[1].unlink(), r"model-00002-of-00002\.safetensors is missing"),
    "shard cut": (lambda folder: cut(shard(folder)[1]), r"model-00002-of-00002\.safetensors is cut short"),
    "index cut": (lambda folder: (shard(folder), cut(folder / INDEX)), r"index\.json is damaged"),
    "index without files": (lambda folder: (shard(folder), (folder / INDEX).write_text("{}")), "names no files"),
    "config empty": (lambda folder: cut(folder / "config.json", 0), r"config\.json is empty"),
    "config cut": (lambda folder: cut(folder / "config.json"), r"config\.json is damaged: it is not JSON"),
    "config a list": (lambda folder: (folder / "config.json").write_text("[]"), "holds no JSON object"),
    "config bytes": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "is not JSON"),
    "config missing": (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
    "no kind": (lambda folder: (folder / "config.json").write_text("{}"), "has no model_type"),
    "unknown kind": (lambda folder: configure(folder, model_type="fancy"), "does not know its model_type 'fancy'"),
    "values": (lambda folder: configure(folder, num_attention_heads="four"), "transformers cannot read .*expected int"),
    "activation": (lambda folder: configure(folder, hidden_act="foo"), "transformers cannot read .*KeyError: 'foo'"),
    "generation config": (lambda folder: cut(folder / "generation_config.json"), r"generation_config\.json is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files_are_named_in_one_line(folder, damage):
    change, told = DAMAGED[damage]
    change(folder)
    assert refusal(folder, told=told).startswith(f"model '{folder}' could not be loaded: ")


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_damaged_tokenizer_is_named(folder, file, share):
    cut(folder / file, share)
    line = refusal(folder, load_tokenizer)
    assert line.startswith(f"tokenizer '{folder}' could not be loaded: ")
    assert str(folder / file) in line


def test_a_missing_tokenizer_is_named(folder):
    (folder / "tokenizer.json").unlink()
    assert f"{folder} holds no tokenizer" in refusal(folder, load_tokenizer)
    (folder / "tokenizer.json").write_text("{}")
    assert f"transformers cannot read {folder}" in refusal(folder, load_tokenizer)


@pytest.mark.parametrize("config", [T5Config(), BartConfig()], ids=["t5", "bart"])
def test_encoder_decoders_are_refused(folder, config):
    config.save_pretrained(folder)
    assert f"it is an encoder-decoder model ({config.model_type})" in refusal(folder)


@pytest.mark.parametrize(("kind", "told"), [(BertForMaskedLM, r"it is an encoder \(BertForMaskedLM\)"), (BertLMHeadModel, "attends to later tokens")])
def test_encoders_are_refused(folder, kind, told):
    kind(BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)).save_pretrained(folder)
    with pytest.raises(ValueError, match=told):
        CausalLM(load_model(folder))


def test_adapters_and_empty_folders_are_refused(tmp_path):
    assert "is empty" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "it is an adapter: merge it" in refusal(tmp_path)


@pytest.mark.parametrize("load", [load_model, load_config, load_tokenizer])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        (None, "None could not be loaded: this is no name"),
        (5, "this is no name"),
        ("", "this is no name"),
        ("/no/such", "there is no folder /no/such"),
    ],
)
def test_names_that_are_none(load, name, told):
    assert told in refusal(name, load)


def test_a_file_is_no_folder(folder):
    assert "is a file; give the folder" in refusal(folder / "model.safetensors")


def test_an_unreachable_hub_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(spec.loading, "urlopen", lambda *request, timeout: asked.append(timeout) or _no_network())
    assert "no such folder, no safetensors weights of it were downloaded before, and the hub cannot be reached" in refusal("models/none")
    assert asked == [spec.loading.PROBE]


def _no_network():
    raise urllib.error.URLError("Name or service not known")


def test_the_words_of_a_setting_are_checked_before_files():
    for dtype in ("foo", "int32", 16, None, torch.int64):
        with pytest.raises(ValueError, match=r"dtype=.*: give auto or one of float32"):
            load_model("nowhere", dtype)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="attn_implementation='hub/kernel': give sdpa"):
        load_model("nowhere", attn_implementation="hub/kernel")
    assert load_model("embedded/drafter", "bfloat16").dtype == torch.bfloat16


def test_index_and_configuration_name_no_files_elsewhere(folder):
    shard(folder)
    for name in ("../model.safetensors", "/etc/passwd", "pytorch_model.bin", 7):
        (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
        assert "only .safetensors files of the same folder" in refusal(folder)
