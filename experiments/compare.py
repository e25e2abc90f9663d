"""`python -m experiments.compare [FOLDER ...]`: one table from the summaries of several runs; without a folder, from the newest sweep."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from experiments.proofs.proof import mark_of, reason_of
from experiments.resume import note_options
from experiments.table import comparison_rows, describe, render, run_rows

SWEEPS: list[Path] = []  # folders of the sweeps that this process has started


class RememberSweep(Callback):
    """Notes where a sweep puts its runs, so that the table can be printed even if one of them fails, and the options it was started with."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        SWEEPS.append(Path(config.hydra.sweep.dir))
        note_options(SWEEPS[-1], config.hydra.overrides.task)

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        note_options(Path(config.hydra.run.dir), config.hydra.overrides.task)


def read_summaries(paths: list[Path]) -> list[dict[str, Any]]:
    """Every `summary.json` at or below the paths, in the order of their folders. Raises ValueError if there is none or one cannot be read."""
    summaries = []
    for file in summary_files(paths):
        try:
            summary = json.loads(file.read_text(encoding="utf-8"))
            assert {"labels", "speedup", "by_category"} <= set(summary)
        except (ValueError, AssertionError, TypeError) as error:
            raise ValueError(f"{file}: is not the summary of a run; leave it out or run it again") from error
        summaries.append(summary)
    return summaries


def summary_files(paths: list[Path]) -> list[Path]:
    """Where `read_summaries` reads. Raises ValueError if there is nothing."""
    found = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("summary.json"), key=natural))]
    if not found:
        raise ValueError(f"no summary.json in {', '.join(map(str, paths))}; run python -m experiments.run first")
    return list(dict.fromkeys(found))


def print_comparison(summaries: list[dict[str, Any]], *, markdown: bool = False) -> None:
    """The table, and below it what its marks of proof mean, each once."""
    render(comparison_rows(summaries), markdown=markdown)
    notes = dict.fromkeys(f"{mark_of(summary)}: {reason_of(summary)}" for summary in summaries)
    print("\n" * markdown + "\n".join(f"{'- ' * markdown}proof {note}" for note in notes))


def print_sweeps() -> None:
    """The comparison of what this process has swept, as far as it got."""
    for folder in SWEEPS:
        print(f"\nresults in {folder}")
        if any(folder.rglob("summary.json")):
            print_comparison(read_summaries([folder]))
        print_failures([folder])


def swept_summaries() -> list[dict[str, Any]]:
    """Of every run that this process has swept, as far as it got."""
    return [summary for folder in SWEEPS if any(folder.rglob("summary.json")) for summary in read_summaries([folder])]


def print_failures(paths: list[Path]) -> None:
    """A line for every run that ended in an error, so that it is not missed in the table."""
    for line in failures(paths):
        print(f"failed: {line}")


def failures(paths: list[Path]) -> list[str]:
    """Folder and error of every run below the paths that ended in one."""
    files = (file for path in paths for file in sorted(path.rglob("error.json"), key=natural))
    return [f"{file.parent}: {json.loads(file.read_text(encoding='utf-8'))['error']}" for file in files]


def newest_sweep(root: Path = Path("multirun")) -> Path:
    """The folder of the last sweep, by Hydra's dated names. Raises ValueError if there is none."""
    folders = sorted(path for path in root.glob("*/*") if any(path.rglob("summary.json")))
    if not folders:
        raise ValueError(f"no results in {root}/; name a folder, or run python -m experiments.run -m ... first")
    return folders[-1]


def natural(path: Path) -> list[tuple[int, str]]:
    """Sorts job 10 after job 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in path.parts]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.compare", description="One table from the summaries of several runs.")
    parser.add_argument("paths", nargs="*", type=Path, help="run folders, sweep folders or summary.json files; default: the newest sweep")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown, as in the README")
    parser.add_argument("--categories", action="store_true", help="also a table per run with its categories")
    options = parser.parse_args(arguments)
    try:
        paths = options.paths or [newest_sweep()]
        summaries = read_summaries(paths)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_comparison(summaries, markdown=options.markdown)
    for summary in summaries if options.categories else []:
        print(f"\n{describe(summary)}{chr(10) if options.markdown else ''}")
        render(run_rows(summary), markdown=options.markdown)
    if not options.markdown:
        print_failures(paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
