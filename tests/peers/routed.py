"""A pytest plugin for transformers' own tests: assisted decoding and prompt lookup are decoded by our loop.

`python -m pytest -p tests.peers.routed ...`. Every call of `generate` with `assistant_model` or `prompt_lookup_num_tokens` gets a
`custom_generate=speculative()`, so their tests compare our tokens and scores with their own greedy ones. Attentions and hidden states, which we
refuse, are not asked for, and not looked for in what we return.
"""

import functools
import os
from collections import Counter
from typing import Any

import pytest
from transformers import GenerationMixin

from spec import speculative
from spec.generate import SpeculativeOutput

CALLS: Counter[str] = Counter()
NOT_KEPT = ("output_attentions", "output_hidden_states")
CHECK = "_check_generate_outputs"


def routed(plain: Any) -> Any:
    """`generate` as our loop serves it, where it would have been assisted."""

    @functools.wraps(plain)
    def generate(self: Any, *args: Any, **options: Any) -> Any:
        asked = options.get("assistant_model") is not None or options.get("prompt_lookup_num_tokens") is not None
        if not asked or options.get("custom_generate") is not None:
            return plain(self, *args, **options)
        CALLS[type(self).__name__] += 1
        kept = {name: value for name, value in options.items() if name not in NOT_KEPT}
        return plain(self, *args, **kept, custom_generate=speculative())

    return generate


def without_states(check: Any) -> Any:
    """Their check of an output, which wants attentions and hidden states, for outputs that are not ours."""

    @functools.wraps(check)
    def checked(self: Any, output: Any, *args: Any, **options: Any) -> Any:
        return None if isinstance(output, SpeculativeOutput) else check(self, output, *args, **options)

    return checked


def pytest_configure(config: pytest.Config) -> None:
    GenerationMixin.generate = routed(GenerationMixin.generate)  # pyright: ignore[reportAttributeAccessIssue]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Their classes of tests share one mixin; which of them are there depends on the version."""
    kinds = {kind for item in session.items if (own := getattr(item, "cls", None)) for kind in own.__mro__ if CHECK in vars(kind)}
    for kind in kinds:
        setattr(kind, CHECK, without_states(vars(kind)[CHECK]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How often our loop was called: a suite that never calls it proves nothing."""
    line = f"decoded by our loop: {sum(CALLS.values())} calls of {len(CALLS)} classes"
    terminalreporter.write_line(line)
    if file := os.environ.get("ROUTED_CALLS"):
        with open(file, "a", encoding="utf-8") as found:
            found.writelines(f"{name}\t{count}\n" for name, count in CALLS.items())
