"""Warnings that point at the caller's own line."""

import sys
import warnings
from pathlib import Path

import torch
import transformers

BETWEEN = tuple(str(Path(place).parent) for place in (__file__, transformers.__file__, torch.__file__))  # the caller, and what warns


def warn(message: str) -> None:
    """A UserWarning at the first line outside of this folder, transformers and torch, however many of their frames lie between."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(BETWEEN):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
