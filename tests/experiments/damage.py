"""Ways to damage a file of a run's folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], Any]


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def a_list(file: Path) -> None:
    file.write_text("[1, 2]\n")


def a_word(file: Path) -> None:
    file.write_text('"word"\n')


def null(file: Path) -> None:
    file.write_text("null\n")


def junk(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00\x80" * 9 + b"\n" + file.read_bytes())


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def gone(file: Path) -> None:
    file.unlink()


def field(name: str, value: Any) -> Damage:
    """A JSON file in which one field holds something else; dots lead inside."""

    def damage(file: Path) -> None:
        held = json.loads(file.read_text())
        inner = held
        *path, last = name.split(".")
        for part in path:
            inner = inner[part]
        inner[last] = value
        file.write_text(json.dumps(held))

    damage.__name__ = f"{name}={json.dumps(value)}"
    return damage


def without(name: str) -> Damage:
    """A JSON file that lacks one field."""

    def damage(file: Path) -> None:
        held = json.loads(file.read_text())
        del held[name]
        file.write_text(json.dumps(held))

    damage.__name__ = f"no {name}"
    return damage


def line(number: int, change: dict[str, Any] | str | None) -> Damage:
    """A line of a JSONL file with other fields, replaced by a text, or left out."""

    def damage(file: Path) -> None:
        lines = file.read_text().splitlines(keepends=True)
        held = lines[number]
        lines[number] = json.dumps(json.loads(held) | change) + "\n" if isinstance(change, dict) else change or ""
        file.write_text("".join(lines))

    damage.__name__ = f"line {number} {change}"
    return damage


def line_without(number: int, name: str) -> Damage:
    def damage(file: Path) -> None:
        lines = file.read_text().splitlines(keepends=True)
        lines[number] = json.dumps({key: value for key, value in json.loads(lines[number]).items() if key != name}) + "\n"
        file.write_text("".join(lines))

    damage.__name__ = f"line {number} without {name}"
    return damage


def torn_inside(file: Path) -> None:
    """A line in the middle that ends too early."""
    lines = file.read_text().splitlines(keepends=True)
    lines[1] = lines[1][: len(lines[1]) // 2] + "\n"
    file.write_text("".join(lines))


def damaged(source: Path, folder: Path, name: str, damage: Damage) -> Path:
    """A copy of a run's folder in which one file is damaged."""
    shutil.copytree(source, folder)
    damage(folder / name)
    return folder
