"""The files that printed commands read, in one folder: question files, answers, a recorded sweep, a verdict, two local models."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from tests.docs.printed import DOCUMENTS, files
from tests.experiments.analysis.test_imported import answer, response
from tests.experiments.conftest import save_model

RUN, SWEEP = "outputs/2026-01-31/12-00-00-000000", "multirun/2026-01-31/12-00-00"
QUESTION = {"question_id": 81, "category": "writing", "turns": ["def read(path):", "And now?"]}


def write_lines(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def lay_out(desk: Path) -> None:
    """Everything but what commands record themselves."""
    write_lines(desk / "question.jsonl", QUESTION)
    write_lines(desk / "answers.jsonl", {"prompt": "def read(path):", "response": "    return open(path).read()"})
    for name, lengths in (("vicuna", [1, 3, 2]), ("method", [1, 3, 2]), ("vanilla", [1, 1, 1, 1])):
        write_lines(desk / f"{name}.jsonl", answer(81, "writing", lengths, 1.0))
    write_lines(desk / "responses.jsonl", response([3, 1, 0, 2]))
    pd.DataFrame([{"key": 7, "task": "Rename", "code": "x = 1"}]).to_parquet(desk / "edits.parquet")
    for place, name in enumerate(("smollm2", "smollm2-draft", "gemma3", "gemma3-draft")):
        config = Path(save_model(desk / "models" / name, seed=place, layers=1)) / "config.json"
        config.write_text(config.read_text().replace('"max_position_embeddings": 256', '"max_position_embeddings": 1024'))
    for path in DOCUMENTS:
        for name, text in files(path).items():
            (desk / name).parent.mkdir(parents=True, exist_ok=True)
            (desk / name).write_text(text, encoding="utf-8")


def copy_run(desk: Path) -> None:
    """The sampled run of the sweep as a run of its own."""
    shutil.copytree(desk / SWEEP / "1", desk / RUN)
