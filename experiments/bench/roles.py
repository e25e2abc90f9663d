"""The roles that are timed against each other: our loop with every drafter under every runtime, and peers."""

from experiments.bench.material import PAID, Material
from experiments.parts.peers.bare import BareLoop
from experiments.parts.peers.engines import wanted
from experiments.parts.peers.static_generate import StaticGenerate
from experiments.parts.peers.transformers_generate import Assisted, Generate, PromptLookup
from experiments.parts.roles import Loop, Role
from spec import CausalLM
from spec.store import as_float32


def make_roles(material: Material) -> list[Role]:
    """All that the configuration asks for, in its order: peers first."""
    config = material.config
    peers = [make_peer(name, material) for name in config.against]
    return [*peers, *(make_loop(name, runtime, target, material) for runtime, target in material.targets().items() for name in config.ours)]


def make_loop(name: str, runtime: str, target: CausalLM, material: Material) -> Loop:
    drafter = material.drafter(name)
    drafter.attach(target)  # its model, if it has one, runs as the target does
    shown = way_of(name, runtime)
    return Loop(target, drafter, material.verifier, shown, allow_lossy=material.config.allow_lossy, note=note(name, material))


def way_of(name: str, runtime: str) -> str:
    """What one of our ways is called under a runtime."""
    return name if runtime == "auto" else f"{name}, {runtime}"


def note(name: str, material: Material) -> str:
    """What must be said beside the figures of our loop with this drafter."""
    if name not in ("oracle", PAID):
        return ""
    paid = "an assistant's costs" if name == PAID else "no drafting cost"
    return f"acceptance set to {material.config.drafters.oracle.acceptance:g}, {paid}"


def make_peer(name: str, material: Material) -> Role:
    if name in wanted.ENGINES:
        return make_engine(name, material)
    model, settings = as_float32(material.model), material.config.drafters  # as its users have it
    if name == "bare":
        return BareLoop(model)
    if name == "generate":
        return Generate(model)
    if name == "assisted":
        return Assisted(model, assistant=as_float32(material.assistant), num_tokens=settings.draft_model.num_tokens)
    if name == "prompt_lookup":
        return PromptLookup(model, num_tokens=settings.prompt_lookup.num_tokens, max_ngram=settings.prompt_lookup.max_ngram)
    return StaticGenerate(model, capacity=max(map(len, material.prompts)) + material.limits.max_new_tokens)


def make_engine(name: str, material: Material) -> Role:
    """Another engine, set up as our drafter of the same kind. Raises ValueError where it cannot serve the models."""
    ours = material.config.drafters
    if name == "openvino_draft":
        chosen = {"drafter": material.assistant, "num_tokens": ours.draft_model.num_tokens}
    elif name == "openvino_lookup":
        chosen = {"num_tokens": ours.prompt_lookup.num_tokens, "max_ngram": ours.prompt_lookup.max_ngram}
    else:
        chosen = {}
    try:
        return wanted.make(name, material.target, **chosen)
    except (ImportError, ValueError) as error:
        raise ValueError(f"against {name}: {str(error).strip().splitlines()[0]}") from error
