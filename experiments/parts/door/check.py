"""A command line against everything that can be known without torch: groups, settings, types, ranges, signatures; every job of a sweep."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from experiments.parts.door import comments
from experiments.parts.door.command_line import CommandLine, nearest
from experiments.parts.door.composed import compose, composing, is_sweep, plain, sweep_of
from experiments.parts.door.groups import check_choices, file_of, files_of, folders_of, with_own_targets
from experiments.parts.door.kinds import ANY, Kind, by_comment, by_value, shown
from experiments.parts.door.signatures import Signature, signature

OF_HYDRA = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")


@dataclass(frozen=True)
class Checked:
    """`arguments`: the command line as Hydra is to have it; `jobs`: the configuration of each job that it starts."""

    arguments: list[str]
    jobs: list[dict[str, Any]]


HANDED_ON: dict[tuple[str, ...], Checked] = {}  # from the door to the job that it imports, by configuration and arguments


def check(config_name: str, arguments: list[str]) -> Checked:
    """Raises ValueError with one line for whatever is wrong; reads YAML and source files and imports nothing of what they name."""
    try:
        return _check(config_name, arguments)
    except (HydraException, AssertionError) as error:
        raise ValueError(f"{' '.join(arguments)} cannot be read: {str(error) or 'its form is wrong'}") from error


def _check(config_name: str, arguments: list[str]) -> Checked:
    line = CommandLine.of(arguments)
    check_choices(line, config_name)
    items = with_own_targets(line)
    flags = [item for item in arguments if item not in line.items]
    with composing(line) as extra:
        lasting = [(item, override) for item, override in _pairs(items) if not override.is_sweep_override()]
        base = compose(
            config_name, [*extra, *(item for item, override in lasting if _chooses(override) or override.key_or_group.startswith("hydra."))]
        )
        if not is_sweep(base, line):
            _check_single(line)
        jobs = sweep_of(base, items) if is_sweep(base, line) else [items]
        found = []
        for number, job in enumerate(jobs):
            try:
                found.append(_checked(config_name, [*extra, *job], line))
            except ValueError as error:
                varied = " ".join(item for item in job if item not in items)
                raise ValueError(f"job {number} ({varied}): {error}" if varied else str(error)) from error
    return Checked([*flags, *items], found)


def _pairs(items: Sequence[str]) -> list[tuple[str, Override]]:
    """Every override as it is written, and as Hydra reads it."""
    return list(zip(items, CommandLine.of(items).overrides, strict=True))


def _chooses(override: Override) -> bool:
    """Whether an override chooses an option, as opposed to setting a value."""
    return ("." not in override.key_or_group and (comments.conf() / override.key_or_group).is_dir()) or "/" in override.key_or_group


def _check_single(line: CommandLine) -> None:
    """Raises ValueError for several values where no sweep was asked for."""
    for item, override in zip(line.items, line.overrides, strict=True):
        if override.is_sweep_override():
            brackets = "" if _chooses(override) else f", or brackets for a list: '{item.replace('=', '=[', 1)}]'"
            raise ValueError(f"{item} gives several values: add -m for a sweep over them{brackets}")


def _checked(config_name: str, job: list[str], line: CommandLine) -> dict[str, Any]:
    """The configuration of one job, after its checks."""
    pairs = _pairs(job)
    try:
        composed = compose(config_name, job)
    except ValueError:
        chosen = [item for item, override in pairs if _chooses(override) or item.startswith("hydra.searchpath=")]
        groups = compose(config_name, chosen)
        for _, override in pairs:
            if not _chooses(override) and not override.is_add() and not override.is_force_add():
                _check_known(override.key_or_group, groups)
        _blame(config_name, chosen, pairs)
        raise
    choices = sorted((str(key), str(value)) for key, value in composed.hydra.runtime.choices.items())
    listed = [override for _, override in pairs if _chooses(override) and isinstance(override.value(), list)]  # Hydra does not keep these
    choices += [(override.key_or_group, str(option)) for override in listed for option in override.value()]  # pyright: ignore
    config = plain(composed)
    known = known_settings(config_name, tuple(choices), tuple(folders_of(line)))
    own = {name.split(".")[0] for name in known} | {key.partition("@")[2].split(".")[0] or key.split("/")[0] for key, _ in choices}
    if added := sorted(set(config) - own):
        raise ValueError(f'unknown setting "{added[0]}"{nearest(added[0], sorted(own))} --help lists all')
    check_values(config, known)
    if config_name == "config" and isinstance(config["battery"], Mapping):
        _check_battery(config["battery"], tuple(folders_of(line)))
    return config


def _check_battery(given: Mapping[str, Any], folders: tuple[Path, ...]) -> None:
    """`+battery.effort.samples=2000`: settings of the battery, which is another job."""
    known = known_settings("lossless", (("effort", "normal"),), folders)
    for name, value in _flat(given):
        if name in known and not _kind(name, name, known, None).accepts(value):
            raise ValueError(f"battery.{name}={shown(value)}: give {_kind(name, name, known, None)}")


def _flat(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _blame(config_name: str, chosen: list[str], pairs: list[tuple[str, Override]]) -> None:
    """Raises ValueError with the first setting that fails by itself, beside the chosen options, if there is one."""
    for item, override in pairs:
        if not _chooses(override):
            try:
                compose(config_name, [*chosen, item])
            except ValueError as error:
                raise ValueError(f"{item}: {error}") from error


def _check_known(key: str, config: DictConfig) -> None:
    """Raises ValueError for a setting that is not there, with the nearest one that is; `+name=value` would add it."""
    part, path = config, ""
    for name in key.split("."):
        if key.startswith("hydra."):
            return  # Hydra says what is wrong
        if not isinstance(part, DictConfig):
            raise ValueError(f'unknown setting "{key}"; {path} has no settings of its own')
        names = [str(item) for item in part if item not in ("hydra", *OF_HYDRA)]
        if name not in [str(item) for item in part]:
            near = nearest(name, names)
            what = f"{path}={_option(config, path)}" if path in config.hydra.runtime.choices else path or "the job"
            listed = f" {what} has {', '.join(names) or 'none'}" if path and len(names) <= 16 else " --help lists all"
            raise ValueError(f'unknown setting "{key}"{near}{listed}')
        part, path = part._get_node(name), f"{path}.{name}".lstrip(".")  # pyright: ignore[reportAssignmentType]


def _option(config: DictConfig, group: str) -> str:
    return str(config.hydra.runtime.choices[group])


@dataclass(frozen=True)
class Known:
    """What is known of a setting: its kind by its comment, where that says one, and its default."""

    kind: Kind | None
    default: Any


@cache
def known_settings(config_name: str, choices: tuple[tuple[str, str], ...], folders: tuple[Path, ...]) -> dict[str, Known]:
    """Settings by dotted name, of a job's own YAML file, of those that it builds on, and of the chosen options."""
    found: dict[str, Known] = {}
    for file in files_of(config_name):
        found |= {item.name: _known(item) for item in comments.settings(file)}
    for key, option in choices:
        group, _, package = key.partition("@")
        if group.startswith("hydra/"):
            continue
        for name in option.strip("[]").replace("'", "").split(", "):
            file = file_of(group, name, folders)
            if file is not None and package != "_global_" and group != "experiment":
                prefix = package or _package(file) or group.replace("/", ".")
                found |= {f"{prefix}.{item.name}": _known(item) for item in comments.settings(file)}
    return found


