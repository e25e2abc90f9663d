"""How far a law depends on the shape of the forward that it comes from. `python -m experiments.lossless.slots`; settings in `conf/slots.yaml`.

In exact arithmetic a forward over many slots gives every slot the law that a forward over one gives. In floating point it adds in another order.
Here the target reads its own sampled answers one slot at a time, as plain decoding does, and again in chains, in trees and beside other texts, in
every dtype. TV is between the plain law and the other one; "own rounding" is between plain decoding in this dtype and in the first one.
"""

import json
import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig

from experiments.lossless.slots.job import execute
from experiments.parts.command import refusing, start
from experiments.recording.files import write_atomically

log = logging.getLogger(__name__)


@hydra.main(config_path="pkg://conf", config_name="slots", version_base=None)
def main(config: DictConfig) -> None:
    with refusing():
        result = execute(config)
    if config.output:
        Path(config.output).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(config.output), json.dumps(result, indent=1) + "\n")
        log.info("written to %s", config.output)


if __name__ == "__main__":
    start(main)
