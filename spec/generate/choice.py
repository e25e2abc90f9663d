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


def choose(drafter: Drafter | None, handed: Handed, config: GenerationConfig) -> Choice:
    """`assistant_model` and `prompt_lookup_num_tokens` choose the drafter where `drafter` is None; without them it is prompt lookup.

    Raises ValueError where two drafters were asked for.
    """
    lookup = config.prompt_lookup_num_tokens
    asked = [f"assistant_model={type(handed.assistant_model).__name__}"] if handed.assistant_model is not None else []
    asked += [f"prompt_lookup_num_tokens={lookup}"] if lookup is not None else []
    given = [] if drafter is None else [f"speculative({type(drafter).__name__})"]
    if len(asked) + len(given) > 1:
        raise ValueError(f"{' and '.join([*given, *asked])} ask for {len(asked) + len(given)} drafters; give one of them")
    if drafter is not None:
        return Choice(drafter)
    if handed.assistant_model is not None:
        return _assisted(handed.assistant_model, config)
    if lookup is None:
        return Choice(drafter_named("prompt_lookup"))
    most, ngram = config.max_matching_ngram_size or THEIR_NGRAM, "max_matching_ngram_size"
    settings = {"num_tokens": whole("prompt_lookup_num_tokens", lookup, TOKENS, 1), "max_ngram": whole(ngram, most, TOKENS, 1)}
    return Choice(drafter_named("prompt_lookup", settings), frozenset(FOR_LOOKUP))


def _assisted(assistant: Any, config: GenerationConfig) -> Choice:
    """A chain of the assistant's, with the lengths that `generate` would give it: a token below the threshold is the last, but it is kept."""
    length, schedule, threshold = (_setting(name, assistant, config) for name in FOR_ASSISTANTS)
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