def _known(item: comments.Setting) -> Known:
    return Known(by_comment(item.comment, item.default), item.default)


def _package(file: Path) -> str:
    """`# @package peers.assisted` of a YAML file."""
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# @package").strip() if first.startswith("# @package") else ""


def check_values(config: Mapping[str, Any], known: Mapping[str, Known], prefix: str = "") -> None:
    """Every value against its kind, and every part against the signature of its `_target_`. Raises ValueError."""
    taken = _taken(config, prefix)
    for name, value in config.items():
        path = f"{prefix}{name}"
        if name in OF_HYDRA:
            continue
        kind = _kind(path, name, known, taken)
        if value == "???":
            raise ValueError(f"{path} must be given: {path}=..., {kind}")
        if isinstance(value, Mapping) and kind.accepts(value):
            check_values(value, known, f"{path}.")
        elif not kind.accepts(value):
            raise ValueError(f"{path}={shown(value)}: give {kind}")


def _kind(path: str, name: str, known: Mapping[str, Known], taken: Signature | None) -> Kind:
    """By the comment, else by the annotation, else by the default."""
    said = known.get(path)
    if said is not None and said.kind is not None:
        return said.kind
    annotated = taken.parameters.get(name, ANY) if taken else ANY
    if annotated.name != "any" or annotated.choices:
        return annotated
    if said is None:
        return Kind(null=True)
    found = by_value(said.default)
    return Kind(null=True) if annotated.null or (taken and found.name in ("str", "dict") and annotated == ANY and said.default is None) else found


def _taken(config: Mapping[str, Any], prefix: str) -> Signature | None:
    """The signature behind a part, which must take every setting of it and get all that it needs."""
    target = config.get("_target_")
    if target is None:
        return None
    part = prefix.removesuffix(".") or "configuration"
    if not isinstance(target, str) or target == "???":
        raise ValueError(f"{part}._target_ must be given: the dotted name of a class, package.module.Class")
    try:
        found = signature(target)
    except ValueError as error:
        raise ValueError(f"{part}._target_={target}: {error}") from error
    if found is None:
        return None
    given = [str(name) for name in config if name not in OF_HYDRA]
    for name in given:
        if name not in found.parameters and not found.takes_more:
            near = nearest(name, list(found.parameters))
            raise ValueError(f'{part}: {target} takes no "{name}"{near} it takes {", ".join(found.parameters) or "nothing"}')
    if missing := sorted(found.required - set(given)) if "_args_" not in config and not config.get("_partial_") else []:
        raise ValueError(f"{part}.{missing[0]} must be given: {target} has no default for it (+{part}.{missing[0]}=...)")
    return found
