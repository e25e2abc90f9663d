"""What a drafter would do on recorded answers, without the target: `python -m experiments.replay recorded=RUN_FOLDER lengths=[2,4,8]`.

Exact at temperature 0: the counts are those of a live run with the same drafter. A sampled answer, or a text of unknown origin, is taken as it is:
a drafted token counts as accepted where it is the recorded one, which is what happens under `sample_match`, and under every exact rule for drafts
without laws of their own. For sampled drafts under token-level speculative sampling the target's laws are needed (`experiments.replay.laws`).
"""

import hydra
from omegaconf import DictConfig

from experiments.parts.command import refusing, start
from experiments.replay.job import execute


@hydra.main(config_path="pkg://conf", config_name="replay", version_base=None)
def job(config: DictConfig) -> None:
    with refusing():
        execute(config)


def main() -> None:
    start(job)  # pyright: ignore[reportArgumentType]  Hydra fills in the configuration


if __name__ == "__main__":
    main()
