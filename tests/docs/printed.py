"""The shell commands and Python blocks that documents print."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^([ ]*)(```+)(.*?)\n(.*?)^\1\2[ ]*$", re.DOTALL | re.MULTILINE)
LANGUAGES = ("bash", "python", "yaml", "{toctree}", "{eval-rst}", "{include}")
NAMED = re.compile(r"# ([\w./]+\.(?:py|yaml))\n")  # a block whose first line is the path of a file


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and text, without the indentation of its fence."""

    document: str
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command line of a `bash` block: settings of the environment before it, and its words."""

    document: str
    line: str
    environment: tuple[str, ...]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {self.line}"


def blocks(path: Path) -> list[Block]:
    found = []
    for match in FENCE.finditer(path.read_text(encoding="utf-8")):
        indent, _, language, text = match.groups()
        lines = [line.removeprefix(indent) for line in text.splitlines()]
        found.append(Block(path.relative_to(ROOT).as_posix(), language.split(" ")[0], "\n".join(lines) + "\n"))
    return found


def commands(path: Path) -> list[Command]:
    """Lines that end in a backslash go on; comments are left out."""
    found = []
    for block in blocks(path):
        if block.language != "bash":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                count = next((index for index, word in enumerate(words) if not re.fullmatch(r"[A-Z_]+=.*", word)), len(words))
                found.append(Command(block.document, shlex.join(words), tuple(words[:count]), tuple(words[count:])))
    return found


def files(path: Path) -> dict[str, str]:
    """Files that a document writes out, by their paths."""
    return {found[1]: block.text for block in blocks(path) if (found := NAMED.match(block.text))}
