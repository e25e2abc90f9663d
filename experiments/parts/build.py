"""From configuration to objects: what `_target_` names is built here, and whatever is wrong with it is said in one line before any work."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.parts.data.prompts import Prompt
from experiments.parts.data.split import side
from experiments.parts.door.comments import CONF, conf
from experiments.parts.peers import Generate
from experiments.parts.peers.configured import Wanted
from experiments.parts.peers.engines.engine import Engine
from experiments.parts.settings import Settings, resolved
from experiments.parts.target import Target
from experiments.parts.tracking.interface import Tracker
from experiments.parts.versions import named_models
from experiments.recording.moved import OURS, importable, place_of
from experiments.recording.naming import method_name
from spec.converted import check_name
from spec.interfaces import Drafter, Verifier, check_pair
from spec.loading import load_tokenizer
from spec.sampling import Sampler
from spec.vocabulary import Tokenizer, known_alike

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
    peers: dict[str, Generate | Engine] = field(default_factory=dict)


def prompts_of(config: Mapping[str, Any], settings: Settings) -> list[Prompt]:
    """The prompts of the side that a run is about. Raises ValueError where there are none, or they cannot be read."""
    return side(make(config, "data"), settings.split, settings.dev_share)


def check_parts(config: Mapping[str, Any]) -> None:
    """Raises ValueError for what is wrong with a configuration and can be known without its models and data."""
    cheap_parts(config, Settings.of(config))
    for part in ("target", "drafter", "peers"):
        for _, name in named_models(config.get(part), part):
            check_name(name)


def cheap_parts(config: Mapping[str, Any], settings: Settings) -> tuple[dict[str, Any], dict[str, Wanted]]:
    """The parts that load nothing, and the peers that are wanted. Raises ValueError where one is wrong, or two do not go together."""
    made = {group: make(config, group) for group in ("sampling", "verifier", "tracking", "drafter")}
    wanted: dict[str, Wanted] = {name: make(config, f"peers.{name}") for name in settings.peers or {}}
    check_pair(made["drafter"], made["verifier"])
    if not made["verifier"].exact and not settings.allow_lossy:
        raise ValueError(f"verifier={method_name(config['verifier'])} changes the target's distribution; set allow_lossy=true if that is wanted")
    for peer in wanted.values():
        peer.check(made["drafter"], made["sampling"])
    return made, wanted


def build(config: Mapping[str, Any], settings: Settings, prompts: list[Prompt]) -> Parts:
    """Builds every other part, cheap ones first. Raises ValueError with one line that says which part is wrong and why."""
    made, wanted = cheap_parts(config, settings)
    made["target"] = make(config, "target")
    if made["target"].tokenizer is None:
        raise ValueError("target=random has no tokenizer, so it can continue no text; measure it by draftproof bench target=random")
    parts = Parts(made["target"], made["drafter"], made["verifier"], made["sampling"], prompts, made["tracking"])
    _check_tokenizers(config, parts.target.tokenizer)
    try:
        parts.drafter.attach(parts.target.model)
    except (OSError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"drafter {config['drafter'].get('name')!r} could not be loaded: {reason}") from error
    return replace(parts, peers={name: _build_peer(name, peer, parts) for name, peer in wanted.items()})


def _build_peer(name: str, peer: Wanted, parts: Parts) -> Generate | Engine:
    try:
        return peer.build(parts.target.model, parts.drafter)
    except (OSError, ImportError, ValueError) as error:
        raise ValueError(f"peers.{name}: {str(error).strip().splitlines()[0]}") from error


def make(config: Mapping[str, Any], group: str) -> Any:
    """The object that one group of the configuration describes, or one entry of it (`peers.generate`).

    What it names may have moved since the configuration was recorded: then the name of today holds.
    """
    whitelist = [f"{place_of(package)}.*" for package in (*OURS, *config["trusted_packages"])]
    extra = {"_execution_whitelist_": whitelist} if HAS_WHITELIST else {}
    part: Any = config
    for name in group.split("."):
        part = part[name]
    if OmegaConf.is_config(part):
        part = OmegaConf.to_container(part, resolve=True)
    try:
        return instantiate(importable(part), _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if not isinstance(cause, (ValueError, TypeError, ImportError, AttributeError, OSError, HydraException)):
            raise
        raise ValueError(f"{group}: {' '.join(str(cause).split())}") from error


def checkpoints_of(config: Mapping[str, Any]) -> Mapping[str, str]:
    """What the drafter of a configuration says it will load, by role. Loads nothing. Raises ValueError as `make` does."""
    return make(config, "drafter").checkpoints


def compose_other(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Resolves a configuration other than the running job's. Raises ValueError for overrides that it does not take."""
    try:
        if GlobalHydra.instance().is_initialized():
            return resolved(hydra.compose(name, list(overrides)))
        with hydra.initialize_config_module(CONF, version_base=None):
            return resolved(hydra.compose(name, list(overrides)))
    except HydraException as error:
        raise ValueError(f"{name}, {' '.join(overrides)}: {' '.join(str(error).split())}") from error


def _check_tokenizers(config: Mapping[str, Any], tokenizer: Any) -> None:
    """A drafter that is a model of its own must split text as the target does: equal sizes of vocabulary do not mean equal tokens."""
    name = config["drafter"].get("name")
    if not name:
        return
    try:
        other = load_tokenizer(name)
    except ValueError:
        return  # a drafter may come without a tokenizer; its vocabulary size is checked when it is attached
    try:
        known_alike(*(Tokenizer({number: token for token, number in of.get_vocab().items()}, _added(of)) for of in (tokenizer, other)))
    except ValueError as error:
        raise ValueError(
            f"drafter {name!r} has another tokenizer than target {config['target']['name']!r} ({len(other)} and {len(tokenizer)} entries): {error}"
        ) from error


def _added(tokenizer: Any) -> dict[int, str]:
    """Special and other added tokens by id."""
    return {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}


def exact_verifiers() -> dict[str, Verifier]:
    """Every exact verifier that takes sampled drafts, by the stem of its YAML."""
    made = {path.stem: instantiate(OmegaConf.load(path)) for path in sorted((conf() / "verifier").glob("*.yaml"))}
    return {name: rule for name, rule in made.items() if rule.exact and name != "greedy"}
