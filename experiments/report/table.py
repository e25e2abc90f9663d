"""The comparison alone, as one table: `python -m experiments.report --table terminal`."""

from pathlib import Path

from experiments.analysis.tables import describe, print_comparison, print_failures, run_rows
from experiments.analysis.terminal import render
from experiments.recording.folder import read_summaries


def print_table(paths: list[Path], *, markdown: bool = False, categories: bool = False) -> None:
    """The comparison of the runs below the paths, and with `categories` a table per run. Raises ValueError where there is none."""
    summaries = read_summaries(paths)
    print_comparison(summaries, markdown=markdown)
    for summary in summaries if categories else []:
        print(f"\n{describe(summary)}{chr(10) if markdown else ''}")
        render(run_rows(summary), markdown=markdown)
    if not markdown:
        print_failures(paths)
