"""Training text for the embedded pair: the Python standard library's source, and repeat-with-an-edit examples made from it.

No text is stored in the repository: everything is read from the interpreter's own `Lib` folder, so the corpus follows the Python version.
A module is held out when the hash of its path says so; nothing that is held out is ever trained on, neither as text nor inside an edit example.
"""

import ast
import hashlib
import random
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_SHARE = 0.04
SKIPPED = ("site-packages", "encodings", "pydoc_data", "lib2to3/tests/data", "idlelib/idle_test", "test/encoded_modules", "__pycache__")
WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]{2,}")
NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")
FRESH_NAMES = (
    "buffer",
    "entry",
    "result",
    "total",
    "source",
    "handler",
    "options",
    "payload",
    "cursor",
    "limit",
    "record",
    "state",
    "stream",
    "token",
)


@dataclass(frozen=True)
class Corpus:
    """Three pools of documents: library modules, their test suites, and the library modules held out for evaluation."""

    library: list[str]
    tests: list[str]
    held_out: dict[str, str]  # path inside Lib -> text


def read_corpus() -> Corpus:
    """Every readable module of the running interpreter's standard library, split by `is_held_out`."""
    root = Path(sysconfig.get_paths()["stdlib"])
    library, tests, held_out = [], [], {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if any(part in name for part in SKIPPED):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if name.startswith("test/") or "/test" in name:
            tests.append(text)
        elif is_held_out(name):
            held_out[name] = text
        else:
            library.append(text)
    return Corpus(library, tests, held_out)


def is_held_out(name: str) -> bool:
    """Whether the module at this path inside `Lib` is kept for evaluation: decided by the hash of the path, the same on every machine."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE


def edit_examples(documents: list[str], num_examples: int, seed: int) -> list[str]:
    """Texts that show code (or a list), ask for one edit, and repeat it with that edit; the source is drawn from `documents`."""
    rng = random.Random(seed)
    sources = [source for text in documents for source in functions(text)]
    names = sorted({word for source in sources for word in WORD.findall(source)})
    examples = []
    while len(examples) < num_examples:
        source = word_list(names, rng) if rng.random() < 0.25 else rng.choice(sources)
        request, edited = edit(source, rng)
        examples.append(f"# {request}\n\n{source}\n\n# Result:\n\n{edited}\n\n# End\n")
    return examples


def functions(text: str) -> list[str]:
    """The functions and methods of a module, dedented, between 120 and 1100 characters long."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    lines, found = text.splitlines(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            indent = " " * node.col_offset
            source = "\n".join(line.removeprefix(indent) for line in lines[node.lineno - 1 : node.end_lineno])
            if 120 <= len(source) <= 1100:
                found.append(source)
    return found


def word_list(names: list[str], rng: random.Random) -> str:
    """A literal list, dictionary or comment table of names, as people write them."""
    words = rng.sample(names, rng.randint(5, 14))
    style = rng.randrange(4)
    if style == 0:
        return "names = [\n" + "".join(f'    "{word}",\n' for word in words) + "]"
    if style == 1:
        return "sizes = {\n" + "".join(f'    "{word}": {rng.randrange(1000)},\n' for word in words) + "}"
    if style == 2:
        return "\n".join(f"{index}. {word}" for index, word in enumerate(words, 1))
    return "| name | size | kind |\n|---|---|---|\n" + "\n".join(f"| {word} | {rng.randrange(1000)} | {rng.choice(words)} |" for word in words)


def edit(source: str, rng: random.Random) -> tuple[str, str]:
    """A request in words and the source with that one edit made."""
    kind = rng.randrange(4)
    numbers = NUMBER.findall(source)
    if kind == 0 and numbers:
        old, new = rng.choice(numbers), str(rng.randrange(100))
        edited = re.sub(rf"(?<![\w.]){old}(?![\w.])", new, source)
        return f"Repeat the code below with {old} changed to {new}.", edited
    if kind == 1:
        return "Repeat the code below.", source
    if kind == 2 and source.count("\n") > 4:
        lines = source.splitlines()
        at = rng.randrange(2, len(lines))
        return f"Repeat the code below without the line `{lines[at].strip()}`.", "\n".join(lines[:at] + lines[at + 1 :])
    old, new = rng.choice(WORD.findall(source) or ["name"]), rng.choice(FRESH_NAMES)
    return f"Repeat the code below with `{old}` renamed to `{new}`.", re.sub(rf"\b{old}\b", new, source)
