"""Kernels to test: those that this processor can run, and the operator on top of each."""

import platform
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from spec.native.build import ARM, Kernel, NoKernel, instructions, kernel, load
from spec.store import product

KINDS = ("NEON",) if platform.machine() in ARM else ("AVX512", "AVX2")


@cache
def kernel_of(kind: str) -> Kernel | None:
    """None where this processor or a compiler lacks."""
    try:
        best = instructions()
        if kind == best:
            return kernel()
        return load(kind, Path(mkdtemp())) if (best, kind) == ("AVX512", "AVX2") else None
    except NoKernel:
        return None


def use(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator runs by this kernel; "none": by widening. Skips where there is none here."""
    found = None if kind == "none" else kernel_of(kind)
    if found is None and kind != "none":
        pytest.skip(f"no kernel of {kind} here")
    monkeypatch.setattr(product, "_call", lambda: None if found is None else found.call)
