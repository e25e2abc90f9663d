"""The whole loop, enumerated, on tables that attend within a window: at any temperature what is emitted has the target's distribution; and the same
with a wrong mask, convicted."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers.masking_utils import create_sliding_window_causal_mask

import experiments.lossless.enumeration.loop as loop
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.enumeration.loop import PROMPT, TableLoop
from experiments.lossless.enumeration.table_model import TableLM
from experiments.lossless.enumeration.tables import SMALL
from spec import masks
from spec.interfaces import Drafter
from spec.sampling import Sampler
from spec.windows import Window
from verifiers.block import Block
from verifiers.recursive import Recursive
from verifiers.traversal import Traversal

LENGTH, WINDOW, EXACT = 3, 2, 1e-12
DRAFTERS: dict[str, Callable[[TableLM], Drafter]] = {
    "none": lambda model: NoDraft(),
    "prompt lookup": lambda model: PromptLookup(num_tokens=2),
    "lookahead": lambda model: Lookahead(window=2, ngram=2, guesses=1),
    "chain": lambda model: DraftModel(model=model, num_tokens=2),
    "fixed tree": lambda model: DraftTree(model=model, widths=[2, 1]),
    "grown tree": lambda model: DraftTree(model=model, widths=None, num_nodes=3, num_rounds=2),
}


class Sliding(TableLM):
    """Sums up the last two tokens alone, the end of the prompt among them: what the third new token sees begins behind it."""

    def __init__(self, inner: TableLM):
        super().__init__(inner.weights, inner.config.vocab_size, inner.prompt_length - 1)
        self.window = self.config.sliding_window = WINDOW
        self.config._attn_implementation = "eager"

    def h_after(self, answer):
        return super().h_after((PROMPT[-1], *answer))

    def forward(self, input_ids: Tensor, position_ids=None, past_key_values=None, attention_mask=None, **kwargs):
        if attention_mask is None:
            embedded = input_ids[..., None].double()
            attention_mask = create_sliding_window_causal_mask(self.config, embedded, None, past_key_values, position_ids)
        return super().forward(input_ids, position_ids, past_key_values, attention_mask, **kwargs)


@pytest.fixture(autouse=True)
def sliding_tables(monkeypatch):
    made = loop.table_models
    monkeypatch.setattr(loop, "table_models", lambda instance: tuple(map(Sliding, made(instance))))


@pytest.mark.parametrize("name", DRAFTERS)
def test_the_emitted_distribution_is_the_targets(name):
    assert TableLoop(SMALL, LENGTH, sampler=Sampler(0.8), verifier=Recursive()).error(DRAFTERS[name]) < EXACT


@pytest.mark.parametrize(("name", "verifier"), [("chain", Block()), ("grown tree", Traversal())])
def test_by_other_verifiers(name, verifier):
    assert TableLoop(SMALL, LENGTH, verifier=verifier).error(DRAFTERS[name]) < EXACT


def test_a_window_off_by_one_is_convicted(monkeypatch):
    hides = Window.hides
    monkeypatch.setattr(Window, "hides", lambda self, own, other: hides(Window(self.size + 1), own, other))
    assert TableLoop(SMALL, LENGTH).error(DRAFTERS["chain"]) > 0.01


def test_distances_between_slots_are_convicted(monkeypatch):
    def columns(draft, cache, num_scored, width):
        return torch.arange(width)[None]

    def by_window(mask, windows, draft, cache, num_scored, queries=None):
        own = cache.starts()[:, None] + torch.arange(mask.shape[2])
        return [mask.masked_fill(window.hides(own, columns(draft, cache, 0, mask.shape[3]))[:, None], -1e300) for window in windows.windows]

    monkeypatch.setattr(masks, "by_window", by_window)
    assert TableLoop(SMALL, LENGTH).error(DRAFTERS["chain"]) < EXACT  # whose slots are in the order of their positions
    assert TableLoop(SMALL, LENGTH).error(DRAFTERS["fixed tree"]) > 0.001
