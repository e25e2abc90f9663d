"""Results of other projects in our frames: answer files of Spec-Bench, and vLLM's per-request speculative metrics.

Their counting differs from ours; every importer says how in `Runs.notes`, and what was not recorded stays empty. Sources: Spec-Bench,
github.com/hemingkx/Spec-Bench, evaluation/eval.py; vLLM's page "Per-Request Acceptance Metrics", which calls its format experimental.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.frames import ALL, Runs, rate_interval
from experiments.analysis.speedup import Comparison, Timed, compare
from experiments.recording.files import json_lines

Row = dict[str, Any]
SPEC_BENCH, VLLM = "Spec-Bench", "vLLM"
MT_BENCH, MT_BENCH_KINDS = "multi-turn conversation", {"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}
SPEC_BENCH_NOTE = (
    "Spec-Bench: accept_lengths count the bonus token, so their mean is tokens per step, and accepted is one less. Its clock includes the prompt's "
    "forward, so its speedups are end to end. Each method answers the second turn after its own first answer, and tokens beyond the end of an answer "
    "may be counted."
)
VLLM_NOTE = (
    "vLLM: steps without a draft are not reported. Tokens per step is therefore completion tokens / (completion tokens - accepted), which counts "
    "every forward once, the prompt's included; without usage in a response it is 1 + accepted / steps with a draft, which is more. The clock, where "
    "there is one, runs from the first token to the last. There is no plain decoding to compare with, so no speedup."
)


def spec_bench(path: str | Path, baseline: str | Path | None = None) -> Runs:
    """An answer file of Spec-Bench; with the answer file of plain decoding (`baseline`), also its speedup, paired by question.

    Raises ValueError naming file and line of what is not such an answer, or if the two files share no question.
    """
    answers, failed = _answers(Path(path))
    plain = _answers(Path(baseline))[0] if baseline is not None else {}
    if baseline is not None and not set(answers) & set(plain):
        raise ValueError(f"{path} and {baseline} share no question; give the answers of both to the same questions")
    first = next(iter(answers.values()))
    method = f"{first['model']} [{SPEC_BENCH}]"
    marks = {"method": method, "source": SPEC_BENCH, "role": "method"}
    records = pd.DataFrame(
        [marks | {key: value for key, value in answer.items() if key not in ("model", "accept_lengths")} for answer in answers.values()]
    )
    steps = [
        marks | {"prompt": answer["prompt"], "category": answer["category"], "step": index, "accepted": length - 1, "emitted": length}
        for answer in answers.values()
        for index, length in enumerate(answer["accept_lengths"])
    ]

    def gain(held: pd.DataFrame) -> Comparison | None:
        both = [prompt for prompt in held["prompt"] if prompt in plain]
        return compare(_timed([plain[prompt] for prompt in both]), _timed([answers[prompt] for prompt in both])) if both else None

    notes = [f"{method}: {failed} questions ended in an error there and are left out"] if failed else []
    return _runs(method, SPEC_BENCH, records, pd.DataFrame(steps), gain, [SPEC_BENCH_NOTE, *notes])


def vllm(path: str | Path, name: str | None = None) -> Runs:
    """Responses of a vLLM server started with --per-request-spec-decode-metrics, one JSON object per line; also the output of its batch runner.

    A line may carry `category` and `id`. `detailed` metrics give the order of the steps, `summary` only how many there were of each kind.
    Raises ValueError if a line is not JSON or no line holds the metrics.
    """
    rows, steps = [], []
    for where, line in json_lines(Path(path)):
        body = (line.get("response") or {}).get("body") or line
        found = (body.get("metrics") or {}).get("speculative_decoding")
        if not found:
            continue  # e.g. the chunks before the last of a streamed response
        row, lengths = _response(where, line, body, found)
        rows.append(row)
        steps += [{"prompt": row["prompt"], "category": row["category"], "accepted": length, "emitted": length + 1} for length in lengths]
    if not rows:
        raise ValueError(
            f"{path}: no line holds metrics.speculative_decoding; start vLLM with --per-request-spec-decode-metrics summary, ask for n=1, "
            "and when streaming for stream_options.include_usage"
        )
    method = f"{name or rows[0]['model'] or Path(path).stem} [{VLLM}]"
    marks = {"method": method, "source": VLLM, "role": "method"}
    records = pd.DataFrame([marks | row for row in rows]).drop(columns="model")
    return _runs(method, VLLM, records, pd.DataFrame([marks | step for step in steps]), lambda held: None, [VLLM_NOTE])


def _answers(path: Path) -> tuple[dict[str, Row], int]:
    """Answers by question id, the last one of each, and how many questions failed there."""
    found: dict[str, Row] = {}
    failed = set()
    for where, line in json_lines(path):
        try:
            choice, prompt, category = line["choices"][0], str(line["question_id"]), line["category"]
            lengths, new, wall = [int(length) for length in choice["accept_lengths"]], sum(choice["new_tokens"]), float(sum(choice["wall_time"]))
            usable = lengths and "ERROR" not in choice["turns"] and new > 0 and wall > 0
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"{where}: is not an answer of Spec-Bench ({type(error).__name__}: {error}); it needs question_id, category and choices "
                "with turns, new_tokens, wall_time and accept_lengths"
            ) from error
        if not usable:
            failed.add(prompt)
            continue
        task = MT_BENCH if category in MT_BENCH_KINDS else category
        counts = {"num_tokens": sum(lengths), "num_steps": len(lengths), "num_accepted": sum(lengths) - len(lengths), "new_tokens": new}
        row = {"prompt": prompt, "category": task, "model": str(line.get("model_id", path.stem)), **counts, "accept_lengths": lengths}
        found[prompt] = row | {"end_to_end_seconds": wall}
    if not found:
        raise ValueError(f"{path}: holds no answer that ended without an error")
    return found, len(failed - set(found))


def _response(where: str, line: Row, body: Row, found: Row) -> tuple[Row, list[int]]:
    """Record and accepted lengths of one response."""
    try:
        accepted, drafted, steps = (int(found[key]) for key in ("num_accepted_draft_tokens", "num_draft_tokens", "num_spec_steps"))
        histogram = found["acceptance_histogram"]
        pairs = histogram.items() if isinstance(histogram, dict) else enumerate(histogram)
        lengths = found.get("per_step_accepted") or [int(length) for length, count in pairs for _ in range(count)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: metrics.speculative_decoding is not in the documented form ({type(error).__name__}: {error})") from error
    completion = (body.get("usage") or {}).get("completion_tokens")
    tokens = completion or steps + accepted
    forwards = max(tokens - accepted, steps, 1)
    timing = body["metrics"].get("generation_time_ms")
    prompt, category = str(line.get("custom_id") or line.get("id") or body.get("id") or where), line.get("category", ALL)
    row = {"prompt": prompt, "category": category, "model": body.get("model"), "num_tokens": tokens, "num_steps": forwards, "num_accepted": accepted}
    return row | {"num_drafted": drafted, "new_tokens": tokens, "decode_seconds": timing / 1000 if timing else None}, lengths


def _runs(
    method: str, source: str, records: pd.DataFrame, steps: pd.DataFrame, gain: Callable[[pd.DataFrame], Comparison | None], notes: list[str]
) -> Runs:
    kinds = [kind for kind in dict.fromkeys(records["category"]) if kind != ALL]
    parts = {ALL: records} | ({kind: pd.DataFrame(records[records["category"] == kind]) for kind in kinds} if len(kinds) > 1 else {})
    categories = [{"method": method, "source": source, "category": kind, **_figures(held, gain(held))} for kind, held in parts.items()]
    whole = categories[0] | {"valid": True, "interrupted": False}
    return Runs(pd.DataFrame([whole]).drop(columns="category"), pd.DataFrame(categories), records, steps, notes=notes)


def _figures(records: pd.DataFrame, gain: Comparison | None) -> Row:
    """The rates that our own summaries have, as far as they are known."""
    sums = records[["num_tokens", "num_steps", "num_accepted", "new_tokens"]].sum()
    clock = next((name for name in ("decode_seconds", "end_to_end_seconds") if name in records and not records[name].isna().to_numpy().any()), None)
    speed = sums["new_tokens"] / records[clock].sum() if clock else None
    low, high = rate_interval(records) or (None, None)
    drafted = records[["num_drafted"]].sum().item() if "num_drafted" in records else 0
    return {
        "num_prompts": len(records),
        "num_units": gain.units if gain else len(records),
        "tokens_per_step": sums["num_tokens"] / sums["num_steps"],
        "accepted_per_step": sums["num_accepted"] / sums["num_steps"],
        "acceptance_rate": sums["num_accepted"] / drafted if drafted else None,
        "tokens_per_second": speed if clock == "decode_seconds" else None,
        "tokens_per_second_with_prefill": speed if clock == "end_to_end_seconds" else None,
        "speedup": None,
        "speedup_with_prefill": gain.ratio if gain else None,
        "speedup_with_prefill_low": gain.interval[0] if gain and gain.interval else None,
        "speedup_with_prefill_high": gain.interval[1] if gain and gain.interval else None,
        "tokens_per_step_low": low,
        "tokens_per_step_high": high,
    }


def _timed(answers: Sequence[Row]) -> Timed:
    frame = pd.DataFrame(answers)
    return Timed(frame["end_to_end_seconds"].to_numpy(float), frame["new_tokens"].to_numpy(float))
