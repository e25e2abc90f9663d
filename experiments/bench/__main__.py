"""The entry point. `python -m experiments.bench`; settings in `conf/bench.yaml`, modes in the modules beside this one.

Exit codes: 0 done, 2 the input or configuration is wrong, 130 stopped by Ctrl-C.
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.bench.job import execute
from experiments.parts.command import refusing, start


@hydra.main(config_path="pkg://conf", config_name="bench", version_base=None)
def job(config: DictConfig) -> None:
    with refusing():
        execute(config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    start(job)  # pyright: ignore[reportArgumentType]  Hydra fills in the configuration


if __name__ == "__main__":
    main()
