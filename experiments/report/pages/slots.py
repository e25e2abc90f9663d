"""The table of docs/exactness.md about rounding, from the newest record of `lossless.slots`. `python -m experiments.report.pages`."""

from pathlib import Path
from typing import Any

from experiments.analysis.terminal import as_markdown
from experiments.recording.published import ROOT, newest, updated

PAGE = ROOT / "docs" / "exactness.md"
MARK = "slots"


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
    """The page that is written here, as it ought to be."""
    record = newest("slots", "experiments.lossless.slots output=...")
    return {PAGE: updated(PAGE.read_text(encoding="utf-8"), MARK, details(record))}
