"""From the configuration of a replay to its parts: how the texts were sampled, which lengths, which drafters, what stands in the target's place."""

import logging
from collections.abc import Mapping
from typing import Any

from experiments.parts.build import make
from experiments.parts.target import find_device
from experiments.replay import distributions
from experiments.replay.recorded_target import ANY_CONTEXT, NEEDS_TARGET, RecordedTarget, recorded_target
from experiments.replay.settings import Settings
from experiments.replay.texts import RecordedText, Recording
from spec.assisted import AssistedDrafter
from spec.interfaces import Drafter

log = logging.getLogger(__name__)


def check_sampling(config: Mapping[str, Any], recording: Recording) -> dict[str, Any]:
    """How the texts are taken to be sampled, without target and seed of the YAML. Raises ValueError where the run says otherwise."""
    recorded = None if recording.config is None else recording.config["sampling"]
    sampling = distributions.lasting(config["sampling"])
    if recorded is not None and sampling != distributions.lasting(recorded):
        raise ValueError(
            f"the run was recorded with {distributions.lasting(recorded)}, not with {sampling}; leave sampling out to replay it as it was"
        )
    return sampling


class DrafterBuilder:
    """Drafters of one configuration, of any length; a small model is loaded once and shared."""

    def __init__(self, config: Mapping[str, Any], target: RecordedTarget):
        self.config, self.target = config, target
        self.made: dict[tuple[int | None, bool], Drafter] = {}

    def __call__(self, length: int | None, *, ruled: bool = True) -> Drafter:
        """Raises ValueError for a drafter that cannot be made, attached or replayed; `ruled` False leaves its stopping rule out."""
        if (length, ruled) not in self.made:
            self.made[length, ruled] = self._attached(self._make(length, ruled))
        return self.made[length, ruled]

    def _make(self, length: int | None, ruled: bool) -> Drafter:
        part = dict(self.config["drafter"])
        if length is not None:
            part["num_tokens"] = length
        if not ruled and "stopping" in part:
            part["stopping"] = None
        drafter = make({**self.config, "drafter": part}, "drafter")
        for other in self.made.values():
            if isinstance(drafter, AssistedDrafter) and isinstance(other, AssistedDrafter):
                drafter.assistant = other.assistant
        return drafter

    def _attached(self, drafter: Drafter) -> Drafter:
        name = type(drafter).__name__
        if drafter.traits.needs:
            raise ValueError(f"{name} cannot be replayed: {NEEDS_TARGET}")
        try:
            drafter.attach(self.target)
        except ValueError as error:
            raise ValueError(f"{name} cannot be replayed: {error}") from error
        return drafter


def target_of(asked: Settings, recording: Recording, tokenizer: Any) -> RecordedTarget:
    """What stands in the target's place: the run's target without its weights, or, for plain texts, a vocabulary without limits."""
    if recording.config is not None:
        target = recording.config["target"]
        known = {name: target[name] for name in ("dtype", "context") if name in target}
        return recorded_target(target["name"], device=asked.device, **known)
    try:
        return recorded_target(asked.tokenizer, device=asked.device, context=ANY_CONTEXT)
    except ValueError:  # a folder with a tokenizer and no model
        return RecordedTarget(len(tokenizer), device=find_device(asked.device))


def fitting(recording: Recording, drafter: Drafter, target: RecordedTarget, skip: bool) -> list[RecordedText]:
    """The texts that the drafter can follow. Raises ValueError for others, unless they may be left out."""
    context = min(target.context, drafter.traits.context or target.context)
    fits = [text for text in recording.texts if len(text.prompt) + (recording.budget or len(text.tokens)) <= context]
    if len(fits) < len(recording.texts):
        number = len(recording.texts) - len(fits)
        if not skip or not fits:
            raise ValueError(f"{number} of {len(recording.texts)} texts do not fit the drafter's context of {context} tokens; set skip_too_long=true")
        log.warning("%d of %d texts do not fit the drafter's context of %d tokens and are left out", number, len(recording.texts), context)
    return fits


def open_distributions(asked: Settings, texts: list[RecordedText], sampling: dict[str, Any]) -> dict[str, distributions.TextDistributions] | None:
    """The target's distributions along the texts, from the file that was named or lies in the run's folder; None where there is none."""
    own = [asked.source.recorded / name for name in ("distributions.npz", "laws.npz")]  # the second is how earlier versions called it
    path = asked.distributions or next((file for file in own if file.exists()), None)
    return None if path is None else distributions.load(path, texts, sampling)
