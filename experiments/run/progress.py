"""How far a run is: a bar on a terminal, a line per prompt in the log elsewhere."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)


@contextmanager
def progress(total: int, done: int) -> Iterator[Any]:
    """Yields a function to call with the figures of finished prompts: a bar on a terminal, a line per prompt elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        count = done

        def tell(rows: Sequence[dict[str, Any]]) -> None:
            nonlocal count
            for row in rows:
                count += 1
                log.info("%d/%d %s: %s", count, total, row["prompt"], told(row))

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("prompts", total=total, completed=done)

        def show(rows: Sequence[dict[str, Any]]) -> None:
            bar.update(task, advance=len(rows), description=told(rows[-1]))

        yield show


def told(row: dict[str, Any]) -> str:
    """The figures of one prompt in a few words."""
    return f"{row['tokens_per_step']:.2f} tokens per step, end-to-end speedup {row['speedup_with_prefill']:.2f}"
