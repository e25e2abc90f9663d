"""What W&B shows that is not a number: histograms, coloured answers, the files of a run; and the calls that end or limit its process."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

FILES = ("config.yaml", "manifest.json", "records.jsonl", "steps.jsonl", "checks.json", "summary.json", "proof/lossless.json")
MAX_BINS = 512  # W&B takes no more


def histogram(counts: Counter[int]) -> Any:
    """A `wandb.Histogram` with one bin per whole number, from 0 to the largest that occurred; the last bin holds all that is larger still."""
    import wandb

    bins = [0] * (min(max(counts, default=0), MAX_BINS - 1) + 1)
    for length, steps in counts.items():
        bins[min(length, MAX_BINS - 1)] += steps
    made: Any = (bins, [edge - 0.5 for edge in range(len(bins) + 1)])
    return wandb.Histogram(np_histogram=made)


def html(text: str | None) -> Any:
    """A table cell that shows HTML, in a frame of its own; None stays None."""
    import wandb

    return None if text is None else wandb.Html(text, inject=False)


def artifact(folder: Path, run_id: str) -> Any:
    """The files of a run's folder, as they are there: no copies are made, so they must be in place until they have been sent."""
    import wandb

    made = wandb.Artifact(f"run-{run_id}-folder", type="run-folder", metadata={"folder": folder.as_posix()})
    for name in FILES:
        if (folder / name).exists():
            made.add_file(str(folder / name), policy="immutable")
    return made


def limits(settings: Any, finish_timeout: float) -> dict[str, Any]:
    """The setting that keeps a lost connection from holding up the end of a run, where this version of W&B has it."""
    return {"finish_timeout": finish_timeout, "finish_timeout_raises": True} if "finish_timeout" in settings.model_fields else {}


def end_service() -> None:
    """Ends W&B's own process, which may be dead or hold the id of a run that could not go online; the next run starts a new one."""
    import wandb

    with suppress(Exception):
        wandb.teardown()


def staging(folder: Path) -> AbstractContextManager[None]:
    """Within it, W&B keeps copies of media that wait to be sent in this folder instead of the user's home."""
    return _variable("WANDB_DATA_DIR", str(folder))


def without_hints() -> AbstractContextManager[None]:
    """Within it, W&B does not advertise its tool for language models because a package called `verifiers` is in use: it is ours, not the one it
    knows. A program that has imported that tool (`weave`) gets it all the same."""
    return nullcontext() if "weave" in sys.modules else _variable("WANDB_DISABLE_WEAVE", "true")


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable while the context lasts, unless the user has set it."""
    before = os.environ.get(name)
    if before is None:
        os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
