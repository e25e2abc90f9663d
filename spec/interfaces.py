"""What a drafter and a verifier are. Everything else in the project serves these two."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor

from spec.arguments import shown, whole, yes_or_no
from spec.auto import AUTO, Auto, AutoLength
from spec.costs import StepCosts, nominal
from spec.noise import StepNoise
from spec.types import Draft, Scores, Verdict

if TYPE_CHECKING:
    from spec.model import CausalLM
    from spec.sampling import Sampler
    from spec.state import DecodeState


@dataclass(frozen=True)
class Traits:
    """What others must know about a drafter as it is set up. All but `context` is known when it is made, before any model is loaded."""

    makes_trees: bool = False  # whether a draft may branch; verifiers of chains refuse such a drafter before any work
    adapts_siblings: bool = False  # whether a token's own value may decide if it gets a younger sibling, which some verifiers cannot take
    keeps_state: bool = False  # whether drafts may depend on more than their own text: on earlier prompts, or on the clock; a run says so
    needs: frozenset[str] = frozenset()  # {"hidden"}: ask the target for its last hidden states
    context: int | None = None  # longest sequence that the drafter can follow, known once attached; None: any


class Drafter(ABC):
    """Proposes drafts. `propose` is the only method that a drafter must have; the others let it prepare and learn.

    One object serves one decode at a time, because it follows the rows of that decode: threads that decode at once need a drafter each.

    Other code reads only these attributes of a drafter: `traits`, `members`, `length`, `auto`, `costs`, `checkpoints` and `models`. Their defaults
    fit a drafter without special traits, models or members.
    """

    traits: Traits = Traits()
    members: Sequence["Drafter"] = ()  # the drafters that this one is made of
    auto: Auto | None = None  # chooses before every step how much is drafted; None: the settings say it
    costs: StepCosts | None = None  # what steps cost, where the drafter wants to know: `decode` measures it

    @property
    def length(self) -> int | None:
        """The most tokens on a path of a draft, where one setting says so: `num_tokens`. It may be set anew before a decode."""
        return getattr(self, "num_tokens", None)

    @length.setter
    def length(self, length: int) -> None:
        if self.auto is not None and self.costs is self.auto.costs:
            self.costs = None
        self.num_tokens, self.auto = length, None

    def set_length(self, num_tokens: int | str, allowed: str) -> None:
        """Sets `num_tokens`, a whole number of at least 1 or "auto". Raises ValueError for anything else; `allowed` says what to give."""
        if num_tokens == AUTO:
            self.let_choose(AutoLength())
        self.num_tokens = self.auto.most if self.auto is not None else whole("num_tokens", num_tokens, f"{allowed}, or auto", 1)

    def let_choose(self, auto: Auto) -> None:
        """Leaves it to `auto` how much is drafted."""
        self.auto, self.costs = auto, auto.costs

    def by_nominal_costs(self, most: int | None = None) -> "Drafter":
        """The drafter itself, which measures nothing and lets `auto` choose `most` at most: for judging what is not timed."""
        if self.auto is not None:
            self.auto.options = [option for option in self.auto.options if most is None or option <= most]
            self.take(self.auto.most)
        if self.costs is not None:
            given = nominal(self.costs.lengths)
            self.costs.know(given.seconds)
            self.costs.fixed = True
        return self

    @property
    def taken(self) -> int:
        """How much it drafts now."""
        return self.num_tokens

    def take(self, option: int) -> None:
        """From the next draft on, draft as much as `auto` has chosen."""
        self.num_tokens = option

    def try_out(self, state: "DecodeState", sampler: "Sampler", option: int) -> Draft:
        """A draft of just as much, to measure what it costs."""
        before = self.taken
        self.take(option)
        try:
            return self.propose(state, sampler)
        finally:
            self.take(before)

    @property
    def checkpoints(self) -> Mapping[str, str]:
        """Names or folders of the models that it loads, by role; known before they are loaded. Their versions belong to a run's identity."""
        return {f"{place}.{role}": name for place, member in enumerate(self.members) for role, name in member.checkpoints.items()}

    @property
    def models(self) -> Mapping[str, "CausalLM"]:
        """The models that it runs to draft, by role, once attached."""
        return {f"{place}.{role}": model for place, member in enumerate(self.members) for role, model in member.models.items()}

    def __init_subclass__(cls, **options: Any) -> None:
        """Raises ValueError for a class attribute that belongs in `traits`: nobody would read it."""
        super().__init_subclass__(**options)
        for name in vars(cls).keys() & Traits.__dataclass_fields__.keys():
            raise ValueError(f"{cls.__name__}.{name} is read by nobody; declare it by traits = Traits({name}=...)")

    def attach(self, target: "CausalLM") -> None:  # noqa: B027
        """Called once per decode, before prefill: heads, shared embeddings, vocabulary checks."""

    def reset(self, state: "DecodeState") -> None:  # noqa: B027
        """Called after prefill: a new batch begins."""

    def rows_changed(self, state: "DecodeState", origin: Sequence[int | None]) -> None:
        """Called when rows have left or joined the batch: row i of `state` was row origin[i], None for a prompt that has just begun.

        Starting anew, as here, is always exact, but forgets what was learned. A drafter that keeps something for each row should carry it along
        (`spec.state.carried`). Then a row's drafts, and with them its sampled text, do not depend on when other rows end.
        """
        self.reset(state)

    @abstractmethod
    def propose(self, state: "DecodeState", sampler: "Sampler") -> Draft:
        """A draft for every row. Finished rows may get any legal draft: it is checked and scored like the others, and its verdict is thrown away.

        Not called for steps in which `auto` drafts nothing.
        """

    def observe(self, state: "DecodeState", draft: Draft, verdict: Verdict, scores: Scores) -> None:  # noqa: B027
        """Called after a step that it drafted for is committed: learn from what happened."""


