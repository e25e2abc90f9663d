"""What replay and the cost model wrote, as frames for the figures beside recorded runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.measured import head
from experiments.analysis.summary import labels
from experiments.recording.files import read_rows
from experiments.recording.naming import method_name


def load_ceilings(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Columns label, draft_tokens, tokens_per_step from files of `draftproof replay ... output=FILE`: upper bounds.

    Best lengths: this drafter, had it known how long to draft; always right: any drafter with drafts as long as these.
    Raises ValueError naming the file that is not such a result.
    """
    rows = []
    for path in map(Path, paths):
        try:
            lines = read_rows(path)
            drafter = method_name(lines[0]["config"]["drafter"])
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(f"{path}: is not a result of draftproof replay ({error}); write one with output={path}") from error
        for line in lines[1:]:
            if line.get("total") and line["category"] == "all" and line["length"] is not None:
                if line["kind"] == "best lengths":
                    rows.append({"label": f"{drafter}, best lengths", "draft_tokens": line["length"], "tokens_per_step": line["tokens_per_step"]})
                elif "ceiling_tokens_per_step" in line:
                    found = {"draft_tokens": line["length"], "tokens_per_step": line["ceiling_tokens_per_step"]}
                    rows.append({"label": f"{drafter}, always right", **found})
    return pd.DataFrame(rows, columns=["label", "draft_tokens", "tokens_per_step"])


def load_predictions(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Columns run, gamma, predicted, measured, each with low and high, error, head, from `cost.json` of `draftproof cost`.

    head: on what was measured; "" where the file does not say.

    Raises ValueError naming the file that is not such a result.
    """
    rows = []
    for path in map(Path, paths):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            measured = result["runs"]
            told = cost_head(result)
            for row in measured:
                limits = {name: row[f"{name}_interval"] or (None, None) for name in ("predicted", "measured")}
                ends = {f"{name}_{end}": pair[place] for name, pair in limits.items() for place, end in enumerate(("low", "high"))}
                rows.append({key: row[key] for key in ("run", "gamma", "predicted", "measured", "error")} | ends | {"head": told})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: is not the cost.json of draftproof cost ({type(error).__name__}: {error})") from error
    return pd.DataFrame(rows)


def cost_head(result: dict[str, Any]) -> str:
    """What a `cost.json` measured, in the words of every other head; "" where it does not say."""
    config, origin = result.get("config"), result.get("provenance")
    if not config or not origin:
        return ""
    return head([{"labels": labels(config), "config": config, "provenance": origin, "num_prompts": config.get("num_prompts"), "by_category": {}}])
