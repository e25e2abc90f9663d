"""`python -m experiments.parts.real_models.assistant MODEL NEW [--noise 0.1] [--seed 0]`: a draft model for a model without a smaller relative.

It is a copy of the model, a name or a folder, with noise on the matrices inside its layers: as slow as the model itself, so no use for speed, but its
distributions q are soft and differ from the model's, which is what a check of exactness needs. Exit codes: 0 done, 2 something is wrong.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from spec.loading import load_model, load_tokenizer

NOISE = 0.1  # TV from the model about 0.3 to 0.4 per token of its own text, for both models of this package


@torch.no_grad()
def add_noise(model: Any, share: float, seed: int = 0) -> None:
    """Adds normal noise to every matrix inside the layers, in place: `share` of the matrix's own standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    outside = {id(part.weight) for part in (model.get_input_embeddings(), model.get_output_embeddings())}
    for weight in model.parameters():
        if weight.ndim == 2 and id(weight) not in outside:
            weight.add_(torch.randn(weight.shape, generator=generator).to(weight) * (share * weight.std()))


def make(name: str, new: Path, share: float, seed: int) -> None:
    """Writes the noisy copy and its tokenizer to `new`, in float32. Raises ValueError where there is no such model or `new` is there already."""
    if new.exists():
        raise ValueError(f"{new} is there already; remove it, or name a folder that does not exist")
    model = load_model(name, "float32")
    add_noise(model, share, seed)
    model.save_pretrained(new)
    load_tokenizer(name).save_pretrained(new)


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        make(options.model, options.new, options.noise, options.seed)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"use it by drafter=draft_model drafter.name={options.new}")
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m experiments.parts.real_models.assistant", description="A copy of a model with noise, as a draft model."
    )
    found.add_argument("model", help="smollm2, gemma3_270m, a folder or a hub id")
    found.add_argument("new", type=Path, help="the folder to make")
    found.add_argument("--noise", type=float, default=NOISE, help=f"times the standard deviation of each matrix; default {NOISE:g}")
    found.add_argument("--seed", type=int, default=0)
    return found


if __name__ == "__main__":
    sys.exit(main())
