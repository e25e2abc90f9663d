"""From configuration to objects: what `_target_` names is built here, and whatever is wrong with it is said in one line before any work."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import AutoTokenizer

from experiments.parts.data.prompts import Prompt
from experiments.parts.data.split import side
from experiments.parts.peers import Generate
from experiments.parts.peers.configured import Wanted
from experiments.parts.target import Target
from experiments.parts.tracking.interface import Tracker
from experiments.recording.moved import renamed
from spec.interfaces import Drafter, Verifier, check_pair
from spec.model import resolve_name
from spec.sampling import Sampler

PACKAGES = ("spec", "drafters", "verifiers", "experiments")
HAS_WHITELIST = "execution_whitelist" in inspect.signature(hydra.main).parameters  # Hydra 1.4 and later ask which packages may be run


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


def _today(part: Any) -> Any:
    """A part of a configuration; where it names something that has moved since it was recorded, with the name of today."""
    if not OmegaConf.is_config(part):
        return part
    held = OmegaConf.to_container(part)
    return part if renamed(held) == held else OmegaConf.create(renamed(OmegaConf.to_container(part, resolve=True)))


def make(config: DictConfig, group: str) -> Any:
    """The object that one group of the configuration describes, or one entry of it (`peers.generate`)."""
    whitelist = [f"{package}.*" for package in (*PACKAGES, *config.trusted_packages)]
    extra = {"_execution_whitelist_": whitelist} if HAS_WHITELIST else {}
    try:
        return instantiate(_today(OmegaConf.select(config, group)), _convert_="all", **extra)
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


def exact_verifiers() -> dict[str, Verifier]:
    """Every exact verifier that takes sampled drafts, by the stem of its YAML."""
    folder = Path(str(files("conf"))) / "verifier"
    made = {path.stem: instantiate(OmegaConf.load(path)) for path in sorted(folder.glob("*.yaml"))}
    return {name: rule for name, rule in made.items() if rule.exact and name != "greedy"}
