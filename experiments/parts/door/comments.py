"""What the YAML files of `conf/` say about themselves: their first comment, and the comment behind each setting."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

import conf as configurations

CONF = configurations.__name__  # what Hydra finds them by


@dataclass(frozen=True)
class Setting:
    """One line of a YAML file: dotted name, default, and what stands behind it as a comment."""

    name: str
    default: Any
    comment: str


@cache
def conf() -> Path:
    """The folder of our configurations."""
    return Path(str(files(configurations)))


@cache
def about(file: Path) -> str:
    """The comment at the head of a YAML file, as one line; empty where there is none."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# ").strip())
    return " ".join(lines)


@cache
def settings(file: Path) -> tuple[Setting, ...]:
    """Every setting of a file that is not a group, nested ones with dotted names, in the file's order. Raises ValueError for what is no YAML."""
    text = file.read_text(encoding="utf-8")
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        return ()
    return tuple(_walk(root, values, text.splitlines(), ""))


def _walk(node: yaml.MappingNode, values: dict[str, Any], lines: list[str], prefix: str) -> list[Setting]:
    found = []
    for key, value in node.value:
        name = key.value
        if not prefix and name in ("defaults", "hydra"):
            continue
        found.append(Setting(prefix + name, values[name], _comment(lines, key, value)))
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            found += _walk(value, values[name], lines, f"{prefix}{name}.")
        elif isinstance(value, yaml.MappingNode):
            found += [Setting(f"{prefix}{name}.{inner}", number, "") for inner, number in values[name].items() if isinstance(number, (int, float))]
    return found


def _comment(lines: list[str], key: yaml.Node, value: yaml.Node) -> str:
    """What stands behind `#` on the line of a setting: after its value, or after its name where the value is a block below."""
    block = isinstance(value, (yaml.MappingNode, yaml.SequenceNode)) and not value.flow_style
    mark = key.end_mark if block else value.end_mark
    rest = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
    return rest.partition("#")[2].strip()
