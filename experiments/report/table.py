"""The comparison alone, as one table: `draftproof report --table terminal`."""

from pathlib import Path

from experiments.analysis.frames import Runs, load_runs
from experiments.analysis.tables import print_comparison, print_failures, run_rows
from experiments.analysis.terminal import Row, render


def print_table(paths: list[Path], *, markdown: bool = False, categories: bool = False) -> None:
    """The comparison of the runs below the paths, and with `categories` one table of all their categories. Raises ValueError where there is none."""
    runs = load_runs(paths)
    print_comparison(runs.documents, markdown=markdown)
    if categories:
        print()
        render(category_rows(runs), markdown=markdown)
    if not markdown:
        print_failures(paths)


def category_rows(runs: Runs) -> list[Row]:
    """A row per run and category, all categories of a run one below the other."""
    return [{"method": name} | row for name, document in zip(runs.methods, runs.documents, strict=True) for row in run_rows(document)]
