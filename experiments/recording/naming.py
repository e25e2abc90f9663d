"""Short names of drafters and verifiers, as tables, trackers and messages show them."""

from collections.abc import Mapping
from typing import Any

OTHERWISE = ("drafters.none.NoDraft", "drafters.coupled.CoupledDraft")  # the one method of a module that is called otherwise


def method_name(part: Mapping[str, Any]) -> str:
    """The name of a part of a configuration, by its `_target_`.

    A module that is called as its class is (`prompt_lookup.PromptLookup`) holds one method and gives its name to it. Every other class keeps its own
    name (`mine.Second`), so that two classes of one module are told apart.
    """
    module, _, name = str(part["_target_"]).rpartition(".")
    stem = module.split(".")[-1]
    if f"{module}.{name}" in OTHERWISE or stem.replace("_", "").lower() == name.replace("_", "").lower():
        return stem
    return f"{stem}.{name}" if stem else name
