"""A drafter with a small model of its own: what all of them do alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from spec.assistant import Assistant
from spec.growth import Growth
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.state import DecodeState
from spec.types import Draft, Scores, Verdict


class AssistedDrafter(Drafter):
    """A subclass sets `assistant` in `__init__`. If `propose` sets `growth`, the assistant's cache keeps the slots of it that the verdict keeps."""

    assistant: Assistant
    growth: Growth | None = None

    @property
    def checkpoints(self) -> Mapping[str, str]:
        return {} if self.assistant.name is None else {"assistant": self.assistant.name}

    @property
    def models(self) -> Mapping[str, CausalLM]:
        return {"assistant": self.assistant.model}

    def attach(self, target: CausalLM) -> None:
        self.assistant.attach(target)
        self.traits = replace(self.traits, context=self.assistant.model.context)

    def reset(self, state: DecodeState) -> None:
        self.assistant.reset(state)

    def rows_changed(self, state: DecodeState, origin: Sequence[int | None]) -> None:
        self.assistant.rows_changed(state, origin)

    def observe(self, state: DecodeState, draft: Draft, verdict: Verdict, scores: Scores) -> None:
        if self.growth is not None:
            self.growth.settle(verdict.path)
