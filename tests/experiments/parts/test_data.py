"""Prompts: every form a row may have, and every way in which a file can be wrong."""

import gzip
import json
from pathlib import Path

import pytest

from experiments.parts.data.prompts import Prompt
from experiments.parts.data.sources import EMBEDDED, embedded, hub, jsonl


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_spec_bench_row_gives_its_turns(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", {"question_id": 81, "category": "writing", "turns": ["first", "second"]})
    assert jsonl(path) == [Prompt("81", "writing", ("first", "second"))]
    assert jsonl(path)[0].text == "first"
    assert jsonl(path, turns=1) == [Prompt("81", "writing", ("first",))]


def test_human_eval_row_from_a_gzipped_file(tmp_path: Path) -> None:
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"task_id": "HumanEval/0", "prompt": "def f():", "test": "x"}).encode()))
    assert jsonl(path) == [Prompt("HumanEval/0", "HumanEval", ("def f():",))]


def test_gsm8k_and_plain_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", {"question": "How many?", "answer": "3"}, {"text": "plain"})
    assert [prompt.text for prompt in jsonl(path)] == ["How many?", "plain"]
    assert {prompt.category for prompt in jsonl(path)} == {"test"}


def test_a_named_field_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "no", "body": "yes"})
    assert jsonl(path, field="body")[0].text == "yes"


def test_blank_lines_and_a_byte_order_mark_are_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\n{"text": "b\xe2\x80\xa8c"}')
    assert [prompt.text for prompt in jsonl(path)] == ["a", "b\u2028c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', r"bad\.jsonl:2: not JSON"),
        (b'{"text": "a"}\n\xff\xfe\n', r"bad\.jsonl:2: not UTF-8"),
        (b"", "holds no prompts"),
        (b"\n\n", "holds no prompts"),
        (b"[1, 2]\n", r"bad\.jsonl:1: holds list"),
        (b'{"a": 1}\n', r"bad\.jsonl:1: has no field one of turns, prompt, question, text; it has a"),
        (b'{"text": 5}\n', r"bad\.jsonl:1: the field text holds int"),
        (b'{"turns": []}\n', r"bad\.jsonl:1: the field turns holds list"),
        (b'{"text": " "}\n', r"bad\.jsonl:1: the prompt is empty"),
        (b'{"turns": ["a", " "]}\n', r"bad\.jsonl:1: turn 2 of the prompt is empty"),
        (b'{"turns": ["a", 2]}\n', r"bad\.jsonl:1: the field turns holds int"),
        (b'{"id": "a", "turns": ["x", "y"]}\n{"id": "a/2", "text": "b"}\n', "the id 'a/2' is also that of turn 2 of 'a'"),
        (b'{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n', r"bad\.jsonl:2: the id '1' was used before"),
    ],
)
def test_a_bad_file_is_refused_with_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        jsonl(path)


@pytest.mark.parametrize("name", ["missing.jsonl", "torn.jsonl.gz"])
def test_an_unreadable_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(b'{"text": "a"}')[:-6])
    with pytest.raises(ValueError, match=f"{name}: cannot be read"):
        jsonl(path)


def test_hub_reads_a_local_directory(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "test.jsonl", {"question": "one"}, {"question": "two"})
    assert [prompt.text for prompt in hub(str(tmp_path / "set"), split="test")] == ["one", "two"]
    assert hub(str(tmp_path / "set"), column="question")[1] == Prompt("1", "set", ("two",))
    with pytest.raises(ValueError, match=r"has no field body \(meant as prompt\); it has question"):
        hub(str(tmp_path / "set"), column="body")
    with pytest.raises(ValueError, match=r"could not be loaded: .*train"):
        hub(str(tmp_path / "set"), split="train")
    write(tmp_path / "set" / "test.jsonl", {"turns": ["one", "two"]})
    assert hub(str(tmp_path / "set"), turns=1)[0].turns == ("one",)


def test_hub_names_a_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="could not be loaded"):
        hub(str(tmp_path / "nothing"))


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded prompts are not in this checkout")
def test_embedded_prompts_are_many_and_of_all_kinds() -> None:
    prompts = embedded()
    assert len(prompts) >= 40
    assert {prompt.category for prompt in prompts} == {"continue", "document", "edit", "list"}
    assert {prompt.category for prompt in embedded(["edit"])} == {"edit"}
    with pytest.raises(ValueError, match=r"names edits; the embedded prompts have continue, document, edit, list"):
        embedded(["edits"])
