"""Where prompts come from: the embedded file, a file on disk, or the Hugging Face hub. One row becomes one `Prompt`.

Rows may look like Spec-Bench's (`turns`), HumanEval's (`prompt`), GSM8K's (`question`) or be plain (`prompt`, `text`); `data_set` takes any columns.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.parts.data.columns import Columns, Row
from experiments.parts.data.prompts import Prompt, Selection, read_prompts
from experiments.recording.files import json_lines

EMBEDDED = Path(__file__).parent / "prompts.jsonl"
TABLES = {".json": "json", ".parquet": "parquet", ".csv": "csv"}  # read by the library of that name's loader
SAVED = ("dataset_dict.json", "dataset_info.json")  # what `save_to_disk` leaves in a directory

log = logging.getLogger(__name__)


def embedded(categories: Sequence[str] | None = None) -> list[Prompt]:
    """The prompts that come with the package, all or those of some categories. Raises ValueError for a category that does not exist."""
    prompts = jsonl(EMBEDDED)
    known = sorted({prompt.category for prompt in prompts})
    if unknown := sorted(set(categories or ()) - set(known)):
        raise ValueError(f"data.categories names {', '.join(unknown)}; the embedded prompts have {', '.join(known)}")
    return [prompt for prompt in prompts if not categories or prompt.category in categories]


def jsonl(path: str | Path, field: str | None = None, turns: int | None = None) -> list[Prompt]:
    """One prompt per line of a JSONL file, which may be gzipped. Raises ValueError naming file and line for whatever cannot be read."""
    layout = Columns(_stem(path), {"prompt": field} if field else {}, turns=turns)
    return read_prompts(_lines(Path(path)), layout)


def hub(name: str, config: str | None = None, split: str = "test", column: str | None = None, turns: int | None = None) -> list[Prompt]:
    """One prompt per row of a data set on the Hugging Face hub or in a local directory. Raises ValueError where it cannot be loaded."""
    layout = Columns(_stem(name), {"prompt": column} if column else {}, turns=turns)
    return read_prompts(_loaded_rows(name, config, split), layout)


def data_set(
    *,
    path: str | None = None,
    name: str | None = None,
    config: str | None = None,
    split: str = "test",
    revision: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    template: str | None = None,
    label: str | None = None,
    turns: int | None = None,
    categories: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    placeholder: str | None = None,
    skip_placeholders: bool = False,
    num_rows: int | None = None,
    seed: int = 0,
) -> list[Prompt]:
    """Prompts of any data set: `path` is a local file or directory and wins over `name`, a hub id; the rest says how a row becomes a prompt.

    `columns`, `template`, `label` and `turns`: see `Columns`; `categories`, `groups`, `num_rows` and `seed`: see `Selection`. A turn that holds
    `placeholder` stands for a text that its publisher may not hand on: such prompts are refused, or left out with `skip_placeholders`.
    Raises ValueError for whatever is missing or wrong.
    """
    layout = Columns(label or _stem(path or name or ""), columns or {}, template, turns)
    selection = Selection(categories, groups or {}, num_rows, seed)
    if path is not None:
        rows = _local_rows(Path(path), config, split)
    elif name is not None:
        rows = _loaded_rows(name, config, split, revision=revision)
    else:
        raise ValueError(
            "neither data.path nor data.name is given; give a local file or directory (data.path=...) or the name of a set on the hub (data.name=...)"
        )
    prompts = read_prompts(rows, layout, selection)
    return prompts if placeholder is None else _without_placeholders(prompts, placeholder, skip_placeholders)


def _without_placeholders(prompts: list[Prompt], placeholder: str, skip: bool) -> list[Prompt]:
    whole = [prompt for prompt in prompts if not any(placeholder in turn for turn in prompt.turns)]
    missing = len(prompts) - len(whole)
    if missing and not (skip and whole):
        raise ValueError(
            f"{missing} of {len(prompts)} prompts are placeholders ({placeholder!r}): the publisher gives these texts out by a script of its own; "
            "run it and give the result with data.path=..., or set data.skip_placeholders=true to leave them out"
        )
    if missing:
        log.info("%d of %d prompts are placeholders and are left out", missing, len(prompts))
    return whole


def _local_rows(path: Path, config: str | None, split: str) -> list[Row]:
    if not path.exists():
        known = ", ".join([".jsonl", ".jsonl.gz", *TABLES])
        raise ValueError(f"data.path={path}: there is no such file or directory; give one that ends in {known}, or a directory of such files")
    if path.is_dir():
        # a copy of a hub set has its configurations only if it was copied with its card or its folders
        named = config is not None and ((path / "README.md").exists() or (path / config).is_dir())
        return _loaded_rows(str(path), config if named else None, split)
    suffix = path.suffix.lower()
    return _loaded_rows(TABLES[suffix], None, "train", data_files=str(path)) if suffix in TABLES else _lines(path)


def _loaded_rows(name: str, config: str | None, split: str, **options: Any) -> list[Row]:
    import datasets  # takes a second to import, and most runs do without it

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    where = options.get("data_files", f"{name}[{split}]")
    try:
        if any((Path(name) / mark).exists() for mark in SAVED):
            saved = datasets.load_from_disk(name)
            rows = saved[split] if isinstance(saved, datasets.DatasetDict) else saved
        else:
            rows = datasets.load_dataset(name, config, split=split, **options)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        hint = "" if Path(where).exists() or Path(name).exists() else "; without network give a local copy of it"
        raise ValueError(f"data set {name!r} (config {config!r}, split {split!r}) could not be loaded: {reason}{hint}") from error
    return [Row(f"{where} row {number}", number, row) for number, row in enumerate(rows)]  # pyright: ignore[reportArgumentType]


def _lines(path: Path) -> list[Row]:
    found = [Row(where, number, row) for number, (where, row) in enumerate(json_lines(path, wanted="data.path a .jsonl or .jsonl.gz file"))]
    if not found:
        raise ValueError(f"{path}: the file holds no prompts; give one JSON object per line")
    return found


def _stem(path: str | Path) -> str:
    return str(path).rstrip("/").split("/")[-1].split(".")[0]
