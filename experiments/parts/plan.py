"""What a run will decode and how it is grouped: settled once, when the parts are built, and handed to everything that comes after."""

from dataclasses import dataclass
from typing import Any

from experiments.parts.build import Parts
from experiments.parts.settings import Settings
from experiments.parts.tasks import Encoder, Task, make_batches, make_tasks
from experiments.recording.identity import Identity
from spec.state import Limits


@dataclass(frozen=True)
class Plan:
    """The prompts of a run as tasks, in the batches that are decoded together, and the run's identity."""

    identity: Identity
    settings: Settings
    encoder: Encoder
    limits: Limits
    tasks: list[Task]
    batches: list[list[Task]]

    @classmethod
    def of(cls, identity: Identity, settings: Settings, parts: Parts) -> "Plan":
        """Raises ValueError for prompts that do not fit, and for what a peer cannot take, before anything is decoded."""
        encoder = Encoder.of(settings, parts)
        limits = Limits(settings.max_new_tokens, eos_ids(parts) if settings.stop_at_eos else None)
        tasks = make_tasks(parts.prompts, encoder)
        plan = cls(identity, settings, encoder, limits, tasks, make_batches(tasks, settings.batch_size, settings.batching))
        for name, peer in parts.peers.items():
            try:
                peer.check([task.tokens for task in tasks], parts.sampler, limits)
            except ValueError as error:
                raise ValueError(f"peers.{name}: {error}") from error
        return plan

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as it is recorded."""
        return self.identity.config


def eos_ids(parts: Parts) -> list[int]:
    """Tokens that end an answer: the model's own, else the tokenizer's."""
    settings = getattr(parts.target.model.model, "generation_config", None)
    eos = getattr(settings, "eos_token_id", None)
    eos = parts.target.tokenizer.eos_token_id if eos is None else eos
    return [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
