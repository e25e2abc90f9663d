"""What a replay was asked for: checked once, before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.parts.settings import check_booleans
from experiments.recording.naming import method_name
from experiments.replay.best_lengths import Price
from experiments.replay.texts import Recording, Source
from spec.auto import is_auto

PLAIN_SAMPLING = {"_target_": "spec.sampling.Sampler", "temperature": 0.0}


@dataclass(frozen=True)
class Settings:
    """The settings of a replay; what each is for stands in `conf/replay.yaml`."""

    config: Mapping[str, Any]  # all of it, resolved: the parts are made from it, and the file of results holds it
    source: Source
    lengths: Sequence[int | None]  # in rising order; [None] where the drafter has none
    cost: Price
    oracle: bool
    distributions: Path | None
    skip_too_long: bool
    categories: bool
    output: Path | None
    tokenizer: str
    device: str
    threads: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        """The settings in a resolved configuration. Raises ValueError for lengths, costs and files that cannot be."""
        held = {name: config[name] for name in ("oracle", "skip_too_long", "categories", "tokenizer", "device", "threads")}
        check_booleans({name: held[name] for name in ("oracle", "skip_too_long", "categories")})
        cost, lengths = Price(**config["cost"]), lengths_of(config)
        files = {name: None if config[name] is None else Path(config[name]) for name in ("distributions", "output")}
        check_output(files["output"])
        return cls(config, Source.of(config), lengths, cost, **files, **held)

    def with_sampling_of(self, recording: Recording) -> dict[str, Any]:
        """The configuration with how the texts were sampled: as the run did, greedily for plain texts, unless something else was asked for."""
        recorded = None if recording.config is None else recording.config["sampling"]
        return {**self.config, "sampling": self.config.get("sampling") or recorded or PLAIN_SAMPLING}


def drafter_name(config: Mapping[str, Any]) -> str:
    """What tables call the drafter."""
    return method_name(config["drafter"])


def lengths_of(config: Mapping[str, Any]) -> list[int | None]:
    """The lengths to replay, in rising order; [None] where the drafter has none. Raises ValueError for lengths that cannot be set."""
    own, lengths = config["drafter"].get("num_tokens"), config["lengths"]
    if lengths is None:
        if is_auto(config["drafter"]):
            raise ValueError(f"drafter={drafter_name(config)} chooses its length by what steps cost (auto), and no model is run here; give a number")
        return [own]
    wanted = lengths if isinstance(lengths, list) else [lengths]
    if not wanted or not all(isinstance(length, int) and not isinstance(length, bool) and length >= 1 for length in wanted):
        raise ValueError(f"lengths={wanted}: give whole numbers of at least 1, such as lengths=[1,2,4,8]")
    if own is None:
        raise ValueError(f"lengths sets num_tokens, which drafter={drafter_name(config)} does not have; leave lengths out and set what it has")
    return sorted(set(wanted))


def check_output(output: Path | None) -> None:
    """Raises ValueError for a file that could not be written in the end."""
    if output is not None and (output.is_dir() or not output.resolve().parent.is_dir()):
        raise ValueError(f"output={output}: give a file in a folder that exists")
