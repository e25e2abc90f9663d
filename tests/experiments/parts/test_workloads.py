"""The data sets of conf/data: each reads a local copy that has the columns of the real one, as a file, a table or a directory."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from experiments.analysis.summary import grouping
from experiments.parts.build import make
from experiments.parts.data.prompts import Prompt
from experiments.parts.data.sources import data_set

CONF = Path(__file__).resolve().parents[3] / "conf" / "data"
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
MASKED = "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE USING SPECDEC_BENCH"
COPIES: dict[str, dict[str, Any]] = {  # option of conf/data: a row with the real set's columns
    "spec_bench": {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."], "reference": ["x"]},
    "mt_bench": {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."], "reference": []},
    "humaneval": {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": " x", "test": "y", "entry_point": "f"},
    "gsm8k": {"question": "How many?", "answer": "#### 3"},
    "arena_hard": {"uid": "32ab", "category": "arena-hard-v0.1", "cluster": "Maps", "prompt": "Where?"},
    "refactor": {"task_id": "cli_f", "file": "cli.py", "instructions": "# Move f", "source": "def f(): {}", "test": "t"},
    "instruct_coder": {"instruction": "Move f.", "input": "def f(): {}", "output": "o"},
    "blazedit": {"code": "def f(): {}", "change_request": "Move f.", "new_code": "n", "norm_distance": 0.2},
    "cnn_dailymail": {"article": "It rained.", "highlights": "Rain.", "id": "f001"},
    "speed_bench": {"question_id": "q1", "category": "rag", "sub_category": "s", "turns": ["One.", "Two."], "source": "s", "multiturn": True},
}
EXPECTED = {
    "spec_bench": Prompt("81", "writing", ("Write.", "Again.")),
    "mt_bench": Prompt("81", "writing", ("Write.", "Again.")),
    "humaneval": Prompt("HumanEval/0", "humaneval", ("def f():\n",)),
    "gsm8k": Prompt("0", "gsm8k", ("How many?",)),
    "arena_hard": Prompt("32ab", "arena-hard-v0.1", ("Where?",)),
    "speed_bench": Prompt("q1", "rag", ("One.", "Two.")),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def load(option: str, **overrides: Any) -> list[Prompt]:
    """The prompts of a data set as its YAML describes it, with some settings changed."""
    settings = OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml"))
    assert isinstance(settings, dict)
    assert settings.pop("_target_") == "experiments.parts.data.sources.data_set"
    return data_set(**(settings | overrides))  # pyright: ignore[reportArgumentType]


def write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_data_set_of_the_configuration_has_a_copy_here() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} - {"custom", "embedded", "hub", "jsonl"} == set(COPIES)


@pytest.mark.parametrize("option", COPIES)
def test_a_local_file_with_the_real_columns_is_read(tmp_path: Path, option: str) -> None:
    path = write_lines(tmp_path / "rows.jsonl", COPIES[option])
    (prompt,) = load(option, path=path)
    if option in EXPECTED:
        assert prompt == EXPECTED[option]
    else:
        used = {"refactor": ["# Move f", "def f(): {}"], "cnn_dailymail": ["It rained."]}.get(option, ["Move f.", "def f(): {}"])
        assert all(part in prompt.text for part in used)
        assert len(prompt.turns) == 1
        assert "{instructions}" not in prompt.text


@pytest.mark.parametrize("option", ["gsm8k", "cnn_dailymail", "mt_bench"])
def test_a_directory_as_the_hub_keeps_it_is_read(tmp_path: Path, option: str) -> None:
    """As a directory of JSON lines, of Parquet with the card that names configurations, and as `save_to_disk` leaves it; the splits are the hub's."""
    row, split = COPIES[option], "train" if option == "mt_bench" else "test"
    write_lines(tmp_path / "lines" / f"{split}.jsonl", row)
    config = {"gsm8k": "main", "cnn_dailymail": "3.0.0"}.get(option, "default")
    table = datasets.Dataset.from_list([row])
    (tmp_path / "hub" / config).mkdir(parents=True)
    table.to_parquet(tmp_path / "hub" / config / f"{split}-00000-of-00001.parquet")
    files = f"  data_files:\n  - split: {split}\n    path: {config}/{split}-*\n"
    (tmp_path / "hub" / "README.md").write_text(f"---\nconfigs:\n- config_name: {config}\n{files}---\n")
    datasets.DatasetDict({split: table}).save_to_disk(tmp_path / "saved")
    found = [load(option, path=tmp_path / name) for name in ("lines", "hub", "saved")]
    assert found[0] == found[1] == found[2]
    assert load(option, name=str(tmp_path / "hub")) == found[0]
    with pytest.raises(ValueError, match=r"data set .*/saved' .*split 'validation'.* could not be loaded"):
        load(option, path=tmp_path / "saved", split="validation")


