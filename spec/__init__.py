"""Speculative decoding for Hugging Face causal LMs: one loop, one draft shape, exact verifiers."""

from spec.decode import Generation, decode
from spec.generate import speculative
from spec.interfaces import Drafter, Traits, Verifier
from spec.model import CausalLM
from spec.noise import Noise
from spec.sampling import Sampler
from spec.state import DecodeState, Limits
from spec.stats import GenerationStats
from spec.types import Draft, Scores, Scratch, Verdict

__version__ = "0.1.0"

__all__ = [
    "CausalLM",
    "DecodeState",
    "Draft",
    "Drafter",
    "Generation",
    "GenerationStats",
    "Limits",
    "Noise",
    "Sampler",
    "Scores",
    "Scratch",
    "Traits",
    "Verdict",
    "Verifier",
    "__version__",
    "decode",
    "speculative",
]
