"""The options that a command line chooses among: a name that does not exist is answered with the nearest one that does."""

from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf


def check_choices(overrides: Sequence[str]) -> str | None:
    """What is wrong with the options chosen on the command line, as one line with the nearest known name; None if all exist."""
    folders = [Path(str(files("conf"))), *_extra_folders(overrides)]
    groups = {path.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*") if path.is_dir() and path.name[0] not in "_."}
    chosen = _parsed(overrides)
    for override in chosen:
        group = override.key_or_group
        if group not in groups:
            continue
        known = sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml") if path.stem[0] != "_"})
        for name in _chosen(override):
            if name.removesuffix(".yaml") not in (*known, "null"):
                near = get_close_matches(name, known, 1, 0.5)
                hint = f"; did you mean {near[0]!r}?" if near else ";"
                return f"unknown {group} {name!r}{hint} Known: {', '.join(known)}".replace("'", '"')
    nested = [override for override in chosen if override.key_or_group in groups and "/" in override.key_or_group]
    return next((problem for override in nested if (problem := _homeless(override.key_or_group, chosen, folders))), None)


def _parsed(arguments: Sequence[str]) -> list[Override]:
    parsed = []
    for item in arguments:
        if "=" in item and not item.startswith("-"):
            with suppress(HydraException):  # Hydra itself says what is wrong with the syntax
                parsed.append(OverridesParser.create().parse_override(item))
    return parsed


def _homeless(group: str, overrides: Sequence[Override], folders: Sequence[Path]) -> str | None:
    """What is wrong with choosing in a group inside a group (`drafter/stopping`): not every option of the outer one has it."""
    outer, _, inner = group.rpartition("/")
    homes = {path.stem for folder in folders for path in (folder / outer).glob("*.yaml") if inner in _parts_of(path)}
    named = {override.key_or_group: _chosen(override) for override in overrides}
    if "experiment" in named and outer not in named:
        return None  # the experiment's YAML decides
    default = OmegaConf.load(Path(str(files("conf"))) / "config.yaml")
    assert isinstance(default, DictConfig)
    options = named.get(outer) or [item[outer] for item in default["defaults"] if isinstance(item, DictConfig) and outer in item]
    if wrong := [name for name in options if name.removesuffix(".yaml") not in homes]:
        fitting = ", ".join(f"{outer}={name}" for name in sorted(homes))
        return f"{group} belongs to {fitting}, and {outer}={wrong[0]} has no such part; choose {fitting} with it, or leave it out"
    return None


def _parts_of(path: Path) -> set[str]:
    """Groups in the defaults list of a YAML file."""
    settings = OmegaConf.load(path)
    entries = settings.get("defaults", []) if isinstance(settings, DictConfig) else []
    return {str(name) for entry in entries if isinstance(entry, DictConfig) for name in entry}


def _chosen(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator()) if override.is_choice_sweep() else []
    value = override.value()
    return [str(name) for name in value] if isinstance(value, list) else [override.get_value_element_as_str()]


def _extra_folders(arguments: Sequence[str]) -> list[Path]:
    found = []
    for index, item in enumerate(arguments):
        name, _, value = item.partition("=")
        if name in ("--config-dir", "-cd"):
            found.append(Path(value or "".join(arguments[index + 1 : index + 2])))
    return found
