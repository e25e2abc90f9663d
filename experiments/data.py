"""Where prompts come from: the embedded file, a JSONL file on disk, or the Hugging Face hub. One row becomes one `Prompt`.

Rows may look like Spec-Bench's (`turns`, of which the first is taken), HumanEval's (`prompt`), GSM8K's (`question`) or be plain (`prompt`, `text`).
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parent / "embedded" / "prompts.jsonl"
TEXT_FIELDS = ("turns", "prompt", "question", "text")
ID_FIELDS = ("id", "question_id", "task_id")


@dataclass(frozen=True)
class Prompt:
    """A text to continue. `id` is unique within its set; `category` groups prompts in the summary."""

    id: str
    category: str
    text: str


def embedded(categories: Sequence[str] | None = None) -> list[Prompt]:
    """The prompts that come with the package, all or those of some categories. Raises ValueError for a category that does not exist."""
    prompts = jsonl(EMBEDDED)
    known = sorted({prompt.category for prompt in prompts})
    if unknown := sorted(set(categories or ()) - set(known)):
        raise ValueError(f"data.categories names {', '.join(unknown)}; the embedded prompts have {', '.join(known)}")
    return [prompt for prompt in prompts if not categories or prompt.category in categories]


def jsonl(path: str | Path, field: str | None = None) -> list[Prompt]:
    """One prompt per line of a JSONL file, which may be gzipped. Raises ValueError naming file and line for whatever cannot be read."""
    rows: list[tuple[str, Any]] = []
    for number, line in enumerate(_lines(Path(path)), 1):
        if line.strip():
            try:
                rows.append((f"{path}:{number}", json.loads(line)))
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not JSON ({error}); every line must hold one JSON object") from error
    if not rows:
        raise ValueError(f"{path}: the file holds no prompts; give one JSON object per line")
    return _prompts(rows, field, Path(path).name.split(".")[0])


def hub(name: str, config: str | None = None, split: str = "test", column: str | None = None) -> list[Prompt]:
    """One prompt per row of a data set on the Hugging Face hub or in a local directory. Raises ValueError where it cannot be loaded."""
    import datasets  # takes a second to import, and most runs do without it

    try:
        rows = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"data set {name!r} (config {config!r}, split {split!r}) could not be loaded: {reason}") from error
    return _prompts([(f"{name}[{split}] row {number}", row) for number, row in enumerate(rows)], column, name.rstrip("/").split("/")[-1])


def choose(prompts: Sequence[Prompt], count: int | None) -> list[Prompt]:
    """At most `count` prompts, taken in turn from every category so that a small number still covers all; the order of the set is kept."""
    if count is None or count >= len(prompts):
        return list(prompts)
    rank: dict[str, int] = {}
    turns = []
    for index, prompt in enumerate(prompts):
        rank[prompt.category] = rank.get(prompt.category, -1) + 1
        turns.append((rank[prompt.category], index))
    return [prompts[index] for index in sorted(index for _, index in sorted(turns)[:count])]


def _lines(path: Path) -> list[str]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); give data.path a .jsonl or .jsonl.gz file") from error
    lines = []
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            lines.append(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{number}: not UTF-8 text ({error.reason}); convert the file to UTF-8") from error
    return lines


def _prompts(rows: Iterable[tuple[str, Any]], field: str | None, default_category: str) -> list[Prompt]:
    prompts: dict[str, Prompt] = {}
    for index, (where, row) in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{where}: holds {type(row).__name__}; every line must hold one JSON object")
        name = str(next((row[key] for key in ID_FIELDS if key in row), index))
        if name in prompts:
            raise ValueError(f"{where}: the id {name!r} was used before; ids must be unique, since results are recorded under them")
        prompts[name] = Prompt(name, str(row.get("category") or default_category), _text(row, field, where))
    if not prompts:
        raise ValueError("the data set holds no prompts; choose another split or file")
    return list(prompts.values())


def _text(row: dict[str, Any], field: str | None, where: str) -> str:
    field = field or next((name for name in TEXT_FIELDS if name in row), None)
    if field is None or field not in row:
        wanted = field or f"one of {', '.join(TEXT_FIELDS)}"
        raise ValueError(f"{where}: has no field {wanted}; it has {', '.join(row) or 'none'}: name the right one")
    text = row[field]
    if isinstance(text, list) and text:
        text = text[0]
    if not isinstance(text, str):
        raise ValueError(f"{where}: the field {field} holds {type(text).__name__}; it must be text or a list of texts")
    if not text.strip():
        raise ValueError(f"{where}: the prompt is empty; give it text or remove it")
    return text
