"""What speculation should gain here, and what it did. `python -m experiments.cost drafter=draft_model 'gammas=[1,2,4,8]'`, or `'runs=[FOLDER]'`.

Times the target's forward against slots, context and batch, the drafter, and the rest of a step; fits them; predicts the speedup of recorded runs
(else of a small sweep of its own) and the best gamma; and says which phase took another time than predicted. Settings: `conf/cost.yaml`.
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from experiments.cost.job import execute
from experiments.parts.command import leaving_word, start


@hydra.main(config_path="pkg://conf", config_name="cost", version_base=None)
def job(config: DictConfig) -> None:
    settings = HydraConfig.get()
    folder, swept = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    with leaving_word(folder, swept):
        execute(config, folder)


def main() -> None:
    start(job)  # pyright: ignore[reportArgumentType]  Hydra fills in the configuration


if __name__ == "__main__":
    main()
