"""References must not depend on what `generate` takes for padding: without a mask it hides every token of a prompt that is the padding token."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from experiments.parts.data.sources import EMBEDDED as PROMPTS
from spec.model import load_model, resolve_name

ROOT = Path(__file__).resolve().parents[1]
FILES = [path.relative_to(ROOT).as_posix() for part in ("spec", "experiments", "tests") for path in sorted((ROOT / part).rglob("*.py"))]
LONG = ["def gather(values):\n", "class Ring:\n    size = 3\n", "import os\nimport re\n", "x = [1, 2, 3]\nfor", '"""Helpers."""\n']


def unmasked(source: str) -> Iterator[int]:
    """Lines with a call of a model's `generate` that gives no mask."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "generate"):
            continue
        around = [function for function in functions if function.lineno <= call.lineno <= (function.end_lineno or 0)]
        if not any(gives_mask(keyword, around) for keyword in call.keywords) and not is_engines(call, around):
            yield call.lineno


def is_engines(call: ast.Call, around: list[ast.FunctionDef]) -> bool:
    """Whether it is another engine's, which takes ids and mask as one object."""
    assignments = [node for function in around for node in ast.walk(function) if isinstance(node, ast.Assign)]
    made = [ast.unparse(node.value) for node in assignments if call.args and ast.unparse(call.args[0]) in map(ast.unparse, node.targets)]
    return any("TokenizedInputs(" in value and "attention_mask=" in value for value in made)


def gives_mask(keyword: ast.keyword, around: list[ast.FunctionDef]) -> bool:
    """Whether an argument is a mask, a dictionary that was made with a mask or by a tokenizer, or what the function itself was given as **options."""
    if keyword.arg is not None:
        return keyword.arg == "attention_mask" and ast.unparse(keyword.value) != "None"
    made = [keyword.value]
    if isinstance(keyword.value, ast.Name):
        if any(function.args.kwarg is not None and function.args.kwarg.arg == keyword.value.id for function in around):
            return True
        assignments = [node for function in around for node in ast.walk(function) if isinstance(node, ast.Assign)]
        made = [node.value for node in assignments if keyword.value.id in map(ast.unparse, node.targets)]
    return any("'attention_mask':" in ast.unparse(value) or "tokenizer(" in ast.unparse(value) for value in made)


@pytest.mark.parametrize("file", FILES)
def test_no_reference_goes_without_a_mask(file):
    assert list(unmasked((ROOT / file).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("model.generate(ids, max_new_tokens=3)", [1]),
        ("model.generate(ids, attention_mask=None)", [1]),
        ("def f():\n    options = {'do_sample': False}\n    model.generate(ids, **options)", [3]),
        ("def f():\n    inputs = encode(text)\n    model.generate(**inputs)", [3]),
        ("def f(**options):\n    model.generate(ids, **options)", []),
        ("model.generate(ids, attention_mask=mask)", []),
        ("model.generate(ids, attention_mask=torch.ones_like(ids))", []),
        ("def f():\n    options = {'attention_mask': mask}\n    model.generate(ids, **options)", []),
        ("def f():\n    inputs = tokenizer(text, return_tensors='pt')\n    model.generate(**inputs)", []),
    ],
)
def test_a_call_without_a_mask_is_found(source, lines):
    assert list(unmasked(source)) == lines


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(resolve_name("embedded/target"))


@pytest.mark.parametrize("name", ["target", "drafter"])
def test_the_embedded_pair_pads_with_a_token_that_no_text_holds(name):
    tokenizer = AutoTokenizer.from_pretrained(resolve_name(f"embedded/{name}"))
    model = load_model(f"embedded/{name}", torch.float32)
    pad = tokenizer.pad_token_id
    assert pad == model.config.pad_token_id == model.generation_config.pad_token_id
    assert pad not in (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert len(tokenizer) == model.config.vocab_size == len(set(tokenizer.get_vocab().values()))
    letters = "".join(chr(code) for code in [*range(0x3000), *range(0x3000, 0x110000, 61)] if not 0xD800 <= code < 0xE000)
    ids = tokenizer(letters, verbose=False).input_ids
    assert pad not in ids
    assert tokenizer.decode(ids[1:], clean_up_tokenization_spaces=False) == letters


@pytest.mark.parametrize("name", ["target", "drafter"])
@torch.inference_mode()
def test_the_padding_is_never_likely(tokenizer, name):
    """It took the place of a byte whose row the models have, too: they may say it, and do not."""
    model = load_model(f"embedded/{name}", torch.float32)
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()
    largest = 0.0
    for line in lines:
        ids = tokenizer(json.loads(line)["prompt"], return_tensors="pt").input_ids
        largest = max(largest, float(model(ids).logits[0].softmax(-1)[:, tokenizer.pad_token_id].max()))
    assert len(lines) == 48
    assert 0 < largest < 1e-5


def test_padding_is_left_out_of_decoded_text(tokenizer):
    rows = tokenizer(["x = 1", "for value in values:"], padding=True, padding_side="left")
    assert tokenizer.batch_decode(rows.input_ids, skip_special_tokens=True) == ["x = 1", "for value in values:"]
    assert [row.count(tokenizer.pad_token_id) for row in rows.input_ids] == [len(row) - sum(mask) for row, mask in zip(*rows.values(), strict=True)]


def test_without_a_mask_the_embedded_target_says_the_same(tokenizer):
    """Also where the text may not end, which is when `generate` looks for padding in the prompt."""
    model = load_model("embedded/target", torch.float32)
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    for text in LONG:
        inputs = tokenizer(text, return_tensors="pt")
        bare = {"inputs": inputs.input_ids} | options
        assert ask(model, bare).equal(ask(model, dict(inputs) | options))


def ask(model, arguments):
    """A call that this file's own rule cannot see, since it is about the mask."""
    return getattr(model, "generate")(**arguments)  # noqa: B009
