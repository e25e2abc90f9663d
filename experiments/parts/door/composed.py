"""From a command line to the configuration of every job that it starts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.parts.door.command_line import CommandLine
from experiments.parts.door.comments import CONF, conf
from experiments.parts.door.groups import OWN, groups_in
from experiments.recording.moved import recorded

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


@contextmanager
def composing(line: CommandLine) -> Iterator[list[str]]:
    """Hydra over our configurations; yields the overrides that make it look into further folders."""
    for group in groups_in([conf()]):
        ConfigStore.instance().store(group=group, name=OWN, node={"_target_": "???"})
    places = ",".join(f"'file://{folder.resolve()}'" for folder in line.folders)
    extra = [f"hydra.searchpath=[{places}]"] if places else []
    if GlobalHydra.instance().is_initialized():
        yield extra
    else:
        with hydra.initialize_config_module(CONF, version_base=None):
            yield extra


def compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """A configuration with Hydra's own part. Raises ValueError in one line."""
    try:
        return hydra.compose(config_name, list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        said = [part for part in str(error.__cause__ or error).split("\n") if part.strip() and "full_key:" not in part and "object_type=" not in part]
        raise ValueError(" ".join(" ".join(said[:3]).split())) from error


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration without Hydra's part, under recorded names, interpolations resolved; what is missing stays `???`. Raises ValueError."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        return recorded(OmegaConf.to_container(own, resolve=True))
    except OmegaConfBaseException as error:
        raise ValueError(" ".join(str(error).split("\n")[0].split())) from error


def is_sweep(base: DictConfig, line: CommandLine) -> bool:
    """Whether several jobs are asked for, by -m or by the configuration."""
    return line.multirun or base.hydra.mode == RunMode.MULTIRUN


def sweep_of(base: DictConfig, items: Sequence[str]) -> list[list[str]]:
    """Overrides of every job of a sweep, in order.

    A sweeper that searches makes its jobs as it goes: then one job stands for all, with the first value of everything that is swept.
    """
    params: Mapping[str, Any] = OmegaConf.to_container(base.hydra.sweeper, resolve=False).get("params") or {}  # pyright: ignore
    swept = [f"{key}={value}" for key, value in params.items()] + list(items)
    overrides = OverridesParser.create().parse_overrides(swept)
    if any(override.value_type is ValueType.GLOB_CHOICE_SWEEP for override in overrides):  # Hydra finds what they stand for
        kept = [item for item, override in zip(swept, overrides, strict=True) if override.value_type is not ValueType.GLOB_CHOICE_SWEEP]
        return sweep_of(base, kept)
    if OmegaConf.to_container(base.hydra.sweeper, resolve=False)["_target_"] != BASIC:  # pyright: ignore
        return [[_first(item, override) for item, override in zip(swept, overrides, strict=True)]]
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # as Hydra itself will split them

    jobs = [list(job) for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]
    if not jobs:
        raise ValueError(f"{' '.join(swept)} gives no job: a range or a list in it is empty")
    return [_last_wins(job) for job in jobs]


def _last_wins(job: list[str]) -> list[str]:
    """The command line's value of a setting that the sweep's own parameters name too."""
    return list({item.partition("=")[0]: item for item in job}.values())


def _first(item: str, override: Any) -> str:
    if not override.is_sweep_override():
        return item
    if override.is_choice_sweep():
        return f"{item.partition('=')[0]}={next(iter(override.sweep_string_iterator()))}"
    start = getattr(override.value(), "start", None) or 0
    return f"{item.partition('=')[0]}={int(start) if float(start).is_integer() else start}"