class Verifier(Protocol):
    """Accepts part of a draft. Stateless: a frozen dataclass with `__call__`.

    A verifier that cannot take trees says so by a class attribute `chains_only = True`, and raises ValueError when it gets one. A verifier that looks
    at a node's children together, and so needs their number settled before any of them is drawn, says `planned_siblings = True`. One that stays exact
    even if the drafter has seen the random numbers that the verifier draws with says `shares_noise = True`. One whose verdict at temperature 0 is the
    longest path that the target's argmax follows says `matches = True` (a subclass says it anew). `decode` then takes that path by
    `spec.chains.match`, without a call and without distributions.
    """

    exact: ClassVar[bool]  # whether the output's distribution is the target's own; False is lossy by design and needs `allow_lossy=True`

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V]: p[:, i] is the target's distribution of the token after slot i."""
        ...


@dataclass
class Wrapped:
    """A verifier that wraps another one: a subclass observes in `__call__`, and all other attributes are those of `inner`."""

    inner: Verifier
    exact: ClassVar[bool]  # no value here: it is read from `inner`, as `chains_only` is

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not set yet, as while a copy is made
            raise AttributeError(name)
        return getattr(self.inner, name)


def unwrapped(verifier: Verifier) -> Verifier:
    """The verifier inside of all wrappers."""
    return unwrapped(verifier.inner) if isinstance(verifier, Wrapped) else verifier


def check_pair(drafter: Drafter, verifier: Verifier) -> None:
    """Raises ValueError for a drafter whose drafts the verifier cannot take, and for a verifier that does not say whether it is exact.

    Things that are no drafter or no verifier, as when arguments change places, are refused too.
    """
    _refuse_class("drafter", drafter)
    if not callable(getattr(drafter, "propose", None)):
        raise ValueError(f"drafter={shown(drafter)} is no drafter (it has no propose); give drafter and verifier in this order")
    check_verifier(verifier)
    if drafter.traits.makes_trees and getattr(verifier, "chains_only", False):
        raise ValueError(
            f"{type(verifier).__name__} verifies chains only and {type(drafter).__name__} drafts trees; take a verifier for trees (recursive, "
            "traversal, sample_match or coupled) or a drafter of chains (draft_model, prompt_lookup or jacobi)"
        )
    if drafter.traits.adapts_siblings and getattr(verifier, "planned_siblings", False):
        raise ValueError(
            f"{type(verifier).__name__} needs the number of siblings settled before they are drawn, and {type(drafter).__name__} as it is set up "
            "gives a token a younger sibling or not by what it is; take recursive or traversal, or a tree of fixed shape"
        )


def check_verifier(verifier: Any, allow_lossy: bool = True) -> None:
    """Raises ValueError for what is no verifier or does not say whether it is exact, and for one that is not, unless `allow_lossy`."""
    _refuse_class("verifier", verifier)
    if not callable(verifier):
        raise ValueError(f"verifier={shown(verifier)} is no verifier (it cannot be called); give drafter and verifier in this order")
    if not isinstance(getattr(verifier, "exact", None), bool):
        raise ValueError(f"{type(verifier).__name__}.exact must be True or False: whether its output has the target's distribution")
    if not yes_or_no("allow_lossy", allow_lossy) and not verifier.exact:
        raise ValueError(f"{type(verifier).__name__} changes the output's distribution; pass allow_lossy=True if that is wanted")


def _refuse_class(role: str, given: Any) -> None:
    if isinstance(given, type):
        raise ValueError(f"{role}={given.__name__} is a class; give an object, for example {given.__name__}()")
