"""Tables of README and docs/exactness.md about rounding, from the newest record of `lossless.slots`. `python -m experiments.report.pages`."""

from pathlib import Path
from typing import Any

from experiments.analysis.terminal import as_markdown
from experiments.lossless.slots.job import ROUNDING
from experiments.recording.published import ROOT, newest, updated

README, DETAILS = ROOT / "README.md", ROOT / "docs" / "exactness.md"
MARK = "slots"
SUMMARY = ("chain of 8", "tree of 64", "1 slot, 8 rows", ROUNDING)  # what README shows


def said(value: float) -> str:
    """The value with two digits; below .001 with a power of ten."""
    return f"{value:.2g}" if value >= 1e-3 or value == 0 else f"{value:.1e}".replace("e-0", "e-")


def tv(case: dict[str, Any], temperature: float) -> dict[str, Any]:
    return next(found for found in case["tv"] if found["temperature"] == temperature)


def setting(record: dict[str, Any]) -> str:
    """On what, and under what circumstances."""
    found, config = record["provenance"], record["config"]
    machine = f"{found['cpu']}, {found['cpu_capability']}" if found["device"] == "cpu" else found["device"]
    versions = f"torch {found['versions']['torch']}, transformers {found['versions']['transformers']}"
    texts = f"{record['cases'][0]['positions']:,} positions of {record['num_texts']} texts that `{config['target']['name']}` sampled"
    return f"{texts} at temperature {config['text_temperature']:g}; {machine}, {versions}, {found['date'][:10]}, commit {found['git_commit']}"


def summary(record: dict[str, Any]) -> str:
    """README's table: one line per dtype, at the first temperature."""
    scale, length = record["config"]["temperatures"][0], record["config"]["max_new_tokens"]
    heads = ["dtype", *SUMMARY, f"texts of {length} tokens", "another likeliest token, up to a margin of"]
    rows = []
    for dtype in record["config"]["dtypes"]:
        cases = {case["way"]: case for case in record["cases"] if case["dtype"] == dtype}
        shapes = [case for name, case in cases.items() if name != ROUNDING]
        most, margins = max(case["flip_share"] for case in shapes), [case["largest_flipped_margin"] for case in shapes if case["flips"]]
        flips = f"{100 * most:.1f} %, {said(max(margins))}" if margins else "none"
        cells = [said(tv(cases[name], scale)["mean"]) + f" ({said(tv(cases[name], scale)['largest'])})" if name in cases else "-" for name in SUMMARY]
        cells = [dtype, *cells, said(max(case["text_tv"]["mean"] for case in shapes)), flips]
        rows.append(dict(zip(heads, cells, strict=True)))
    note = f"Mean TV per token at temperature {scale:g}, the largest in brackets; of whole texts, and of the likeliest token, the worst shape."
    return "\n".join([as_markdown(rows), "", f"{note} {setting(record)}."])


def details(record: dict[str, Any]) -> str:
    """The whole record: every dtype, shape and temperature."""
    scales = record["config"]["temperatures"]
    heads = [f"T={scale:g}: mean TV [95 %]; 1 in 100; largest" for scale in scales]
    length, whole = record["config"]["max_new_tokens"], f"TV of texts of {record['config']['max_new_tokens']} tokens [95 %]"
    heads = ["dtype", "forward", *heads, whole, "another likeliest token", "up to a margin of"]
    rows = []
    for case in record["cases"]:
        cells = [
            f"{interval(found)}; {said(found['one_in_100'])}; {said(found['largest'])}" for found in (tv(case, scale) for scale in scales)
        ]  # fmt: skip
        margin = "-" if case["largest_flipped_margin"] is None else said(case["largest_flipped_margin"])
        cells = [case["dtype"], case["way"], *cells, interval(case["text_tv"]), f"{100 * case['flip_share']:.2f} %", margin]
        rows.append(dict(zip(heads, cells, strict=True)))
    note = f"Texts of {length} tokens each, read by every way. Intervals are bootstraps over texts. {setting(record)}."
    return "\n".join([as_markdown(rows), "", note])


def interval(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{said(found['mean'])} [{said(low)}, {said(high)}]"


def pages() -> dict[Path, str]:
    """The pages that are written here, as they ought to be."""
    record = newest("slots", "experiments.lossless.slots output=...")
    return {path: updated(path.read_text(encoding="utf-8"), MARK, make(record)) for path, make in ((README, summary), (DETAILS, details))}
