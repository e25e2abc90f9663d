"""The forward of Llama-shaped models by half of the operators, and the trial that a model must pass before it is used."""

from spec.lean.forward import Lean
from spec.lean.parts import NotLean
from spec.lean.trial import lean_if_fitting, lean_of

__all__ = ["Lean", "NotLean", "lean_if_fitting", "lean_of"]
