"""From configuration to objects: what `_target_` names is built here, and whatever is wrong with it is said in one line before any work."""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from experiments.data import Prompt
from experiments.peers import Generate
from experiments.peers.configured import Wanted
from experiments.splits import side
from experiments.tracking import Tracker
from spec.interfaces import Drafter, Verifier, check_pair
from spec.model import CausalLM, load_model, resolve_name
from spec.runtime import check_kind
from spec.sampling import Sampler

PACKAGES = ("spec", "drafters", "verifiers", "experiments")
HAS_WHITELIST = "execution_whitelist" in inspect.signature(hydra.main).parameters  # Hydra 1.4 and later ask which packages may be run


@dataclass(frozen=True)
class Target:
    """The model to speed up, and the tokenizer that belongs to it."""

    model: CausalLM
    tokenizer: Any


@dataclass(frozen=True)
class Parts:
    """Everything a run is made of."""

    target: Target
    drafter: Drafter
    verifier: Verifier
    sampler: Sampler
    prompts: list[Prompt]
    tracker: Tracker
    peers: dict[str, Generate] = field(default_factory=dict)


def build(config: DictConfig) -> Parts:
    """Builds every part, cheap ones first. Raises ValueError with one line that says which part is wrong and why."""
    made = {group: make(config, group) for group in ("sampling", "verifier", "data", "tracking", "drafter")}
    prompts = side(made["data"], config.get("split", "all"), config.get("dev_share", 0.5))
    wanted: dict[str, Wanted] = {name: make(config, f"peers.{name}") for name in config.get("peers") or {}}
    if not made["verifier"].exact and not config.allow_lossy:
        raise ValueError(f"verifier={config.verifier._target_.split('.')[-1]} changes the target's law; set allow_lossy=true if that is wanted")
    check_pair(made["drafter"], made["verifier"])
    for peer in wanted.values():
        peer.check(made["drafter"])
    made["target"] = make(config, "target")
    if made["target"].tokenizer is None:
        raise ValueError("target=random has no tokenizer, so it can continue no text; measure it by python -m experiments.bench target=random")
    parts = Parts(made["target"], made["drafter"], made["verifier"], made["sampling"], prompts, made["tracking"])
    _check_tokenizers(config, parts.target.tokenizer)
    try:
        parts.drafter.attach(parts.target.model)
    except (OSError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"drafter {config.drafter.get('name')!r} could not be loaded: {reason}") from error
    return replace(parts, peers={name: _build_peer(name, peer, parts) for name, peer in wanted.items()})


def _build_peer(name: str, peer: Wanted, parts: Parts) -> Generate:
    try:
        return peer.build(parts.target.model, parts.drafter)
    except (OSError, ImportError, ValueError) as error:
        raise ValueError(f"peers.{name}: {str(error).strip().splitlines()[0]}") from error


def make(config: DictConfig, group: str) -> Any:
    """The object that one group of the configuration describes, or one entry of it (`peers.generate`)."""
    whitelist = [f"{package}.*" for package in (*PACKAGES, *config.trusted_packages)]
    extra = {"_execution_whitelist_": whitelist} if HAS_WHITELIST else {}
    try:
        return instantiate(OmegaConf.select(config, group), _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if not isinstance(cause, (ValueError, TypeError, ImportError, AttributeError, OSError, HydraException)):
            raise
        raise ValueError(f"{group}: {' '.join(str(cause).split())}") from error


def compose_other(name: str, overrides: Sequence[str]) -> DictConfig:
    """Another configuration than that of the job that is running, if one is. Raises ValueError for overrides that it does not take."""
    try:
        if GlobalHydra.instance().is_initialized():
            return hydra.compose(name, list(overrides))
        with hydra.initialize_config_module("conf", version_base=None):
            return hydra.compose(name, list(overrides))
    except HydraException as error:
        raise ValueError(f"{name}, {' '.join(overrides)}: {' '.join(str(error).split())}") from error


def load_target(
    name: str,
    dtype: str = "auto",
    device: str = "auto",
    device_map: Any = None,
    attn_implementation: str = "sdpa",
    context: int | None = None,
    runtime: str = "eager",
    capacity: int | None = None,
    quantization: str | None = None,
) -> Target:
    """Model and tokenizer by hub name, local directory or embedded name. Raises ValueError where they cannot be loaded or served."""
    check_kind(runtime)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not sys.stderr.isatty():
        disable_progress_bar()
    try:
        model = load_model(name, dtype, device_map, attn_implementation, quantization)
        tokenizer = AutoTokenizer.from_pretrained(resolve_name(name))
    except (OSError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"model {name!r} could not be loaded: {reason} Give a hub id, a local directory or embedded/target") from error
    return Target(CausalLM(model if device_map is not None else model.to(device), context, runtime, capacity), tokenizer)


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
        return None  # the experiment decides
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


@contextmanager
def refusing() -> Iterator[None]:
    """A user's mistake ends the process with one line."""
    try:
        yield
    except (ValueError, HydraException) as error:
        refuse(" ".join(str(error).split()))


def start(job: Callable[[], Any]) -> None:
    """Checks the options chosen on the command line and hands over to a Hydra job; Ctrl-C ends it with exit code 130."""
    if problem := check_choices(sys.argv[1:]):
        refuse(problem)
    try:
        job()
    except KeyboardInterrupt:
        sys.exit(130)


def refuse(message: str) -> NoReturn:
    """Ends the process with one line and the exit code of a user's mistake."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _extra_folders(arguments: Sequence[str]) -> list[Path]:
    found = []
    for index, item in enumerate(arguments):
        name, _, value = item.partition("=")
        if name in ("--config-dir", "-cd"):
            found.append(Path(value or "".join(arguments[index + 1 : index + 2])))
    return found


def _check_tokenizers(config: DictConfig, tokenizer: Any) -> None:
    """A drafter that is a model of its own must split text as the target does: equal vocabularies are not yet equal meanings."""
    name = config.drafter.get("name")
    if not name:
        return
    try:
        other = AutoTokenizer.from_pretrained(resolve_name(name))
    except (OSError, ValueError):
        return  # a drafter may come without a tokenizer; its size is checked when it is attached
    if other.get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"drafter {name!r} has another tokenizer than target {config.target.name!r} ({len(other)} and {len(tokenizer)} entries, not the same); "
            "choose a drafter of the target's family"
        )
