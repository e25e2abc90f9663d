"""Recorded targets are read from run folders and from the files that others write; what cannot be read is named by file and line."""

import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from experiments.replay.texts import Reading, read_run, read_texts
from tests.experiments.conftest import tokenizer
from tests.experiments.samples import record

WORDS = tokenizer()


def written(path: Path, *rows: Any) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode())) if path.suffix == ".gz" else path.write_text(text)
    return path


def texts(path: Path, **settings: Any) -> list[tuple[str, str, str, str]]:
    found = read_texts(path, WORDS, Reading(**settings)).texts
    return [(text.id, text.category, WORDS.decode(text.prompt), WORDS.decode(text.tokens)) for text in found]


def test_arena_hard_answers(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "say it"}, {"role": "assistant", "content": {"answer": "it is said"}}]
    path = written(
        tmp_path / "gpt.jsonl", {"uid": "a1", "messages": messages}, {"uid": "a2", "messages": [messages[0], {**messages[1], "content": "no"}]}
    )
    assert texts(path) == [("a1", "gpt", "say it\n\n", "it is said"), ("a2", "gpt", "say it\n\n", "no")]
    assert texts(path, with_prompt=False) == [("a1", "gpt", "i", "t is said"), ("a2", "gpt", "n", "o")]


def test_an_answer_file_with_its_questions_is_a_text_per_turn_behind_all_that_was_said(tmp_path: Path) -> None:
    answers = written(tmp_path / "vicuna.jsonl", {"question_id": 81, "choices": [{"turns": ["first", "second"], "decoding_steps": [3, 4]}]})
    questions = written(tmp_path / "question.jsonl", {"question_id": 81, "category": "writing", "turns": ["one?", "two?"]})
    assert texts(answers, questions=str(questions)) == [
        ("81", "writing", "one?\n\n", "first"),
        ("81/2", "writing", "one?\n\nfirst\n\ntwo?\n\n", "second"),
    ]
    assert texts(answers) == [("81", "vicuna", "f", "irst"), ("81/2", "vicuna", "first\n\n", "second")]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "1+1?", "answer": "= 2"},
        {"task_id": "0", "prompt": "1+1?", "canonical_solution": "= 2", "text": "x"},
        {"instruction": "1+1?", "output": "= 2"},
    ],
)
def test_known_names_of_prompt_and_response(tmp_path: Path, row: dict[str, str]) -> None:
    assert texts(written(tmp_path / "set.jsonl.gz", row)) == [("0", "set", "1+1?\n\n", "= 2")]


def test_named_fields_win(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"answer": "no", "messages": [], "q": "ask", "a": "tell", "category": "c"})
    assert texts(path, prompt_field="q", response_field="a") == [("0", "c", "ask\n\n", "tell")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"answer": "abc"}\n{"answer"\n', r"x.jsonl:2: not JSON"),
        ('["abc"]\n', r"x.jsonl:1: holds list; every line must hold one JSON object"),
        ('{"prompt": "abc"}\n', r"x.jsonl:1: has no answer under a known name; it has prompt: name the right ones with prompt_field"),
        ('{"answer": 5}\n', r"x.jsonl:1: a message holds int where text is expected"),
        ('{"id": 1, "answer": "abc"}\n{"id": 1, "answer": "abc"}\n', r"x.jsonl:2: the id '1' was used before"),
        ('{"messages": [{"role": "user"}]}\n', r"x.jsonl:1: a message holds NoneType where text is expected"),
        ("\n", r"x.jsonl: holds no answers of more than one token"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_texts(path, WORDS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.jsonl: cannot be read"):
        read_texts(tmp_path / "none.jsonl", WORDS)


def test_a_run_folder_gives_the_baseline_answers(tmp_path: Path) -> None:
    method = asdict(record("p", "method", tokens=[5, 6, 0], num_steps=2))
    baseline = asdict(record("p", "baseline", tokens=[5, 6, 0], num_steps=2, prompt_ids=[1, 2], ended="eos"))
    (tmp_path / "config.yaml").write_text("max_new_tokens: 9\ntarget: {}\ndrafter: {}\nsampling: {}\n")
    with (written(tmp_path / "records.jsonl", method, baseline)).open("a") as file:
        file.write('{"torn')
    recording = read_run(tmp_path)
    assert [(text.id, text.prompt, text.tokens) for text in recording.texts] == [("p", [1, 2], [5, 6, 0])]
    assert (recording.budget, recording.eos_ids, recording.live) == (9, [0], {"num_steps": 2, "num_tokens": 3})


def test_a_run_without_prompt_ids_and_a_folder_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no records.jsonl and config.yaml"):
        read_run(tmp_path)
    (tmp_path / "config.yaml").write_text("max_new_tokens: 9\n")
    written(tmp_path / "records.jsonl", asdict(record("p", "baseline", tokens=[1])))
    with pytest.raises(ValueError, match=r"records.jsonl:1: the run was recorded without prompt_ids"):
        read_run(tmp_path)