@pytest.mark.parametrize("suffix", ["json", "parquet", "csv", "jsonl.gz"])
def test_a_table_is_read_by_its_ending(tmp_path: Path, suffix: str) -> None:
    path, table = tmp_path / f"test.{suffix}", datasets.Dataset.from_list([COPIES["gsm8k"]])
    if suffix == "json":
        path.write_text(json.dumps([COPIES["gsm8k"]]))
    elif suffix == "jsonl.gz":
        path.write_bytes(gzip.compress(json.dumps(COPIES["gsm8k"]).encode()))
    else:
        (table.to_parquet if suffix == "parquet" else table.to_csv)(path)
    assert load("gsm8k", path=path) == [EXPECTED["gsm8k"]]


def test_the_sample_and_the_number_of_turns_can_be_set(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "q.jsonl", *(COPIES["spec_bench"] | {"question_id": index} for index in range(20)))
    few = load("spec_bench", path=path, num_rows=5, seed=1, turns=1)
    assert len(few) == 5
    assert {prompt.turns for prompt in few} == {("Write.",)}
    assert load("spec_bench", path=path, num_rows=5, seed=1, turns=1) == few


def test_a_custom_data_set_is_described_on_the_command_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "mine.jsonl", {"key": "k", "task": "Sum up", "body": "words"})
    assert load("custom", path=path, template="{task}: {body}", label="sums") == [Prompt("0", "sums", ("Sum up: words",))]
    with initialize_config_module("conf", version_base=None):
        config = compose("config", ["data=custom", f"data.path={path}", "+data.columns.id=key", "+data.columns.prompt=body"])
    assert make(config, "data") == [Prompt("k", "mine", ("words",))]


def test_prompts_that_are_only_placeholders_are_refused_or_left_out(tmp_path: Path) -> None:
    masked = COPIES["speed_bench"] | {"question_id": "q2", "turns": ["Real.", MASKED]}
    path = write_lines(tmp_path / "s.jsonl", COPIES["speed_bench"], masked)
    with pytest.raises(ValueError, match="1 of 2 prompts are placeholders"):
        load("speed_bench", path=path)
    assert load("speed_bench", path=path, skip_placeholders=True) == [EXPECTED["speed_bench"]]
    with pytest.raises(ValueError, match="1 of 1 prompts are placeholders"):
        load("speed_bench", path=write_lines(path, masked), skip_placeholders=True)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"data\.path=nowhere\.jsonl: there is no such file or directory"):
        load("gsm8k", path="nowhere.jsonl")
    with pytest.raises(ValueError, match=r"neither data\.path nor data\.name is given"):
        load("spec_bench")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="could not be loaded"):
        load("gsm8k", path=tmp_path / "empty")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="could not be loaded"):
        load("gsm8k", path=tmp_path / "torn.parquet")
    path = write_lines(tmp_path / "other.jsonl", {"prompt": "p"})
    with pytest.raises(ValueError, match=r"other\.jsonl:1: has no field question \(meant as prompt\); it has prompt"):
        load("gsm8k", path=path)

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ValueError, match=r"'openai/gsm8k' \(config 'main', split 'test'\) could not be loaded: .*without network give a local copy"):
        data_set(name="openai/gsm8k", config="main")


@pytest.mark.parametrize(
    ("option", "file", "count", "categories"),
    [
        ("mt_bench", "mt_bench/question.jsonl", 80, 8),
        ("humaneval", "humaneval/HumanEval.jsonl.gz", 164, 1),
        ("gsm8k", "gsm8k/test.jsonl", 1319, 1),
        ("arena_hard", "arena_hard/question_v0.1.jsonl", 500, 1),
        ("refactor", "refactor/refactor.jsonl", 89, 1),
        ("spec_bench", "spec_bench/question.jsonl", 480, 13),
    ],
)
def test_the_real_files_load_whole(option: str, file: str, count: int, categories: int) -> None:
    if not (SHARED / file).exists():
        pytest.skip("the real data sets are not beside this checkout")
    prompts = load(option, path=SHARED / file)
    assert len(prompts) == count
    assert len({prompt.category for prompt in prompts}) == categories
    assert {len(prompt.turns) for prompt in prompts} == ({1, 2} if option == "spec_bench" else {2} if option == "mt_bench" else {1})


def test_spec_bench_has_eighty_questions_in_each_of_six_groups() -> None:
    if not (path := SHARED / "spec_bench" / "question.jsonl").exists():
        pytest.skip("the real data sets are not beside this checkout")
    groups = grouping(OmegaConf.load(CONF / "spec_bench.yaml"))  # pyright: ignore[reportArgumentType]
    prompts = load("spec_bench", path=path)
    counts = Counter(groups.get(prompt.category, prompt.category) for prompt in prompts)
    assert counts == dict.fromkeys(["multi-turn conversation", "translation", "summarization", "qa", "math_reasoning", "rag"], 80)
    assert {groups.get(prompt.category) for prompt in prompts if len(prompt.turns) == 2} == {"multi-turn conversation"}
    assert len(load("spec_bench", path=path, categories=["multi-turn conversation"])) == 80
