"""`python -m experiments.report [FOLDER ...] [--html FILE] [--markdown FILE]`: recorded runs as a table, as Markdown, or as one HTML page.

`--table terminal` or `--table markdown` prints the comparison of the runs alone, `--categories` adds a table of their categories.
`--picture BASE` and `--answer-picture BASE` write BASE-light.svg and BASE-dark.svg, for a README.

Exit codes: 0 done, 2 there is nothing to report or a file cannot be read or written, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

HELP = "python -m experiments.report --help lists what there is"


class Terminated(BaseException):
    """SIGTERM has come."""


class Parser(argparse.ArgumentParser):
    """A mistake is a ValueError of one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; {HELP}")


def main(arguments: list[str] | None = None) -> int:
    """Whatever happens ends in one line at most and an exit code. What takes long to import is imported once the arguments are right."""
    try:
        with terminable():
            options = parser().parse_args(arguments)
            from experiments.report.command import execute

            execute(options)
            sys.stdout.flush()
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader, `head` for one, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Terminated:
        return 143
    return 0


@contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM raises Terminated; a handler can be set in the main thread only."""

    def end(*_: Any) -> NoReturn:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def parser() -> argparse.ArgumentParser:
    found = Parser(prog="python -m experiments.report", description="Recorded runs as a table, as Markdown, as pictures, or as one HTML page.")
    found.add_argument("paths", nargs="*", type=Path, help="run folders, sweep folders or summary.json files; default: the newest sweep")
    found.add_argument("--table", choices=("terminal", "markdown"), help="print the comparison as one table and nothing else")
    found.add_argument("--categories", action="store_true", help="with the table: another one by category")
    found.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page here")
    found.add_argument("--markdown", type=Path, metavar="FILE", help="write Markdown here, its figures into a folder beside it")
    found.add_argument("--picture", type=Path, metavar="BASE", help="write the speedups as BASE-light.svg and BASE-dark.svg")
    found.add_argument("--answer-picture", type=Path, metavar="BASE", help="write one answer in colour as BASE-light.svg and BASE-dark.svg")
    found.add_argument(
        "--answer", metavar="PROMPT", help="with --answer-picture: the id of the prompt; default: a short one with all kinds of tokens"
    )
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
