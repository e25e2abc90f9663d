"""A folder for the hub: `custom_generate/`, which `model.generate(custom_generate=FOLDER, trust_remote_code=True)` loads.

`python -m release.hub OUT` writes it. It is one flat folder, since transformers copies files beside `generate.py` only: `spec.decode` becomes
`spec_decode.py`. Of our files it has those that `generate` can reach, and it needs torch and transformers alone. transformers finds the files to copy
by the text of import lines, not by running them, so `generate.py` has a line for each.
"""

import ast
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from release.house import House
from release.rewrite import rewritten

ENTRY = "spec.generate.call"  # where the function `generate` is
BY_NAME = "spec.named"  # imports by "module:name"
REQUIREMENTS = "torch>=2.9\ntransformers>=5.15\n"  # transformers reads one bound a line
GENERATE = '''"""Speculative decoding: `model.generate(**inputs, custom_generate=FOLDER, trust_remote_code=True, drafter="lookahead")`."""

from .{entry} import generate as generate


def _files() -> None:
    """Never called: transformers copies the files that such lines name."""
{lines}'''
CARD = """---
library_name: transformers
tags:
- custom_generate
---

# Speculative decoding by Draftproof

```python
output = model.generate(**inputs, custom_generate=FOLDER, trust_remote_code=True, drafter="lookahead", max_new_tokens=128)
```

`FOLDER` is this repository or a copy of it. Greedy answers are those of `model.generate` without it, token by token, and sampled ones have its
distribution, up to rounding. `drafter` is {drafters}; `drafter_options={{...}}` are its settings. `assistant_model=` and
`prompt_lookup_num_tokens=` choose a drafter as in `generate`. With `return_dict_in_generate=True` the output has `stats`: steps, accepted tokens,
seconds. The files of `custom_generate/` are written by `python -m release.hub` from Draftproof's own sources.
"""


@dataclass(frozen=True)
class Flat:
    """Names in one flat folder: `spec.decode` is `spec_decode.py`, imported from beside."""

    house: House

    def said(self, module: str) -> str:
        return module.replace(".", "_")

    def place(self, module: str) -> str:
        return f".{self.said(module)}"

    def import_from(self, module: str, names: Sequence[str]) -> str:
        if modules := [name for name in names if f"{module}.{name}" in self.house.modules and name not in self.house.names[module]]:
            raise ValueError(f"from {module} import {modules[0]}: that is a module; write import {module}.{modules[0]} as {modules[0]}")
        return f"from .{self.said(module)}"

    def import_as(self, module: str, alias: str | None) -> str:
        if alias is None:
            raise ValueError(f"import {module}: write import {module} as ...")
        return f"from . import {self.said(module)} as {alias}"


def reachable(house: House, entry: str = ENTRY) -> list[str]:
    """The modules of ours that a module imports, directly or through others, and those that `spec.named` names; in alphabetical order."""
    found, waiting = {entry}, [entry]
    while waiting:
        module = waiting.pop()
        new = set(_imported(house, module)) - found
        found |= new
        waiting += sorted(new)
    return sorted(found)


def _imported(house: House, module: str) -> list[str]:
    tree = ast.parse(house.modules[module].read_text(encoding="utf-8"))
    named = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    named += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    if module == BY_NAME:
        strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        named += [text.partition(":")[0] for text in strings if ":" in text]
    return [name for name in named if name in house.modules]


def write_folder(out: Path, house: House | None = None) -> Path:
    """Writes `out/custom_generate/` anew, and `out/README.md`, a card for the hub; returns the former."""
    house = house or House()
    scheme, modules = Flat(house), reachable(house)
    folder = out / "custom_generate"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in modules:
        source = house.modules[name].read_text(encoding="utf-8")
        (folder / f"{scheme.said(name)}.py").write_text(rewritten(source, scheme), encoding="utf-8")
    lines = "".join(f"    from .{scheme.said(name)} import __name__\n" for name in modules)
    (folder / "generate.py").write_text(GENERATE.format(entry=scheme.said(ENTRY), lines=lines), encoding="utf-8")
    (folder / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
    shutil.copyfile(house.root / "LICENSE", out / "LICENSE")
    drafters = [name.removeprefix("drafters.") for name in modules if name.count(".") == 1 and name.startswith("drafters.")]
    (out / "README.md").write_text(CARD.format(drafters=", ".join(f'"{name}"' for name in drafters)), encoding="utf-8")
    return folder


if __name__ == "__main__":
    print(write_folder(Path(sys.argv[1])))
