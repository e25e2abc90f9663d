"""A record to vary."""

from typing import Any

from experiments.recording.record import Record


def record(prompt: str, role: str = "method", **changes: Any) -> Record:
    values: dict[str, Any] = {
        "prompt": prompt,
        "category": "c",
        "role": role,
        "batch": 0,
        "order": 0,
        "prompt_tokens": 3,
        "tokens": [1, 2, 3],
        "text": "\u2028 abc",
        "num_steps": 2,
        "num_drafted": 4,
        "num_accepted": 1,
        "tested": [2, 1],
        "kept": [1, 0],
        "seconds": {"draft": 0.1, "target": 0.5, "verify": 0.1, "commit": 0.1, "other": 0.0},
        "prefill_seconds": 0.1,
        "ended": "length",
        "repetition": None,
        "loops": False,
    }
    return Record(**{**values, **changes})


def step(prompt: str, role: str = "method", index: int = 0, **changes: Any) -> dict[str, Any]:
    """A line of `steps.jsonl`."""
    counts = {"drafted": 0, "depth": 0, "accepted": 0, "emitted": 1}
    return {"prompt": prompt, "role": role, "step": index, **counts, "seconds": {"draft": 0.1, "target": 0.2}, **changes}
