"""Which drafter a call of `generate` uses: the one that `speculative` was given, or the one that the call's own arguments ask for."""

from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig

from spec.arguments import real, shown, whole
from spec.generate.config import DEFAULTS, FOR_ASSISTANTS, FOR_LOOKUP, is_set
from spec.generate.handed import Handed
from spec.interfaces import Drafter
from spec.named import drafter_named, stopping_named

HEURISTIC = ("heuristic", "heuristic_transient")
TOKENS, THEIR_NGRAM = "at least 1 token", 2  # transformers' own default
MOST_HEURISTIC = 4  # times the first number of tokens


@dataclass(frozen=True)
class Choice:
    """A drafter and the fields of GenerationConfig that it was made from."""

    drafter: Drafter
    used: frozenset[str] = frozenset()


class Choices:
    """`drafter`, if one was given to `speculative`, else one for each call; that of the last assistant is kept, with what was compared for it."""

    def __init__(self, drafter: Drafter | None):
        self.drafter = drafter
        self._last: tuple[Any, list[Any], Choice] | None = None  # an assistant, its settings, and what was made of them

    def choose(self, handed: Handed, config: GenerationConfig) -> Choice:
        """`assistant_model` and `prompt_lookup_num_tokens` choose where no drafter was given; without them it is prompt lookup.

        Raises ValueError where two drafters were asked for.
        """
        lookup = config.prompt_lookup_num_tokens
        asked = [f"assistant_model={type(handed.assistant_model).__name__}"] if handed.assistant_model is not None else []
        asked += [f"prompt_lookup_num_tokens={lookup}"] if lookup is not None else []
        given = [] if self.drafter is None else [f"drafter={type(self.drafter).__name__}"]
        if len(asked) + len(given) > 1:
            raise ValueError(f"{' and '.join([*given, *asked])} ask for {len(asked) + len(given)} drafters; give one of them")
        if self.drafter is not None:
            return Choice(self.drafter)
        if handed.assistant_model is not None:
            return self._assisted(handed.assistant_model, config)
        return Choice(drafter_named("prompt_lookup")) if lookup is None else _lookup(lookup, config)

    def _assisted(self, assistant: Any, config: GenerationConfig) -> Choice:
        settings = [_setting(name, assistant, config) for name in FOR_ASSISTANTS]
        if self._last is None or self._last[0] is not assistant or self._last[1] != settings:
            self._last = assistant, settings, _assisted(assistant, *settings)
        return self._last[2]


def _lookup(length: Any, config: GenerationConfig) -> Choice:
    given, ngram = config.max_matching_ngram_size, "max_matching_ngram_size"
    most = THEIR_NGRAM if given is None else whole(ngram, given, TOKENS, 1)
    settings = {"num_tokens": whole("prompt_lookup_num_tokens", length, TOKENS, 1), "max_ngram": most}
    return Choice(drafter_named("prompt_lookup", settings), frozenset(FOR_LOOKUP))


def _assisted(assistant: Any, length: Any, schedule: Any, threshold: Any) -> Choice:
    """A chain of the assistant's, with the lengths that `generate` would give it: a token below the threshold is the last, but it is kept."""
    length = whole(FOR_ASSISTANTS[0], length, TOKENS, 1)
    threshold = real(FOR_ASSISTANTS[2], threshold, "a probability, or 0 to stop nowhere", lambda share: 0 <= share <= 1)
    if schedule not in ("constant", *HEURISTIC):
        raise ValueError(f"num_assistant_tokens_schedule={shown(schedule)}: give constant, {' or '.join(HEURISTIC)}")
    if schedule in HEURISTIC:  # then the number of tokens follows what was accepted, and no threshold is applied
        settings = {"num_tokens": MOST_HEURISTIC * length, "stopping": stopping_named("heuristic", {"num_tokens": length})}
        return Choice(drafter_named("draft_model", {"model": assistant, **settings}), frozenset(FOR_ASSISTANTS[:2]))
    rule = stopping_named("confidence", {"threshold": threshold}) if threshold else None
    return Choice(drafter_named("draft_model", {"model": assistant, "num_tokens": length, "stopping": rule}), frozenset(FOR_ASSISTANTS))


def _setting(name: str, assistant: Any, config: GenerationConfig) -> Any:
    """The call's own value, else the assistant's, which is where `generate` looks, else transformers' default."""
    own = getattr(getattr(assistant, "generation_config", None), name, None)
    return getattr(config, name) if is_set(config, name) else DEFAULTS.get(name) if own is None else own
