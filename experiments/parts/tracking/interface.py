"""What a tracker is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from experiments.recording.record import Pair


class Tracker(Protocol):
    """Told of a run as it goes; none of the calls may raise once `start` has been passed a valid configuration."""

    def start(self, config: dict[str, Any], folder: Path, *, labels: dict[str, str], group: str | None = None, tokenizer: Any = None) -> None:
        """`labels` name the parts of the run: target, drafter, verifier, sampling, data, device. `group` joins the runs of a sweep."""
        ...

    def log_prompts(self, pairs: Sequence[Pair], steps: Sequence[dict[str, Any]]) -> None:
        """Finished prompts and their steps, in order."""
        ...

    def finish(self, summary: dict[str, Any] | None) -> None:
        """The end, after the folder has been written; None where the run failed before it could be summed up."""
        ...
