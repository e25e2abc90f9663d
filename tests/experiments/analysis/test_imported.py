"""Results of Spec-Bench and vLLM in our frames, from files of their form made here."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.analysis.frames import joined, load_runs
from experiments.analysis.imported import spec_bench, vllm
from experiments.report.command import main
from tests.experiments.recorded import write_run


def answer(question: int, category: str, lengths: list[int], seconds: float, **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "turns": ["text"], "decoding_steps": [99], "new_tokens": [sum(lengths)], "wall_time": [seconds], "accept_lengths": lengths}
    return {"question_id": question, "category": category, "answer_id": "x", "model_id": "a-model", "choices": [choice | changes], "tstamp": 1.0}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))  # the last line has no newline, as in many such files
    return path


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    rows = [answer(81, "writing", [1, 3, 2], 1.0), answer(82, "roleplay", [1, 1], 1.0), answer(400, "rag", [4, 4], 1.0)]
    return written(tmp_path / "method.jsonl", rows)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    rows = [answer(number, kind, [1] * 4, 2.0) for number, kind in ((81, "writing"), (82, "roleplay"), (400, "rag"))]
    return written(tmp_path / "plain.jsonl", rows)


def of_many(tmp_path: Path, name: str, seconds: list[float]) -> Path:
    """Answers to as many questions as there are seconds."""
    return written(tmp_path / name, [answer(500 + place, "qa", [4], wall) for place, wall in enumerate(seconds)])


def test_spec_bench_counts_the_bonus_and_we_do_not(answers: Path) -> None:
    runs = spec_bench(answers)
    row = runs.summaries.iloc[0]
    assert row["method"] == "a-model [Spec-Bench]"
    assert row["tokens_per_step"] == pytest.approx(16 / 7)
    assert row["accepted_per_step"] == pytest.approx(9 / 7)
    assert row["tokens_per_second_with_prefill"] == pytest.approx(16 / 3)
    assert row["speedup_with_prefill"] is None
    assert runs.categories[["category", "num_prompts"]].values.tolist() == [["all", 3], ["multi-turn conversation", 2], ["rag", 1]]
    assert runs.steps["accepted"].tolist() == [0, 2, 1, 0, 0, 3, 3]
    assert "bonus" in runs.notes[0]


def test_its_speedup_is_paired_by_question_and_counts_tokens_by_ids(answers: Path, plain: Path) -> None:
    found = spec_bench(answers, plain).categories.set_index("category")
    assert found.loc["all", "speedup_with_prefill"] == pytest.approx((6 / 12) / (3 / 16))
    assert found.loc["rag", "speedup_with_prefill"] == pytest.approx((2 / 4) / (1 / 8))
    assert found["speedup"].isna().all()  # its clock has the prompt in it
    assert (found.loc["all", "num_units"], found.loc["all", "speedup_with_prefill_low"]) == (3, None)


def test_its_speedup_has_an_interval_from_six_questions_on(tmp_path: Path) -> None:
    method, beside = of_many(tmp_path, "m.jsonl", [1.0, 1.1, 0.9, 1.2, 1.0, 0.8]), of_many(tmp_path, "b.jsonl", [2.0] * 6)
    row = spec_bench(method, beside).summaries.iloc[0]
    assert row["speedup_with_prefill"] == pytest.approx(2.0)
    assert 1.5 < row["speedup_with_prefill_low"] < 2 < row["speedup_with_prefill_high"] < 2.6


def test_answers_that_failed_there_are_left_out_and_a_second_try_counts(answers: Path) -> None:
    extra = [answer(5, "qa", [2], 1.0, turns=["ERROR"]), answer(6, "qa", [2], 1.0, turns=["ERROR"]), answer(6, "qa", [2, 2], 1.0)]
    answers.write_text(answers.read_text() + "\n" + "\n".join(map(json.dumps, extra)))
    runs = spec_bench(answers)
    assert runs.records["prompt"].tolist() == ["81", "82", "400", "6"]
    assert "1 questions ended in an error" in runs.notes[-1]


def response(histogram: Any, **changes: Any) -> dict[str, Any]:
    pairs = list(histogram.items() if isinstance(histogram, dict) else enumerate(histogram))
    steps, accepted = sum(count for _, count in pairs), sum(int(length) * count for length, count in pairs)
    counts = {"num_spec_steps": steps, "num_accepted_draft_tokens": accepted, "num_draft_tokens": 3 * steps, "num_spec_tokens": 3}
    rates = {"mean_acceptance_length": 1 + accepted / steps, "draft_acceptance_rate": accepted / (3 * steps), "acceptance_histogram": histogram}
    body = {"id": "chat-1", "model": "llama", "choices": [], "usage": {"completion_tokens": 20}, "metrics": {"speculative_decoding": counts | rates}}
    return body | changes


def test_vllm_counts_every_forward_where_the_usage_says_so(tmp_path: Path) -> None:
    runs = vllm(written(tmp_path / "v.jsonl", [response([3, 1, 0, 2]), response([3, 1, 0, 2], id="chat-2", usage=None)]))
    assert runs.records["num_steps"].tolist() == [20 - 7, 6]
    assert runs.records["num_tokens"].tolist() == [20, 13]
    assert runs.summaries.iloc[0]["acceptance_rate"] == pytest.approx(14 / 36)
    assert runs.summaries.iloc[0]["method"] == "llama [vLLM]"
    assert runs.steps["accepted"].value_counts().to_dict() == {0: 6, 3: 4, 1: 2}


def test_vllm_detailed_batch_and_streamed_forms(tmp_path: Path) -> None:
    detailed = response([1, 0, 1, 0])
    detailed["metrics"]["speculative_decoding"] |= {"per_step_accepted": [2, 0], "per_step_drafted": [3, 3]}
    detailed["metrics"]["generation_time_ms"] = 2000.0
    rows = [{"custom_id": "q7", "response": {"status_code": 200, "body": detailed}}, {"object": "chat.completion.chunk", "metrics": None}]
    runs = vllm(written(tmp_path / "v.jsonl", rows))
    assert runs.steps["accepted"].tolist() == [2, 0]
    assert runs.records["prompt"].tolist() == ["q7"]
    assert runs.summaries.iloc[0]["tokens_per_second"] == pytest.approx(10)


def test_files_of_another_kind_are_named_by_line(tmp_path: Path, answers: Path, plain: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.jsonl: cannot be read"):
        spec_bench(tmp_path / "no.jsonl")
    with pytest.raises(ValueError, match=r"a\.jsonl:2: not JSON"):
        spec_bench(_text(tmp_path / "a.jsonl", '{"x": 1}\n{'))
    with pytest.raises(ValueError, match=r"b\.jsonl:1: holds list"):
        vllm(_text(tmp_path / "b.jsonl", "[1]"))
    with pytest.raises(ValueError, match=r"c\.jsonl:1: is not an answer of Spec-Bench"):
        spec_bench(written(tmp_path / "c.jsonl", [{"question_id": 1, "turns": ["a question file"]}]))
    with pytest.raises(ValueError, match="per-request-spec-decode-metrics"):
        vllm(written(tmp_path / "d.jsonl", [{"id": "x", "metrics": None}]))
    with pytest.raises(ValueError, match=r"e\.jsonl:1: .*documented form"):
        vllm(written(tmp_path / "e.jsonl", [{"metrics": {"speculative_decoding": {"num_spec_steps": 3}}}]))
    other = written(tmp_path / "other.jsonl", [answer(7, "qa", [1], 1.0)])
    with pytest.raises(ValueError, match="share no question"):
        spec_bench(answers, other)


def test_they_stand_beside_ours(tmp_path: Path, answers: Path, plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = write_run(tmp_path / "run")
    server = written(tmp_path / "v.jsonl", [response([3, 1, 0, 2]), response([3, 1, 0, 2], id="chat-2")])
    assert joined([load_runs([own]), spec_bench(answers), vllm(server)]).methods == ["prompt_lookup", "a-model [Spec-Bench]", "llama [vLLM]"]
    options = ["--spec-bench", str(answers), "--spec-bench-baseline", str(plain), "--vllm", str(server)]
    for folders in ([str(own)], []):
        assert main([*folders, *options]) == 0
        told = capsys.readouterr().out
        assert all(name in told for name in ("a-model [Spec-Bench]", "llama [vLLM]", "accept_lengths count the bonus token"))


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
