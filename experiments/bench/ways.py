"""The ways to decode that are timed against each other: ours, each under every runtime, and others'."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from experiments.bench.material import PAID, Material
from experiments.parts.peers.bare import BareLoop
from experiments.parts.peers.interface import Peer
from experiments.parts.peers.static_generate import StaticGenerate
from experiments.parts.peers.transformers_generate import Assisted, Generate, PromptLookup
from experiments.recording.clock import Site
from spec import CausalLM, decode
from spec.stats import GenerationStats

PLAIN_PEERS = ("bare", "generate", "static")  # one token per forward of the target


@dataclass(frozen=True)
class Answer:
    """What a way made of one prompt."""

    tokens: list[int]  # new ones
    forwards: int  # of the target behind the prompt's own
    stats: GenerationStats | None = None  # of our loop


@dataclass(frozen=True)
class Way:
    """A named way to continue a prompt, given its index and its ids."""

    name: str
    run: Callable[[int, list[int]], Answer]
    sites: list[Site] = field(default_factory=list)  # where its forwards are; none where they cannot be watched
    is_ours: bool = False
    is_plain: bool = False  # one token per forward
    drafting_model: Any = None  # a transformers model that drafts
    note: str = ""
    runtime: Callable[[], str] = lambda: "eager"  # what it ran under in the end: a runtime that fails falls back


def make_ways(material: Material) -> list[Way]:
    """All that the configuration asks for, in its order: peers first."""
    config = material.config
    ways = [make_peer(name, material) for name in config.against]
    for runtime, target in material.targets().items():
        ways += [make_ours(name, runtime, target, material) for name in config.ours]
    return ways


def make_ours(name: str, runtime: str, target: CausalLM, material: Material) -> Way:
    drafter = material.drafter(name)
    drafter.attach(target)  # its model, if it has one, runs as the target does

    def run(index: int, prompt: list[int]) -> Answer:
        made = decode(
            target,
            drafter,
            material.verifier,
            [prompt],
            sampler=material.sampler,
            limits=material.limits,
            sequence_ids=[index],
            allow_lossy=material.config.allow_lossy,
        )
        return Answer(made.new_tokens(), made.stats.num_steps, made.stats)

    helper = next(iter(drafter.models.values()), None)
    sites = [*forwards_of(target, "target"), *(forwards_of(helper, "drafter") if helper is not None else ())]
    shown = name if runtime == "eager" else f"{name}, {runtime}"
    drafting = None if helper is None else helper.model
    return Way(
        shown,
        run,
        sites,
        is_ours=True,
        is_plain=name == "none",
        drafting_model=drafting,
        note=note(name, material),
        runtime=lambda: target.runtime_kind,
    )


def note(name: str, material: Material) -> str:
    """What must be said beside a way's figures."""
    if name not in ("oracle", PAID):
        return ""
    paid = "an assistant's costs" if name == PAID else "no drafting cost"
    return f"acceptance set to {material.config.drafters.oracle.acceptance:g}, {paid}"


def forwards_of(model: CausalLM, role: str) -> Iterator[Site]:
    """Where a wrapped model runs its forwards. Under a runtime of fixed shapes its own method must stay untouched, or it would be compiled again."""
    if model.runtime is None:
        yield Site(model.model, "forward", role)
    else:
        yield Site(model, "extend", role)
        yield Site(model.runtime, "run", role)


def make_peer(name: str, material: Material) -> Way:
    model, config = material.model, material.config
    sites = [Site(model, "forward", "target")]
    if name == "bare":
        peer: Peer = BareLoop(model)
    elif name == "generate":
        peer = Generate(model)
    elif name == "assisted":
        peer = Assisted(model, assistant=material.assistant, num_tokens=config.drafters.draft_model.num_tokens)
        sites.append(Site(material.assistant, "forward", "drafter"))
    elif name == "prompt_lookup":
        settings = config.drafters.prompt_lookup
        peer = PromptLookup(model, num_tokens=settings.num_tokens, max_ngram=settings.max_ngram)
    else:
        peer = StaticGenerate(model, capacity=max(map(len, material.prompts)) + config.max_new_tokens)
        prompts = [Site(model, "_prefill", "target")] if hasattr(model, "_prefill") else []  # its own forward must stay untouched
        sites = [*prompts, Site(peer, "call_compiled", "target")]

    def run(index: int, prompt: list[int]) -> Answer:
        made = peer.generate([prompt], sampler=material.sampler, limits=material.limits)
        return Answer(made.new_tokens(), made.target_forwards[0] - 1)

    assisting = material.assistant if name == "assisted" else None
    return Way(peer.name, run, sites, is_plain=name in PLAIN_PEERS, drafting_model=assisting)
