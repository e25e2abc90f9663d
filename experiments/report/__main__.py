"""`python -m experiments.report [FOLDER ...] [--html FILE] [--markdown FILE]`: recorded runs as a table, as Markdown, or as one HTML page.

`--table terminal` or `--table markdown` prints the comparison of the runs alone, `--categories` adds a table per run.

Exit codes: 0 done, 2 there is nothing to report or a file cannot be read or written.
"""

import argparse
import sys
from pathlib import Path

from experiments.analysis.frames import Runs, joined, load_runs
from experiments.analysis.imported import spec_bench, vllm
from experiments.analysis.terminal import render
from experiments.recording.folder import failures, newest_sweep
from experiments.report.blocks import Items, Report, Rows, Text
from experiments.report.content import Beside, compose
from experiments.report.markdown import write_markdown
from experiments.report.other_results import load_ceilings, load_predictions
from experiments.report.page import to_html
from experiments.report.table import print_table


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        if options.table or options.categories:
            print_table(options.paths or [newest_sweep()], markdown=options.table == "markdown", categories=options.categories)
            return 0
        paths = options.paths or ([] if options.spec_bench or options.vllm else [newest_sweep()])
        beside = Beside(failures(paths), load_ceilings(options.replay), load_predictions(options.cost))
        report = compose(gather(paths, options), beside)
        show(report)
        written = write(report, options.html, options.markdown)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(f"written: {file}" for file in written) or "for figures and answers in colour add --html report.html")
    return 0


def gather(paths: list[Path], options: argparse.Namespace) -> Runs:
    """Our runs, and whatever is to stand beside them."""
    if options.spec_bench_baseline and not options.spec_bench:
        raise ValueError("--spec-bench-baseline is the plain decoding for --spec-bench; give both")
    parts = [load_runs(paths)] if paths else []
    parts += [spec_bench(file, options.spec_bench_baseline) for file in options.spec_bench]
    return joined([*parts, *(vllm(file) for file in options.vllm)])


def write(report: Report, html: Path | None, markdown: Path | None) -> list[Path]:
    """Writes what was asked for and returns the files."""
    for path in filter(None, (html, markdown)):
        path.parent.mkdir(parents=True, exist_ok=True)
    written = write_markdown(report, markdown) if markdown else []
    if html:
        html.write_text(to_html(report), encoding="utf-8")
        written.append(html)
    return written


def show(report: Report) -> None:
    """Verdict and tables on the terminal."""
    print(f"{report.title}: {report.subtitle}")
    for block in report.blocks:
        if isinstance(block, Text) and block.mood != "plain":
            print(block.text)
        elif isinstance(block, Items) and block.mood != "plain":
            print("\n".join(f"- {item}" for item in block.items))
        elif isinstance(block, Rows) and "sound" in next(iter(block.rows), {}):
            render(block.rows)
        elif isinstance(block, Rows) and "speedup" in next(iter(block.rows), {}):
            print()
            render(block.rows)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m experiments.report", description="Recorded runs as a table, as Markdown, or as one HTML page.")
    found.add_argument("paths", nargs="*", type=Path, help="run folders, sweep folders or summary.json files; default: the newest sweep")
    found.add_argument("--table", choices=("terminal", "markdown"), help="print the comparison as one table and nothing else")
    found.add_argument("--categories", action="store_true", help="with the table: also one per run with its categories")
    found.add_argument("--html", type=Path, help="write one self-contained page here")
    found.add_argument("--markdown", type=Path, help="write Markdown here, its figures into a folder beside it")
    found.add_argument(
        "--replay", nargs="+", type=Path, default=[], metavar="FILE", help="files of experiments.replay: ceilings for the gamma curves"
    )
    found.add_argument("--cost", nargs="+", type=Path, default=[], metavar="FILE", help="cost.json of experiments.cost: predicted against measured")
    found.add_argument("--spec-bench", nargs="+", type=Path, default=[], metavar="FILE", help="answer files of Spec-Bench to stand beside ours")
    found.add_argument("--spec-bench-baseline", type=Path, metavar="FILE", help="Spec-Bench's answers by plain decoding, for its speedups")
    found.add_argument("--vllm", nargs="+", type=Path, default=[], metavar="FILE", help="responses of vLLM with per-request speculative metrics")
    return found


if __name__ == "__main__":
    sys.exit(main())
