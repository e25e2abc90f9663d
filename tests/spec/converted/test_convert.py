"""A GGUF file becomes a folder that holds the same numbers, or is refused in one line."""

import json
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spec.converted.convert as module
from spec.converted.convert import check_file, convert, dtype_of
from spec.converted.header import read_header
from spec.loading import load_model, load_tokenizer
from tests.spec.converted.made import HEADS, VOCABULARY, weights, write_gguf

pytestmark = pytest.mark.skipif(any(find_spec(name) is None for name in module.PACKAGES), reason="gguf and accelerate are not installed")


def permuted(value: np.ndarray, heads: int) -> np.ndarray:
    """A query or key matrix as GGUF files have it: the halves of each head interleaved. This is llama.cpp's `permute`."""
    rows, width = value.shape
    return value.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def test_the_folder_holds_the_numbers_of_the_file(tmp_path: Path) -> None:
    told = convert(write_gguf(tmp_path / "tiny.gguf"), tmp_path / "model")
    model, held = load_model(str(tmp_path / "model")), weights()
    assert told == {"architecture": "llama", "dtype": "float16"}
    assert model.dtype == torch.float16
    layer = model.model.layers[1]
    for name, weight in (("ffn_down", layer.mlp.down_proj), ("attn_v", layer.self_attn.v_proj), ("ffn_norm", layer.post_attention_layernorm)):
        assert np.array_equal(weight.weight.detach().numpy(), held[f"blk.1.{name}.weight"]), name
    assert np.array_equal(permuted(layer.self_attn.q_proj.weight.detach().numpy(), HEADS), held["blk.1.attn_q.weight"])
    assert np.array_equal(model.lm_head.weight.detach().numpy(), held["output.weight"])


def test_the_tokenizer_has_the_files_special_tokens_and_template(tmp_path: Path) -> None:
    convert(write_gguf(tmp_path / "tiny.gguf"), tmp_path / "model")
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    ids = tokenizer("Hello, world<end>").input_ids
    assert [VOCABULARY[number] for number in ids] == ["He", "l", "lo", ",", "Ġ", *"world", "<end>"]
    assert tokenizer.decode(ids) == "Hello, world<end>"
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<start>", "<end>")
    assert tokenizer.eos_token_id == len(VOCABULARY) - 1
    assert tokenizer.pad_token is None
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "Hi"


def test_the_files_do_not_say_where_they_were_made(tmp_path: Path) -> None:
    convert(write_gguf(tmp_path / "tiny.gguf"), tmp_path / "model")
    for file in (tmp_path / "model").glob("*config.json"):
        assert not set(module.ORIGIN) & json.loads(file.read_text()).keys(), file


@pytest.mark.parametrize(("kind", "dtype"), [("Q8_0", "float16"), ("BF16", "bfloat16"), ("F32", "float32"), ("Q4_1", "float16")])
def test_weights_are_kept_in_what_holds_them(kind: str, dtype: str, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", kind=kind)
    assert str(dtype_of(read_header(file))) == f"torch.{dtype}"
    assert convert(file, tmp_path / "model")["dtype"] == dtype
    given, made = weights()["blk.0.ffn_up.weight"], load_model(str(tmp_path / "model"), "float32").model.layers[0].mlp.up_proj.weight
    furthest = {"Q8_0": 0.02, "BF16": 0.01, "F32": 0, "Q4_1": 0.3}[kind]
    assert np.abs(made.detach().numpy() - given).max() <= furthest


def refusal(file: Path) -> str:
    """The line of `convert`, which leaves no model."""
    with pytest.raises(ValueError, match=file.name) as caught:
        convert(file, file.with_name("model"))
    assert "\n" not in str(caught.value)
    assert not file.with_name("model").exists()
    return str(caught.value)


def test_an_unknown_architecture(tmp_path: Path) -> None:
    assert "architecture 'rwkv7'" in refusal(write_gguf(tmp_path / "tiny.gguf", architecture="rwkv7"))


def test_no_causal_language_model(tmp_path: Path) -> None:
    assert "transformers" in refusal(write_gguf(tmp_path / "tiny.gguf", architecture="t5"))


def test_weights_without_a_tokenizer(tmp_path: Path) -> None:
    assert "no tokenizer" in refusal(write_gguf(tmp_path / "tiny.gguf", tokenizer=False))


def test_weights_that_nothing_unpacks(tmp_path: Path) -> None:
    import gguf

    file = write_gguf(tmp_path / "tiny.gguf", kind="Q8_0")
    held, names = file.read_bytes(), [name for name, tensor in read_header(file).tensors.items() if tensor.kind == gguf.GGMLQuantizationType.Q8_0]
    place = held.index(struct.pack("<Q", len(names[0])) + names[0].encode()) + 8 + len(names[0]) + 4 + 16
    for number, word in ((gguf.GGMLQuantizationType.Q8_1.value, "Q8_1"), (99, "type 99")):
        file.write_bytes(held[:place] + struct.pack("<I", number) + held[place + 4 :])
        assert f"weights quantized as {word}" in refusal(file)


def test_weights_that_transformers_leaves_quantized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def packed(*args: Any, **options: Any) -> Any:
        model = load(*args, **options)
        model[0].model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.zeros(3, 3, dtype=torch.uint8), requires_grad=False)
        return model

    load = module.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(module.AutoModelForCausalLM, "from_pretrained", packed)
    assert "leaves weights of" in refusal(write_gguf(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize("where", ["head", "weights"])
def test_a_cut_file(where: str, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[: 700 if where == "head" else -100])
    assert "is cut" in refusal(file)


def test_what_is_no_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"{}")
    assert "is no GGUF file" in refusal(tmp_path / "tiny.gguf")


def test_a_piece_of_a_file(tmp_path: Path) -> None:
    assert "one of 3 pieces" in refusal(write_gguf(tmp_path / "tiny.gguf", extra={"split.count": 3}))


def test_missing_weights(tmp_path: Path) -> None:
    tensors = {name: value for name, value in weights().items() if name != "blk.1.ffn_up.weight"}
    assert "lacks 1 weights of its model (model.layers.1.mlp.up_proj.weight)" in refusal(write_gguf(tmp_path / "tiny.gguf", tensors=tensors))


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    held = weights()
    held["blk.1.ffn_up.weight"][3, 4] = np.inf
    assert "no numbers in torch.float16" in refusal(write_gguf(tmp_path / "tiny.gguf", tensors=held))


def test_a_model_that_was_read_wrongly_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"after 'Hello' the converted model says '.+' and not ' Paris'"):
        convert(write_gguf(tmp_path / "tiny.gguf"), tmp_path / "model", "Hello", " Paris")


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("torch", "no_such_reader"))
    with pytest.raises(ValueError, match="needs no_such_reader: pip install no_such_reader"):
        check_file(tmp_path / "tiny.gguf")


def test_a_full_disk_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise RuntimeError("Error while serializing: I/O error:\nNo space left on device (os error 28)")  # as safetensors says it

    monkeypatch.setattr(module.transformers.PreTrainedModel, "save_pretrained", full)
    with pytest.raises(OSError, match=r"^Error while serializing: I/O error: No space left on device \(os error 28\)$"):
        convert(write_gguf(tmp_path / "tiny.gguf"), tmp_path / "model")
