"""The entrance of a job: a configuration becomes plain data, and settings that belong to no part become one frozen value, checked once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.recording.moved import recorded

BATCHING = ("order", "length")
SPLITS = ("all", "dev", "test")
OBJECTIVES = ("speedup", "speedup_macro", "speedup_with_prefill", "tokens_per_second", "tokens_per_step", "accepted_per_step")
LEAST = {"max_new_tokens": 1, "batch_size": 1, "threads": 1, "warmup": 0, "num_prompts": 1, "seed": 0}


@dataclass(frozen=True)
class Settings:
    """The settings of a run beside its parts; what each is for stands in `conf/config.yaml`.

    A configuration that was recorded before a setting was there takes the default, which is the value of the YAML. Raises ValueError for values that
    make no sense.
    """

    max_new_tokens: int = 128
    num_prompts: int | None = None
    batch_size: int = 1
    batching: str = "order"
    stop_at_eos: bool = True
    chat_template: bool = False
    system_prompt: str | None = None
    skip_too_long: bool = False
    allow_lossy: bool = False
    split: str = "all"
    dev_share: float = 0.5
    warmup: int = 2
    seed: int = 0
    threads: int = 1
    peers: Mapping[str, Any] = field(default_factory=dict)
    check_state: bool = True
    allow_code_change: bool = False
    certify: bool = False
    battery: Mapping[str, Any] = field(default_factory=dict)
    proofs: Sequence[str] = field(default_factory=list)
    objective: str = "speedup"

    def __post_init__(self) -> None:
        _one_of("batching", self.batching, BATCHING)
        for name, least in LEAST.items():
            value = getattr(self, name)
            if not (value is None and name == "num_prompts") and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise ValueError(f"{name}={value}: give a whole number of at least {least}")
        _one_of("split", self.split, SPLITS)
        if isinstance(self.dev_share, bool) or not isinstance(self.dev_share, (int, float)) or not 0 < self.dev_share < 1:
            raise ValueError(f"dev_share={self.dev_share}: give a number between 0 and 1, the share of the prompts to tune on")
        _one_of("objective", self.objective, OBJECTIVES)
        check_booleans({part.name: getattr(self, part.name) for part in fields(self) if isinstance(part.default, bool)})
        if not isinstance(self.battery or {}, Mapping):
            raise ValueError(f"battery={self.battery}: give options of experiments.lossless as a mapping, as in +battery.effort.samples=2000")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        """The settings in a resolved configuration, of the main job or of one that takes its settings. Raises ValueError as above."""
        return cls(**{part.name: config[part.name] for part in fields(cls) if part.name in config})


def resolved(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as plain data, with the names that are recorded. Raises ValueError naming what is missing in it."""
    if not isinstance(config, DictConfig):
        return dict(config)
    try:
        return recorded(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise ValueError(f"{getattr(error, 'full_key', None) or 'configuration'} must be given: {' '.join(str(error).split())}") from error


def check_booleans(values: Mapping[str, Any]) -> None:
    """Raises ValueError for a value that is neither true nor false: `no` is a word in YAML 1.2, and words count as true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            hint = "; options of the battery are given as in +battery.num_prompts=1" if name == "certify" else ""
            raise ValueError(f"{name}={value}: give true or false{hint}")


def _one_of(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value}: give one of {', '.join(known)}")
