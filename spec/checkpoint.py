"""What lies in a model's folder, checked before anything is loaded: files that are whole, and weights that are data and never a program.

Only files of the format safetensors are loaded as weights. The others (`.bin`, `.pt`, `.pth`) are pickles, and reading a pickle can run code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
DISTRIBUTED = "shard-*-model-*-of-*.safetensors"  # transformers would read these in place of `WEIGHTS`, without a report of what is missing
MOST_HEADER = 100_000_000  # bytes; the format allows no more
AGAIN = "copy or download it again"
PICKLED = f"its weights are pickled files, which are never loaded because reading them can run code; take a copy of the model with {WEIGHTS}"


def json_object(file: Path) -> dict[str, Any]:
    """What a JSON file holds. Raises ValueError where it cannot be read or is no object."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is {'damaged: it is not JSON' if file.stat().st_size else 'empty'}; {AGAIN}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is damaged: it holds no JSON object; {AGAIN}")
    return found


def check_model_folder(folder: Path) -> None:
    """Raises ValueError, in one line, where the folder holds no whole model with weights of the format safetensors."""
    if not (folder / "config.json").exists():
        empty = not any(folder.iterdir())
        adapter = "; it is an adapter: merge it into its model and save that" if (folder / "adapter_config.json").exists() else ""
        raise ValueError(f"{folder} {'is empty' if empty else 'has no config.json'}{adapter or '; give the folder of a saved model'}")
    weights = weights_name(json_object(folder / "config.json"), folder)
    if (folder / "generation_config.json").exists():
        json_object(folder / "generation_config.json")
    if any(folder.glob(DISTRIBUTED)):
        raise ValueError(f"{folder} is a distributed checkpoint, which is not loaded; take a copy of the model with {WEIGHTS}")
    if weights == WEIGHTS and not (folder / WEIGHTS).exists() and (folder / INDEX).exists():
        weights = INDEX
    for file in shards(folder, weights) if weights.endswith(".index.json") else [folder / weights]:
        if not file.exists():
            raise ValueError(_missing(folder, file))
        check_safetensors(file)


def _missing(folder: Path, file: Path) -> str:
    if file.name == WEIGHTS and any(any(folder.glob(pattern)) for pattern in PICKLES):
        return f"{folder}: {PICKLED}"
    if file.name == WEIGHTS:
        return f"{folder} has no weights: neither {WEIGHTS} nor {INDEX}; give the folder of a saved model"
    return f"{file} is missing: the weights are not complete; {AGAIN}"


def weights_name(config: Mapping[str, Any], folder: Path) -> str:
    """The file of weights that a configuration names, or the usual one. Raises ValueError where it is no safetensors file of the folder."""
    return _inside(folder, config.get("transformers_weights") or WEIGHTS, "config.json").relative_to(folder).as_posix()


def shards(folder: Path, index: str = INDEX) -> list[Path]:
    """The files that an index names, in order. Raises ValueError for one that is no safetensors file of the folder."""
    places = json_object(folder / index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{folder / index} is damaged: it names no files (weight_map); {AGAIN}")
    return sorted({_inside(folder, name, index) for name in places.values()})


def _inside(folder: Path, name: Any, source: str) -> Path:
    """The file `name` of a folder. Raises ValueError for one that lies elsewhere or is no safetensors file; `source` names it."""
    if not isinstance(name, str) or not name.endswith((".safetensors", ".index.json")) or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{folder / source} names {name!r} as weights; only .safetensors files of the same folder are loaded")
    return folder / name


def check_safetensors(file: Path) -> None:
    """Raises ValueError where a safetensors file is cut or damaged, by its header alone: 8 bytes of length, JSON, then as many bytes as it says."""
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length)) if length <= min(size, MOST_HEADER) else None
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"] if header is not None else []
        whole = 8 + length + max(ends, default=0)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        header, whole = None, 0
    if header is None:
        what = "empty" if not size else "no safetensors file, or a damaged one"
        raise ValueError(f"{file} is {what}; {AGAIN}")
    if size != whole:
        raise ValueError(f"{file} is {'cut short' if size < whole else 'damaged'}: it has {size} bytes and should have {whole}; {AGAIN}")
