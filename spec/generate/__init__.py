"""The door for transformers users: `model.generate(**inputs, custom_generate=speculative(drafter, verifier))`."""

from spec.generate.call import generate
from spec.generate.door import Speculative, speculative
from spec.generate.outputs import SpeculativeOutput

__all__ = ["Speculative", "SpeculativeOutput", "generate", "speculative"]
