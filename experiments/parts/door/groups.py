"""The options of every group, ours and those of the user's own folders."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from experiments.parts.door.command_line import CommandLine, nearest, options_of
from experiments.parts.door.comments import conf
from experiments.parts.door.jobs import JOBS
from experiments.parts.door.kinds import shown
from experiments.parts.door.signatures import signature

OWN = "_own"  # the option that stands for a `_target_` given on the command line alone: it has no settings but that one's parameters


def groups_in(folders: Sequence[Path]) -> set[str]:
    """Names of groups, `drafter/stopping` for one inside another."""
    return {path.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*") if path.is_dir() and path.name[0] not in "_."}


def options_in(group: str, folders: Sequence[Path]) -> list[str]:
    """Names of a group's options, in alphabetical order."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml") if path.stem[0] != "_"})


def file_of(group: str, option: str, folders: Sequence[Path]) -> Path | None:
    """The YAML file of an option; the user's own folders come after ours, as they do for Hydra."""
    return next((path for folder in folders if (path := folder / group / f"{option.removesuffix('.yaml')}.yaml").exists()), None)


def folders_of(line: CommandLine) -> list[Path]:
    """Where options are looked for."""
    return [conf(), *line.folders]


def check_choices(line: CommandLine, config_name: str) -> None:
    """Raises ValueError for an option that does not exist, with the nearest one that does, and for a group inside a group that is not there."""
    folders = folders_of(line)
    groups = groups_in(folders)
    for override in line.overrides:
        group = override.key_or_group
        if group not in groups:
            continue
        _check_group_of_job(override, config_name)
        known = options_in(group, folders)
        for name in options_of(override):
            if name == "null" and not groups_of(config_name).get(group):
                continue
            if name == "null":
                raise ValueError(f"{group}=null: choose among {', '.join(known)}{', as a list; [] is none' if group == 'peers' else ''}")
            if name.removesuffix(".yaml") not in (*known, OWN):
                dotted = f" For a class of your own: {group}._target_={name}." if "." in name else ""
                raise ValueError(f'unknown {group} "{name}"{nearest(name, known, 0.5)} Known: {", ".join(known)}.{dotted}'.removesuffix("."))
    for item, override in zip(line.items, line.overrides, strict=True):
        inner = override.key_or_group.replace(".", "/")
        if inner != override.key_or_group and inner in groups and isinstance(override.value(), str):
            raise ValueError(f"{item}: choose an option of a group by a slash: {inner}={override.value()}")
        if override.key_or_group in groups and "/" in override.key_or_group and override.package is None:
            _check_home(override.key_or_group, line, config_name)


def _check_group_of_job(override: Override, config_name: str) -> None:
    """A job has the groups of its defaults list; `+group=option` adds one."""
    without = next((job.without for job in JOBS.values() if job.config == config_name), ())
    own, group = groups_of(config_name, without), override.key_or_group
    if override.is_add() or override.package is not None:
        return
    if group not in own or (own[group] == "" and f"{group}@" in (conf() / f"{config_name}.yaml").read_text(encoding="utf-8")):
        named = f"; name the one that is meant: {group}@{group}s.mine=..." if group in own else ""
        raise ValueError(f"{group} is no group of this job{named}; its groups: {', '.join(own) or 'none'}")


def with_own_targets(line: CommandLine) -> list[str]:
    """The overrides, where `drafter._target_=x.Y` without `drafter=...` starts from nothing: what x.Y takes, and no setting of the default drafter.

    Raises ValueError where x.Y is not there.
    """
    ours = groups_in([conf()])
    none = [f"{override.key_or_group}=null" for override in line.overrides if override.key_or_group in ours]
    items = [item for item in line.items if item not in none]  # as it is by itself
    for override in line.overrides:
        group, _, last = override.key_or_group.rpartition(".")
        if last != "_target_" or "." in group or line.chosen(group) or group not in ours:
            continue
        for target in options_of(override):
            signature(target)
        items = [_added(item, group) for item in items]
        items.insert(0, f"{group}={OWN}")
    return items


def _added(item: str, group: str) -> str:
    """`drafter.window=3` as `++drafter.window=3`: the option has no such setting yet."""
    return f"++{item}" if item.startswith(f"{group}.") and not item.startswith(f"{group}._target_") else item


def _check_home(group: str, line: CommandLine, config_name: str) -> None:
    """`drafter/stopping`: not every option of the outer group has the inner one."""
    folders = folders_of(line)
    outer, _, inner = group.rpartition("/")
    homes = {path.stem for folder in folders for path in (folder / outer).glob("*.yaml") if inner in parts_of(path)}
    theirs = [name for override in line.chosen(outer) for name in options_of(override) if not (conf() / outer / f"{name}.yaml").exists()]
    if theirs or line.chosen(f"{outer}._target_") or (line.chosen("experiment") and not line.chosen(outer)):
        return  # the user's own class or YAML, or the experiment's, decides
    chosen = [name for override in line.chosen(outer) for name in options_of(override)] or [groups_of(config_name).get(outer) or "null"]
    if wrong := [name for name in chosen if name.removesuffix(".yaml") not in homes]:
        fitting = ", ".join(f"{outer}={name}" for name in sorted(homes))
        raise ValueError(f"{group} belongs to {fitting}, and {outer}={wrong[0]} has no such part; choose {fitting} with it, or leave it out")


def parts_of(path: Path) -> set[str]:
    """Groups in the defaults list of a YAML file."""
    return {str(name) for entry in defaults_of(path) if isinstance(entry, DictConfig) for name in entry}


def defaults_of(path: Path) -> list[object]:
    """Entries of the defaults list of a YAML file: names of other files, or {group: option}."""
    held = OmegaConf.load(path)
    return list(held.get("defaults", [])) if isinstance(held, DictConfig) else []


def files_of(config_name: str) -> list[Path]:
    """A job's YAML file after those that it builds on."""
    file = conf() / f"{config_name}.yaml"
    parents = [entry for entry in defaults_of(file) if isinstance(entry, str) and entry != "_self_" and (file.parent / f"{entry}.yaml").exists()]
    return [*(item for parent in parents for item in files_of(parent)), file]


def groups_of(config_name: str, without: Sequence[str] = ()) -> dict[str, str]:
    """The groups of a job's defaults list and of those that it builds on, each with the option that it takes by itself, "" for none."""
    found: dict[str, str] = {}
    for file in files_of(config_name):
        for key, option in (item for entry in defaults_of(file) if isinstance(entry, DictConfig) for item in entry.items()):
            group, _, package = str(key).removeprefix("override ").removeprefix("/").partition("@")
            if not group.startswith("hydra") and group not in without:
                found[group] = "" if option is None or package else shown(option)
    for group in [*found]:
        for inner in sorted(path.name for path in (conf() / group).iterdir() if path.is_dir() and path.name[0] not in "_."):
            found.setdefault(f"{group}/{inner}", "")
    return found
