"""A command line as Hydra will see it: flags, overrides, folders with further YAML files. Whatever is wrong with its form is said in one line."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException

SWITCHES = ("-m", "--multirun", "-r", "--run", "--resolve", "-h", "--help", "--version")
WITH_VALUE = ("-c", "--cfg", "-p", "--package", "-cn", "--config-name", "-cp", "--config-path", "-cd", "--config-dir", "--experimental-rerun")
QUESTIONS = (
    "-c",
    "--cfg",
    "-i",
    "--info",
    "--hydra-help",
    "-sc",
    "--shell-completion",
    "--experimental-rerun",
)  # of Hydra
KNOWN = (*SWITCHES, *WITH_VALUE, *QUESTIONS)
CFG = ("job", "hydra", "all")


@dataclass(frozen=True)
class CommandLine:
    """`items`: the overrides as given, `overrides` the same parsed; `folders` hold further YAML files; `asks`: nothing is to be run."""

    items: list[str]
    overrides: list[Override]
    multirun: bool = False
    asks: bool = False
    folders: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "CommandLine":
        """Raises ValueError for a flag that does not exist, an override that cannot be read, and a folder that is not there."""
        items, flags = _split(arguments)
        overrides = [_parsed(item) for item in items]
        folders = [Path(value) for name, value in flags if name in ("-cd", "--config-dir")]
        folders += [folder for override in overrides if override.key_or_group == "hydra.searchpath" for folder in _searched(override)]
        if missing := [folder for folder in folders if not folder.is_dir()]:
            raise ValueError(f"{missing[0]}: no such folder; --config-dir and hydra.searchpath name folders of YAML files, drafter/mine.yaml say")
        names = {name for name, _ in flags}
        return cls(items, overrides, bool(names & {"-m", "--multirun"}), bool(names & set(QUESTIONS)), folders)

    def chosen(self, key: str) -> list[Override]:
        """The overrides of one group or setting."""
        return [override for override in self.overrides if override.key_or_group == key]


def options_of(override: Override) -> list[str]:
    """The names that an override of a group chooses, those of a sweep included."""
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        return []  # what a pattern finds is there
    if override.is_sweep_override():
        return list(override.sweep_string_iterator()) if override.is_choice_sweep() else []
    value = override.value()
    return [str(name) for name in value] if isinstance(value, list) else [override.get_value_element_as_str()]


def nearest(name: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """`; did you mean "x"?` with the nearest of the known names, or `;` if none is near."""
    near = get_close_matches(name, known, 1, cutoff)
    return f'; did you mean "{near[0]}"?' if near else ";"


def _split(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Overrides, and flags with their values."""
    items: list[str] = []
    flags: list[tuple[str, str]] = []
    waiting = ""
    for item in arguments:
        name, equals, value = item.partition("=")
        if waiting:
            flags.append((waiting, item))
            waiting = ""
        elif not item.startswith("-"):
            items.append(item)
        elif name not in KNOWN:
            raise ValueError(f"unknown option {name!r}{nearest(name, KNOWN)} --help says what there is, and settings are given as name=value")
        elif name in WITH_VALUE and not equals:
            waiting = name
        else:
            flags.append((name, value))
    if waiting:
        raise ValueError(f"{waiting} needs a value")
    if own := [name for name, _ in flags if name in ("-cn", "--config-name", "-cp", "--config-path")]:
        raise ValueError(f"{own[0]}: a job has its own configuration; --config-dir FOLDER adds options of your own to its groups")
    if valued := [name for name, value in flags if name in SWITCHES and value]:
        raise ValueError(f"{valued[0]} takes no value")
    if wrong := [value for name, value in flags if name in ("-c", "--cfg") and value not in CFG]:
        raise ValueError(f"--cfg {wrong[0]}: give one of {', '.join(CFG)}")
    return items, flags


def _parsed(item: str) -> Override:
    if re.match(r"[+~]*=", item) or ("=" not in item and not item.startswith("~")):
        raise ValueError(f"{item!r} is no setting: give name=value, drafter=lookahead for example")
    try:
        return OverridesParser.create().parse_override(item)
    except HydraException as error:
        raise ValueError(f"{item!r} cannot be read; quote values with brackets, commas or spaces: {_quoted(item)}") from error


def _quoted(item: str) -> str:
    name, _, value = item.partition("=")
    return f"'{name}=\"{value}\"'"


def _searched(override: Override) -> list[Path]:
    """Folders of `hydra.searchpath` that lie on this disk; a `pkg://` is found by Hydra."""
    value = override.value()
    places = [str(place).strip("'\"") for place in (value if isinstance(value, list) else [value])]
    for place in (place for place in places if place.startswith("pkg://")):
        from importlib.resources import files  # only where it is asked for

        try:
            places.append(str(files(place.removeprefix("pkg://").replace("/", "."))))
        except (ModuleNotFoundError, TypeError) as error:
            raise ValueError(f"hydra.searchpath={place}: there is no such package ({error})") from error
    return [Path(place.removeprefix("file://")).expanduser() for place in places if "://" not in place.removeprefix("file://")]


def refuse(message: str) -> NoReturn:
    """Says what is wrong in one line and ends with the exit code of a user's mistake."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)
