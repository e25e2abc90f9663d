"""The target's laws along recorded answers, for `experiments.replay`. `python -m experiments.replay_laws recorded=RUN_FOLDER top_k=64`."""

import logging
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, open_dict

from experiments.build import Target, make, refusing, start
from experiments.provenance import circumstances
from experiments.recorded_laws import TextLaws, save, score
from experiments.replay_texts import open_recording, read_run
from spec.sampling import Sampler

log = logging.getLogger(__name__)


def execute(config: DictConfig) -> Path:
    """Scores every text once and writes the file, whose path is returned. Raises ValueError for wrong input before any forward."""
    path = Path(config.recorded)
    if not isinstance(config.top_k, int) or config.top_k < 1:
        raise ValueError(f"top_k={config.top_k}: give a whole number of at least 1")
    with open_dict(config):
        recorded = read_run(path).config if path.is_dir() else None
        for group in ("target", "sampling"):
            if config.get(group) is None and recorded is None:
                raise ValueError(f"{group} must be given for plain texts, such as {group}={'hub target.name=...' if group == 'target' else 'sample'}")
            config[group] = config.get(group) or (recorded or {})[group]
        if config.output is None and recorded is None:
            raise ValueError("output must be given for plain texts: a .npz file")
    output = Path(config.output) if config.output is not None else path / "laws.npz"
    sampler: Sampler = make(config, "sampling")
    if sampler.greedy:
        raise ValueError("at temperature 0 every law is certain of its token and replay needs none; record a run with sampling=sample")
    torch.set_num_threads(config.threads)
    target: Target = make(config, "target")
    texts = open_recording(config, target.tokenizer).texts
    laws: dict[str, TextLaws] = {}
    for text in texts:
        laws[text.id] = score(target.model, sampler, text, config.top_k)
    sampling = {key: value for key, value in config.sampling.items() if key not in ("_target_", "seed")}
    about: dict[str, Any] = {"target": config.target.name, "sampling": sampling, "top_k": config.top_k, "recorded": str(path)}
    save(output, laws, about | circumstances(target.model.device, target.model.dtype))
    left = 1 - sum(float(part.probs.sum()) for part in laws.values()) / sum(len(part.answer) for part in laws.values())
    print(f"laws of {len(laws)} texts in {output}; the {config.top_k} likeliest tokens leave out {left:.2g} of a law")
    return output


@hydra.main(config_path="pkg://conf", config_name="replay_laws", version_base=None)
def job(config: DictConfig) -> None:
    with refusing():
        execute(config)


def main() -> None:
    start(job)  # pyright: ignore[reportArgumentType]  Hydra fills in the configuration


if __name__ == "__main__":
    main()
