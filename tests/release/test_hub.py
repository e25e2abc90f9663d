"""The folder for the hub: flat, free of our packages, and the same answers through `generate(custom_generate=FOLDER)`."""

import ast
import re
import sys
from pathlib import Path

from release.house import PACKAGES, House
from release.hub import ENTRY, reachable
from spec.named import DRAFTERS, STOPPING, VERIFIERS
from tests.release.conftest import ROOT, Process

HEAD = """
import importlib.util, shutil, sys, warnings
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
warnings.simplefilter("error")
folder, tokens, here = sys.argv[1:]
absent = [name for name in ("spec", "drafters", "verifiers", "experiments", "draftproof") if importlib.util.find_spec(name) is None]
assert len(absent) == 5, absent
tokenizer = AutoTokenizer.from_pretrained(tokens)

def made(layers):
    torch.manual_seed(layers)
    sizes = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256)
    config = LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=layers, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes)
    return LlamaForCausalLM(config).double().eval()

class Heard:
    def __init__(self):
        self.tokens, self.ends = [], 0
    def put(self, tokens):
        self.tokens += tokens.flatten().tolist()
    def end(self):
        self.ends += 1

model, small = made(2), made(1)
inputs = tokenizer("def add(a, b): return a + b", return_tensors="pt")
usual = dict(max_new_tokens=12, do_sample=False)
plain = model.generate(**inputs, **usual)
by_folder = dict(custom_generate=folder, trust_remote_code=True)
"""
EVERY_WAY = """
ways = [{}, {"drafter_options": {"window": 3}, "drafter": "lookahead"}, {"assistant_model": small}, {"prompt_lookup_num_tokens": 3}]
ways += [{"drafter": name} for name in ("none", "prompt_lookup", "lookahead", "jacobi", "adversarial")]
ways += [{"drafter": name, "drafter_options": {"model": small}} for name in ("draft_model", "multi_draft", "draft_tree", "coupled")]
ways += [{"drafter": "prompt_lookup", "verifier": name} for name in ("rejection", "block", "traversal", "sample_match", "greedy")]
for way in ways:
    heard = Heard()
    output = model.generate(**inputs, **usual, **by_folder, **way, streamer=heard, return_dict_in_generate=True)
    assert torch.equal(output.sequences, plain), way
    assert output.stats.tokens_per_step >= 1, way
    assert (heard.tokens, heard.ends) == (plain[0].tolist(), 1), way
word = tokenizer.decode(plain[0, -6:-4])
stopped = [model.generate(**inputs, **usual, tokenizer=tokenizer, stop_strings=[word], **more) for more in ({}, {**by_folder, "drafter": "jacobi"})]
assert torch.equal(*stopped) and stopped[0].shape[1] < plain.shape[1], stopped
batch = {"input_ids": inputs.input_ids.repeat(2, 1), "attention_mask": inputs.attention_mask.repeat(2, 1)}
assert torch.equal(model.generate(**batch, **usual, **by_folder, drafter="lookahead", batch_size=1), plain.repeat(2, 1))
sampled = [model.generate(**inputs, max_new_tokens=8, do_sample=True, **by_folder, drafter="lookahead", seed=3) for _ in range(2)]
assert torch.equal(*sampled)
for way, said in (({"drafter": "lookahed"}, "drafter='lookahed'"), ({"drafter": "jacobi", "assistant_model": small}, "ask for 2 drafters")):
    try:
        model.generate(**inputs, **usual, **by_folder, **way)
    except ValueError as error:
        assert said in str(error), error
    else:
        raise AssertionError(way)
print("same")
"""
BESIDE_A_MODEL = """
model.save_pretrained(here)
shutil.copytree(f"{folder}/custom_generate", f"{here}/custom_generate")
loaded = AutoModelForCausalLM.from_pretrained(here, trust_remote_code=True, dtype=torch.float64)
output = loaded.generate(**inputs, **usual, drafter="lookahead", return_dict_in_generate=True)
assert torch.equal(output.sequences, plain)
assert type(output).__name__ == "SpeculativeOutput"
print("same")
"""


def sources(hub: Path) -> dict[str, str]:
    return {file.stem: file.read_text(encoding="utf-8") for file in (hub / "custom_generate").glob("*.py")}


def test_the_folder_is_flat_and_lists_its_files(hub: Path) -> None:
    found = sources(hub)
    assert all(path.is_file() for path in (hub / "custom_generate").iterdir())
    named = set(re.findall(r"^\s*from\s+\.(\S+)\s+import", found["generate"], re.MULTILINE))  # as transformers looks for them
    assert named == set(found) - {"generate"}
    for places in (DRAFTERS, VERIFIERS, STOPPING):
        assert {place.split(":")[0].replace(".", "_") for place in places.values()} <= named
    assert not {name for name in found if name.startswith("experiments")}


def test_it_needs_torch_and_transformers_alone(hub: Path) -> None:
    for name, text in sources(hub).items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1, name
                assert node.module is None or node.module in sources(hub), (name, node.module)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                tops = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert {top.split(".")[0] for top in tops} <= {"torch", "transformers", *sys.stdlib_module_names}, name
    requirements = (hub / "custom_generate" / "requirements.txt").read_text().splitlines()
    assert [re.split(r"\W", line)[0] for line in requirements] == ["torch", "transformers"]


def test_no_old_name_is_left(hub: Path) -> None:
    modules = "|".join(re.escape(name) for name in House().modules if "." in name)
    assert len(PACKAGES) == 5
    for name, text in sources(hub).items():
        assert re.findall(rf"(?<![\w./])(?:{modules})\b(?!\.py)", text) == [], name


def test_what_is_not_reachable_is_left_out() -> None:
    found = reachable(House())
    assert ENTRY in found
    assert "spec.generate.door" in found
    assert [name for name in found if name.split(".")[0] in ("experiments", "conf")] == []


def test_generate_by_the_folder(process: Process, hub: Path, tmp_path: Path) -> None:
    """Every way to choose a drafter gives the tokens of `generate`; the streamer, the assistant and the tokenizer are handed on."""
    done = process("-c", HEAD + EVERY_WAY, str(hub), str(ROOT / "spec" / "embedded" / "target"), str(tmp_path / "model"))
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


def test_the_folder_beside_a_model(process: Process, hub: Path, tmp_path: Path) -> None:
    """`from_pretrained(..., trust_remote_code=True)` puts our function in the place of `model.generate`."""
    done = process("-c", HEAD + BESIDE_A_MODEL, str(hub), str(ROOT / "spec" / "embedded" / "target"), str(tmp_path / "model"))
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr
