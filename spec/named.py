"""Drafters, verifiers and stopping rules by their short names, the same as in `conf/`. Each is imported when it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

DRAFTERS = {
    "none": "drafters.none:NoDraft",
    "prompt_lookup": "drafters.prompt_lookup:PromptLookup",
    "draft_model": "drafters.draft_model:DraftModel",
    "lookahead": "drafters.lookahead:Lookahead",
    "jacobi": "drafters.jacobi:Jacobi",
    "multi_draft": "drafters.multi_draft:MultiDraft",
    "draft_tree": "drafters.draft_tree:DraftTree",
    "coupled": "drafters.coupled:CoupledDraft",
    "oracle": "drafters.oracle:Oracle",
    "adversarial": "drafters.adversarial:Adversarial",
}
VERIFIERS = {
    "recursive": "verifiers.recursive:Recursive",
    "rejection": "verifiers.rejection:Rejection",
    "block": "verifiers.block:Block",
    "traversal": "verifiers.traversal:Traversal",
    "kseq": "verifiers.kseq:KSeq",
    "greedy_multi": "verifiers.greedy_multi:GreedyMulti",
    "sample_match": "verifiers.sample_match:SampleMatch",
    "coupled": "verifiers.coupled:Coupled",
    "greedy": "verifiers.greedy:Greedy",
    "typical": "verifiers.typical:Typical",
    "lenient": "verifiers.lenient:Lenient",
    "ensemble": "verifiers.ensemble:Ensemble",
}
STOPPING = {
    "constant": "drafters.stopping.constant:Constant",
    "heuristic": "drafters.stopping.heuristic:Heuristic",
    "confidence": "drafters.stopping.confidence:Confidence",
    "entropy": "drafters.stopping.entropy:Entropy",
    "cost": "drafters.stopping.cost:Cost",
    "bandit": "drafters.stopping.bandit:Bandit",
}


def drafter_named(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """The drafter of a short name, made with `settings`. Raises ValueError for an unknown name and for settings that it does not take."""
    return _made("drafter", DRAFTERS, name, settings)


def verifier_named(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """The verifier of a short name, as `drafter_named`."""
    return _made("verifier", VERIFIERS, name, settings)


def stopping_named(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """The stopping rule of a short name, as `drafter_named`."""
    return _made("stopping", STOPPING, name, settings)


def class_at(place: str) -> Any:
    """The class at "package.module:Class"."""
    module, _, name = place.partition(":")
    return getattr(import_module(module, __package__), name)  # a relative name where this file is one of a flat folder


def _made(role: str, places: Mapping[str, str], name: Any, settings: Mapping[str, Any] | None) -> Any:
    if not isinstance(name, str) or name not in places:
        raise ValueError(f"{role}={name!r}: give one of {', '.join(places)}, or an object made from a class of your own")
    if settings is not None and not isinstance(settings, Mapping):
        raise ValueError(f"{role}_options={settings!r}: give a dict with the settings of {name}")
    kind = class_at(places[name])
    try:
        return kind(**(settings or {}))
    except TypeError as error:
        raise ValueError(f"{role}={name} does not take {dict(settings or {})}: {error}") from error
