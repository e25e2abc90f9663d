"""What a sweep of the battery remembers, in a module of its own: the command runs as `__main__`, and Hydra would fill a second copy of it."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

SWEEPS: list[Path] = []  # folders of the sweeps that this process has started


class RememberSweep(Callback):
    """Notes where a sweep puts its runs, to judge them together when it has ended."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        SWEEPS.append(Path(config.hydra.sweep.dir))
