"""What a verdict holds for: the code that can change a distribution, by a hash, and the settings that can."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.parts.versions import case_of
from experiments.recording.code import decoding_packages
from experiments.recording.proofs.code_hash import CORE, code_hash
from experiments.recording.proofs.settings import key_of, settings_of
from tests.experiments.recorded import config

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The packages and some files that are no distribution, elsewhere."""
    for name in (*CORE, "experiments/report", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def hashed(root: Path | None = None, packages: tuple[str, ...] = ()) -> str:
    code_hash.cache_clear()
    return code_hash(packages, root)


def test_the_hash_is_the_same_wherever_the_packages_lie(copied: Path) -> None:
    assert hashed(copied) == hashed()


@pytest.mark.parametrize("file", ["spec/residual.py", "drafters/stopping/entropy.py", "verifiers/block.py", "spec/native/layers.h"])
def test_code_that_can_change_a_distribution_changes_the_hash(copied: Path, file: str) -> None:
    before = hashed(copied)
    (copied / file).write_bytes((copied / file).read_bytes() + b"# touched\n")
    assert hashed(copied) != before


@pytest.mark.parametrize("file", ["docs/exactness.md", "experiments/report/page.py", "spec/notes.txt", "spec/.hidden/copy.py"])
def test_other_files_do_not(copied: Path, file: str) -> None:
    before = hashed(copied)
    (copied / file).parent.mkdir(exist_ok=True)
    with (copied / file).open("a") as opened:
        opened.write("# touched\n")
    assert hashed(copied) == before


def test_line_endings_do_not_matter_and_names_do(copied: Path) -> None:
    before, file = hashed(copied), copied / "spec" / "tree.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert hashed(copied) == before
    file.rename(copied / "spec" / "tree2.py")
    assert hashed(copied) != before


def test_a_users_own_code_counts(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copied / "mine_own.py").write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(str(copied))
    found = decoding_packages(config(drafter={"_target_": "mine_own.Mine"}))
    assert found == ("mine_own",)
    before = hashed(None, found)
    (copied / "mine_own.py").write_text("class Mine: pass\n")
    assert hashed(None, found) != before != hashed()
    assert decoding_packages(config(drafter={"_target_": "experiments.lossless.mutants.chains.SoftArgmax"})) == ("experiments",)
    assert decoding_packages(config()) == ()


def settings(**changes: Any) -> dict[str, Any]:
    return settings_of(config(**changes), "cpu", "float32")


SAMPLING = {"_target_": "spec.sampling.Sampler", "temperature": 1.0, "top_k": None, "seed": 0}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"sampling": SAMPLING}, {"sampling": SAMPLING | {"seed": 7, "temperature": 1}}, True),
        ({"sampling": SAMPLING}, {"sampling": SAMPLING | {"top_k": 50}}, False),
        ({"sampling": SAMPLING}, {"sampling": SAMPLING | {"temperature": 0.99}}, False),
        (
            {"drafter": {"_target_": "drafters.draft_model.DraftModel", "name": "a"}},
            {"drafter": {"_target_": "drafters.draft_model.DraftModel"}},
            True,
        ),
        ({"drafter": {"_target_": "mine.Mine", "name": "a"}}, {"drafter": {"_target_": "mine.Mine", "name": "b"}}, False),
        ({"drafter": {"_target_": "drafters.x.X", "widths": (2, 1)}}, {"drafter": {"_target_": "drafters.x.X", "widths": [2, 1]}}, True),
        ({"drafter": {"_target_": "drafters.x.X", "num_tokens": 2}}, {"drafter": {"_target_": "drafters.x.X", "num_tokens": 3}}, False),
        ({"verifier": {"_target_": "verifiers.block.Block"}}, {}, False),
        ({"target": {"_target_": "t", "runtime": "auto"}}, {"target": {"_target_": "t", "runtime": "graphs"}}, False),
        (
            {"target": {"_target_": "t", "name": "a", "dtype": "auto", "device": "auto"}},
            {"target": {"_target_": "t", "name": "b", "dtype": "x"}},
            True,
        ),
        ({"batch_size": 1, "seed": 0}, {"batch_size": 8, "seed": 3}, True),
    ],
)
def test_what_belongs_to_the_settings(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    assert (settings(**one) == settings(**other)) is same
    assert (key_of(settings(**one), {}) == key_of(settings(**other), {})) is same


def test_dtype_and_device_are_those_of_the_loaded_target() -> None:
    kinds = [settings_of(config(), *terms) for terms in (("cpu", "float32"), ("cuda", "float32"), ("cpu", "bfloat16"))]
    assert kinds[0] != kinds[1] != kinds[2] != kinds[0]
    assert kinds[1] == settings_of(config(), "cuda:1", "torch.float32")


def test_a_case_names_the_models_and_their_versions() -> None:
    case = case_of(config(), "cpu", "float32")
    assert set(case.models) == {"target"}
    assert case.models["target"]["name"] == "embedded/target"
    assert len(case.models["target"]["version"] or "") == 12
    assert case.code == hashed()
