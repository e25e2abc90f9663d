"""The wheel, installed in a folder of its own: beside packages of our names, without what the experiments need, and reading a checkout's records."""

import json
import sys
from pathlib import Path

import draftproof
from experiments.recording.code import code_version
from experiments.recording.folder import RunFolder
from experiments.recording.proofs.code_hash import battery_hash, code_hash
from tests.release.conftest import ROOT, STRANGERS, Process

BEFORE = ROOT / "tests" / "experiments" / "recorded_before"
SMALL = ("num_prompts=1", "max_new_tokens=4", "warmup=0", "check_state=false")
EVERY_MODULE = """
import importlib, pkgutil, sys
import draftproof
names = [item.name for item in pkgutil.walk_packages(draftproof.__path__, "draftproof.")]
for name in names:
    importlib.import_module(name)
from draftproof.experiments.recording.code import code_version
from draftproof.experiments.recording.proofs.code_hash import battery_hash, code_hash
print(len(names), code_version()["source"], code_hash(), battery_hash())
print(sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[1:])))
"""
LIGHT = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import draftproof
assert not {"torch", "transformers"} & set(sys.modules)
from draftproof import CausalLM, DraftModel, Limits, Lookahead, Recursive, Sampler, decode, speculative
from draftproof.spec.loading import load_model, load_tokenizer
model, tokenizer = load_model("embedded/target", dtype="float64"), load_tokenizer("embedded/target")
prompt = tokenizer("def add(a, b):").input_ids
texts = [decode(CausalLM(model), drafter, Recursive(), [prompt], limits=Limits(8), sampler=Sampler(temperature=0)).new_tokens(0)
         for drafter in (Lookahead(), DraftModel("embedded/drafter"))]
inputs = tokenizer("def add(a, b):", return_tensors="pt")
texts.append(model.generate(**inputs, max_new_tokens=8, do_sample=False, custom_generate=speculative("jacobi"))[0, len(prompt):].tolist())
assert texts[0] == texts[1] == texts[2], texts
sys.argv = ["draftproof", "run"]
draftproof.main()
"""


def test_every_module_imports_beside_strangers_and_has_the_same_hashes(process: Process, site: Path, strangers: Path) -> None:
    done = process("-c", EVERY_MODULE, *STRANGERS, paths=(strangers, site))
    assert done.returncode == 0, done.stderr
    count, *hashes = done.stdout.splitlines()[0].split()
    assert int(count) > 200
    assert hashes == [code_version()["source"], code_hash(), battery_hash()]
    assert done.stdout.splitlines()[1] == "[]"


def test_a_run_beside_strangers(process: Process, site: Path, strangers: Path, tmp_path: Path) -> None:
    """Its folder holds names without `draftproof.`, and the same command in a checkout would go on in it."""
    done = process("-m", "draftproof", "run", "drafter=draft_model", *SMALL, f"hydra.run.dir={tmp_path / 'run'}", paths=(strangers, site))
    assert done.returncode == 0, done.stderr
    assert "draft_model" in done.stdout
    recorded = RunFolder(tmp_path / "run")
    assert recorded.raw_config["drafter"]["_target_"] == "drafters.draft_model.DraftModel"
    assert recorded.summary is not None
    assert recorded.summary["labels"]["drafter"] == "draft_model"
    assert "draftproof." not in json.dumps(recorded.raw_config)
    code = json.loads((tmp_path / "run" / "manifest.json").read_text())["code"]
    assert (code["source"], code["decoding"]) == (code_version()["source"], code_hash())
    shown = process("-m", "draftproof", "report", str(tmp_path / "run"), str(BEFORE), paths=(strangers, site))
    assert shown.returncode == 0, shown.stderr
    assert "results: 2 runs" in shown.stdout  # this one, and a folder that a checkout has recorded


def test_wrong_input_is_one_line(process: Process, site: Path, strangers: Path) -> None:
    done = process("-m", "draftproof", "run", "drafter=lookahead", "drafter.windw=3", paths=(strangers, site))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "drafter.windw" in done.stderr


def test_the_core_is_light(process: Process, site: Path, strangers: Path) -> None:
    """Without the experiments' packages (transformers itself needs yaml) the library decodes, and the command says what it lacks."""
    done = process("-c", LIGHT, *sorted({*draftproof.FOR_EXPERIMENTS, "omegaconf"} - {"yaml"}), paths=(strangers, site))
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: the experiments need hydra, datasets, wandb, scipy, pandas, matplotlib, rich: ")
    assert "pip install 'draftproof[experiments]'" in done.stderr.splitlines()[-1]


def test_the_wheel_holds_nothing_but_draftproof(site: Path) -> None:
    assert {path.name.split("-")[0] for path in site.iterdir()} == {"draftproof"}
    assert (site / "draftproof" / "spec" / "embedded" / "target" / "model.safetensors").exists()
    entry = next(site.glob("*.dist-info")) / "entry_points.txt"
    assert "draftproof = draftproof:main" in entry.read_text()
    assert sys.version_info >= (3, 11)
