"""Speculative decoding under exact verifiers: `from draftproof import decode, speculative, Lookahead`. And the command `draftproof`.

In a checkout this is a module beside the folders `spec`, `drafters`, `verifiers`, `experiments` and `conf`. In the wheel it is the package that these
lie in. Importing it imports nothing else: a name is looked up where it lies when it is asked for.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drafters.adversarial import Adversarial
    from drafters.coupled import CoupledDraft
    from drafters.draft_model import DraftModel
    from drafters.draft_tree import DraftTree
    from drafters.jacobi import Jacobi
    from drafters.lookahead import Lookahead
    from drafters.multi_draft import MultiDraft
    from drafters.none import NoDraft
    from drafters.oracle import Oracle
    from drafters.prompt_lookup import PromptLookup
    from drafters.stopping.bandit import Bandit
    from drafters.stopping.confidence import Confidence
    from drafters.stopping.constant import Constant
    from drafters.stopping.cost import Cost
    from drafters.stopping.entropy import Entropy
    from drafters.stopping.heuristic import Heuristic
    from spec import (
        CausalLM,
        DecodeState,
        Draft,
        Drafter,
        Generation,
        GenerationStats,
        Limits,
        Noise,
        Sampler,
        Scores,
        Scratch,
        Traits,
        Verdict,
        Verifier,
        decode,
        speculative,
    )
    from verifiers.block import Block
    from verifiers.coupled import Coupled
    from verifiers.ensemble import Ensemble
    from verifiers.greedy import Greedy
    from verifiers.greedy_multi import GreedyMulti
    from verifiers.kseq import KSeq
    from verifiers.lenient import Lenient
    from verifiers.recursive import Recursive
    from verifiers.rejection import Rejection
    from verifiers.sample_match import SampleMatch
    from verifiers.traversal import Traversal
    from verifiers.typical import Typical

__version__ = "0.1.0"
OURS = ("spec", "drafters", "verifiers", "experiments", "conf")
HERE = Path(__file__).resolve().parent
INSIDE = f"{__name__}." if "__path__" in globals() else ""  # before the names of our packages: they lie inside this one in the wheel
FOR_EXPERIMENTS = ("hydra", "datasets", "wandb", "scipy", "pandas", "matplotlib", "yaml", "rich")  # what the extra brings
CORE = "CausalLM DecodeState Draft Drafter Generation GenerationStats Limits Noise Sampler Scores Scratch Traits Verdict Verifier decode speculative"
PLACES = {  # public names by the module they lie in
    "drafters.adversarial": "Adversarial",
    "drafters.coupled": "CoupledDraft",
    "drafters.draft_model": "DraftModel",
    "drafters.draft_tree": "DraftTree",
    "drafters.jacobi": "Jacobi",
    "drafters.lookahead": "Lookahead",
    "drafters.multi_draft": "MultiDraft",
    "drafters.none": "NoDraft",
    "drafters.oracle": "Oracle",
    "drafters.prompt_lookup": "PromptLookup",
    "drafters.stopping.bandit": "Bandit",
    "drafters.stopping.confidence": "Confidence",
    "drafters.stopping.constant": "Constant",
    "drafters.stopping.cost": "Cost",
    "drafters.stopping.entropy": "Entropy",
    "drafters.stopping.heuristic": "Heuristic",
    "spec": CORE,
    "verifiers.block": "Block",
    "verifiers.coupled": "Coupled",
    "verifiers.ensemble": "Ensemble",
    "verifiers.greedy": "Greedy",
    "verifiers.greedy_multi": "GreedyMulti",
    "verifiers.kseq": "KSeq",
    "verifiers.lenient": "Lenient",
    "verifiers.recursive": "Recursive",
    "verifiers.rejection": "Rejection",
    "verifiers.sample_match": "SampleMatch",
    "verifiers.traversal": "Traversal",
    "verifiers.typical": "Typical",
}
PUBLIC = {name: module for module, names in PLACES.items() for name in names.split()}
__all__ = sorted(PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A public name, from the module it lies in. Raises ImportError in a checkout where another project's package stands in that module's place."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if line := stranger():
        raise ImportError(line)
    return getattr(import_module(f"{INSIDE}{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})


def stranger() -> str | None:
    """One line about the first of our packages that is another project's, or is not there; None if all are ours. Imports none of them.

    In the wheel it is always None: inside this package no other project has a name.
    """
    for name in () if INSIDE else OURS:
        found = sys.modules[name].__spec__ if name in sys.modules else find_spec(name)
        places = list(found.submodule_search_locations or [found.origin]) if found else []
        if not any(place and Path(place).resolve() == HERE / name for place in places):
            where = f"is taken by {places[0]}" if places and places[0] else "is not there"
            return (
                f"the package {name!r} of Draftproof ({HERE / name}) {where}; "
                + ("uninstall or rename that one, or start in another folder, " if places else "install Draftproof again, ")
                + f"or run in Draftproof's own folder: cd {HERE} && python -m experiments"
            )
    return None


def lacking() -> str | None:
    """One line about packages that the experiments need and that are not installed; None if all are there. Imports none of them."""
    missing = [name for name in FOR_EXPERIMENTS if find_spec(name) is None]
    return f"the experiments need {', '.join(missing)}: pip install 'draftproof[experiments]'" if missing else None


def main() -> None:
    """The console command."""
    if problem := stranger() or lacking():
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(2)
    from experiments.parts.door.enter import door

    door(sys.argv[1:])


if __name__ == "__main__":
    main()
