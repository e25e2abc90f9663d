"""No tracking."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.recording.record import Pair


class NoTracking:
    """Does nothing."""

    def start(self, config: dict[str, Any], folder: Path, *, labels: dict[str, str], group: str | None = None, tokenizer: Any = None) -> None: ...

    def log_prompts(self, pairs: Sequence[Pair], steps: Sequence[dict[str, Any]]) -> None: ...

    def finish(self, summary: dict[str, Any] | None) -> None: ...
