"""What `draftproof report` does with its options: read, compose, print, write."""

import argparse
from functools import partial
from pathlib import Path

from experiments.analysis.frames import Runs, joined, load_runs
from experiments.analysis.imported import spec_bench, vllm
from experiments.analysis.terminal import render
from experiments.parts.door.plain import plain
from experiments.recording.files import write_atomically
from experiments.recording.folder import failures, newest_sweep
from experiments.report.answer_picture import answer_picture
from experiments.report.blocks import Items, Report, Rows, Text
from experiments.report.content import Beside, compose
from experiments.report.markdown import write_markdown
from experiments.report.other_results import load_ceilings, load_predictions
from experiments.report.page import to_html
from experiments.report.picture import speedup_picture
from experiments.report.svg import THEMES, Drawing
from experiments.report.table import print_table


def execute(options: argparse.Namespace) -> None:
    """Prints and writes what was asked for. Raises ValueError or OSError with one line for what cannot be read, shown or written."""
    check(options)
    paths = options.paths or ([] if options.spec_bench or options.vllm else [newest_sweep()])
    try:
        if options.table or options.categories:
            print_table(paths, markdown=options.table == "markdown", categories=options.categories)
        else:
            report_on(paths, options)
    except ValueError as error:
        raise ValueError(explained(error, paths)) from error


def report_on(paths: list[Path], options: argparse.Namespace) -> None:
    """The pictures, and the report where it was asked for or nothing else was."""
    failed = failed_runs(paths)
    runs = gather(paths, options)
    written: list[Path] = []
    if options.picture:
        written += write_drawing(speedup_picture(runs), options.picture)
    if options.answer_picture:
        written += write_drawing(answer_picture(runs, options.answer), options.answer_picture)
    if not written or options.html or options.markdown:
        report = compose(runs, Beside(failed, load_ceilings(options.replay), load_predictions(options.cost)))
        show(report)
        written += write(report, options.html, options.markdown)
    print("\n".join(f"written: {file}" for file in written) or "for figures and answers in colour add --html report.html")


def check(options: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together."""
    if options.spec_bench_baseline and not options.spec_bench:
        raise ValueError("--spec-bench-baseline is the plain decoding for --spec-bench; give both")
    if options.answer and not options.answer_picture:
        raise ValueError("--answer names the prompt of --answer-picture; give both")
    if (options.table or options.categories) and (options.html or options.markdown or options.picture or options.answer_picture):
        raise ValueError("--table and --categories print and write no file; give them without --html, --markdown and pictures")


def failed_runs(paths: list[Path]) -> list[str]:
    """A line per run that ended in an error. Raises ValueError where one left no word of it that can be read."""
    try:
        return failures(paths)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"an error.json below {', '.join(map(str, paths))} is damaged ({type(error).__name__}: {error}); remove it") from error


def gather(paths: list[Path], options: argparse.Namespace) -> Runs:
    """Our runs, and whatever is to stand beside them."""
    parts = [load_runs(paths)] if paths else []
    parts += [spec_bench(file, options.spec_bench_baseline) for file in options.spec_bench]
    return joined([*parts, *(vllm(file) for file in options.vllm)])


def explained(error: ValueError, paths: list[Path]) -> str:
    """The error; where there are only runs that failed, how many, and why the first did."""
    lines = failed_runs(paths)
    if not lines or any(path.is_file() or any(path.rglob("summary.json")) for path in paths):
        return str(error)
    return f"no run in {', '.join(map(str, paths))} has results: {len(lines)} failed; the first is {lines[0]}"


def write(report: Report, html: Path | None, markdown: Path | None) -> list[Path]:
    """Writes what was asked for and returns the files."""
    for path in filter(None, (html, markdown)):
        prepare(path)
    written = write_markdown(report, markdown) if markdown else []
    if html:
        write_atomically(html, to_html(report))
        written.append(html)
    return written


def write_drawing(drawing: Drawing, base: Path) -> list[Path]:
    """Writes a drawing once for light and once for dark pages, and returns both files."""
    base = base.with_suffix("") if base.suffix == ".svg" else base
    files = {base.with_name(f"{base.name}-{name}.svg"): drawing.to_svg(theme) for name, theme in THEMES.items()}
    for file, text in files.items():
        prepare(file)
        write_atomically(file, text)
    return list(files)


def prepare(path: Path) -> None:
    """Makes the folder of a file. Raises ValueError where the file cannot stand there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}: {error.filename}); name another file") from error
    if path.is_dir():
        raise ValueError(f"{path} cannot be written: it is a folder; name a file")


def show(report: Report) -> None:
    """What was measured, verdict and tables on the terminal."""
    print(f"{report.title}: {report.subtitle}" + (f"\n{report.head}" if report.head else ""))
    for block in report.blocks:
        if isinstance(block, Text) and block.mood != "plain":
            print(block.text)
        elif isinstance(block, Items) and block.mood != "plain":
            print("\n".join(f"- {item}" for item in block.items))
        elif isinstance(block, Rows) and "sound" in next(iter(block.rows), {}):
            render(block.rows)
        elif isinstance(block, Rows) and "end-to-end speedup" in next(iter(block.rows), {}):
            print()
            render(block.rows)


main = partial(plain, "report")
