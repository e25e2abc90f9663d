"""The names of our classes and functions, as configurations and records hold them: `drafters.none.NoDraft`, wherever our packages lie.

In a checkout they are imported under these very names. In the wheel everything lies inside `draftproof`, and is imported as
`draftproof.drafters.none`; records are written and compared without that, so that either can read what the other has recorded. Names that stand in
configurations recorded before `experiments/` was divided into rooms have others today, and so have a few values.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

OURS = ("spec", "drafters", "verifiers", "experiments")
SOURCES = ("*.py", "*.cpp", "*.h")  # files of code
INSIDE = "".join(f"{part}." for part in __name__.split(".")[:-3])  # "" in a checkout, "draftproof." in the wheel
IN_SOURCE = re.compile(rf"\bdraftproof\.(?=(?:{'|'.join((*OURS, 'conf'))})\b)".encode())

MOVED = {
    "experiments.build.load_target": "experiments.parts.target.load_target",
    "experiments.random_target.load_random": "experiments.parts.random_target.load_random",
    "experiments.data.embedded": "experiments.parts.data.sources.embedded",
    "experiments.data.jsonl": "experiments.parts.data.sources.jsonl",
    "experiments.data.hub": "experiments.parts.data.sources.hub",
    "experiments.data.data_set": "experiments.parts.data.sources.data_set",
    "experiments.peers.configured.WantedGenerate": "experiments.parts.peers.configured.WantedGenerate",
    "experiments.peers.configured.WantedAssisted": "experiments.parts.peers.configured.WantedAssisted",
    "experiments.peers.configured.WantedPromptLookup": "experiments.parts.peers.configured.WantedPromptLookup",
    "experiments.tracking.NoTracking": "experiments.parts.tracking.none.NoTracking",
    "experiments.tracking.WandbTracking": "experiments.parts.tracking.wandb.WandbTracking",
}
RENAMED = {("runtime", "eager"): "hf"}  # values of settings

# Settings that came later, as they were before, by the names of today.
LATER: dict[str, dict[str, Any]] = {
    "experiments.parts.target.load_target": {"store": "float32"},
    "drafters.coupled.CoupledDraft": {"store": "float32"},
    "drafters.draft_model.DraftModel": {"store": "float32"},
    "drafters.draft_tree.DraftTree": {"store": "float32"},
    "drafters.multi_draft.MultiDraft": {"store": "float32"},
}


def recorded(part: Any) -> Any:
    """Plain data with every `_target_` as it is recorded: without the package that ours lie in. Everything else is as it was."""
    return _by(bare, part, {})


def renamed(part: Any) -> Any:
    """Plain data with today's name for every `_target_` that has moved and every renamed value, and the settings that it lacks."""
    return _completed(_by(today, part, RENAMED))


def importable(part: Any) -> Any:
    """Plain data with every `_target_` under the name by which it can be imported here and now."""
    return _by(place_of, part, RENAMED)


def bare(name: str) -> str:
    """A name without the package that ours lie in, if it is one of ours."""
    rest = name.removeprefix("draftproof.")
    return rest if rest.split(".")[0] in OURS else name


def today(name: str) -> str:
    """What a recorded name is called now."""
    return MOVED.get(name, name)


def place_of(name: str) -> str:
    """The name by which a package, module or class is imported: one of ours lies in the package that this file lies in."""
    found = today(bare(name))
    return f"{INSIDE}{found}" if found.split(".")[0] in OURS else found


def as_in_checkout(text: bytes) -> bytes:
    """A source as it stands in a checkout, so that one code has one hash: the wheel's differ from it by the word before our packages alone."""
    return IN_SOURCE.sub(b"", text)


def _completed(part: Any) -> Any:
    if isinstance(part, Mapping):
        inside = {key: _completed(value) for key, value in part.items()}
        return inside | {key: value for key, value in LATER.get(str(part.get("_target_")), {}).items() if key not in part}
    return [_completed(value) for value in part] if isinstance(part, (list, tuple)) else part


def _by(rule: Callable[[str], str], part: Any, values: Mapping[tuple[str, str], str]) -> Any:
    if isinstance(part, Mapping):
        return {key: _value(rule, str(key), value, values) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_by(rule, value, values) for value in part]
    return part


def _value(rule: Callable[[str], str], key: str, value: Any, values: Mapping[tuple[str, str], str]) -> Any:
    if not isinstance(value, str):
        return _by(rule, value, values)
    return rule(value) if key == "_target_" else values.get((key, value), value)
