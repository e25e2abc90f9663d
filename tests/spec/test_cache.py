"""Ragged rows and trees against the same tokens run alone: what the cache holds, what the mask shows, where the positions are."""

import pytest
import torch

import spec.masks as masks
from spec.cache import KVCache
from spec.model import CausalLM
from spec.types import Draft, Scratch
from tests.tiny import FAMILIES, VOCABULARY, build

EXACT, WRONG = 1e-5, 1e-3  # transformers computes norms, rotations and the eager softmax in float32, also in a float64 model
PROMPTS = [[7, 3, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9], [11, 30, 11, 30, 5, 5]]
#     0        row 0: two branches, the second of which forks; row 1: a chain; row 2: five children of the root
PARENTS = [[-1, 0, 0, 1, 2, 2, 4], [-1, 0, 1, 2, 3, 4, 5], [-1, 0, 0, 0, 0, 0, 0]]
SIZES = [7, 7, 6]
PATHS = [[0, 2, 4, 6], [0, 1, -1, -1], [0, 4, -1, -1]]
COUNTS = [4, 2, 2]


def alone(model, tokens):
    """Logits [T, V] of one sequence in one plain forward."""
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]


def tree_draft(rows, seed):
    tokens = torch.randint(VOCABULARY, (len(rows), len(PARENTS[0])), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = torch.tensor([row[-1] for row in rows])
    return Draft(tokens, torch.tensor(PARENTS), torch.tensor(SIZES))


def tree_error(model, rows, draft, scores):
    """Largest difference between a slot's logits and those of its own path run alone."""
    return max(
        (scores.logits[b, slot] - alone(model, [*rows[b], *draft.path(b, slot)])[-1]).abs().max().item()
        for b in range(len(rows))
        for slot in range(SIZES[b])
    )


def two_trees(model):
    """Scores a tree behind ragged prompts, keeps a branch of it, scores a second tree; returns both errors, the cache and what it should hold."""
    target = CausalLM(model)
    state = target.prefill(PROMPTS)
    rows, cache = [list(prompt) for prompt in PROMPTS], state.cache
    errors = []
    for seed in (1, 2):
        draft = tree_draft(rows, seed)
        errors.append(tree_error(model, rows, draft, target.score(draft, cache)))
        cache.keep(COUNTS, torch.tensor(PATHS))
        for b, path in enumerate(PATHS):
            rows[b] += [*draft.path(b, max(path)), (seed + b) % VOCABULARY]
    return errors, cache, [row[:-1] for row in rows]


def cache_error(model, cache, rows):
    """Largest difference between the slots in use and a cache that was filled with the same tokens in one go."""
    worst = 0.0
    for b, row in enumerate(rows):
        assert cache.lengths[b] == len(row)
        fresh = CausalLM(model).prefill([[*row, 0]]).cache
        for layer, rebuilt in zip(cache.layers, fresh.layers, strict=True):
            for slots, expected in ((layer.keys, rebuilt.keys), (layer.values, rebuilt.values)):
                worst = max(worst, (slots[b, :, : len(row)] - expected[0, :, : len(row)]).abs().max().item())
    return worst


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return build(request.param)


@pytest.fixture(scope="module")
def llama():
    return build("llama")


@torch.inference_mode()
def test_tree_logits_equal_each_path_alone_and_the_cache_equals_a_rebuilt_one(model):
    errors, cache, rows = two_trees(model)
    assert max(errors) < EXACT
    assert cache_error(model, cache, rows) < EXACT


@torch.inference_mode()
def test_a_chain_is_kept_without_moving_anything(llama):
    target, rows = CausalLM(llama), [[3, 1, 4], [3, 1, 4]]
    cache = target.prefill(rows).cache
    assert cache.is_uniform
    chain = torch.tensor([[4, 15, 9, 26], [4, 5, 35, 8]])
    target.score(Draft.chain(chain), cache)
    cache.keep([3, 2])
    kept = [[3, 1, 4, 15, 9], [3, 1, 4, 5]]
    assert cache_error(llama, cache, kept) < EXACT
    scores = target.score(Draft.chain(torch.tensor([[8, 2], [6, 7]])), cache)
    for b, tail in enumerate(([8, 2], [6, 7])):
        assert (scores.logits[b] - alone(llama, kept[b] + tail)[-2:]).abs().max() < EXACT


@torch.inference_mode()
def test_a_row_that_keeps_nothing_stays_as_it_is_while_the_others_outgrow_the_buffers(llama):
    target, rows = CausalLM(llama), [[1, 2, 3, 4], [9, 8]]
    cache = target.new_cache(2, 4)
    target.extend(cache, [row[:-1] for row in rows])
    for step in range(12):
        chain = torch.tensor([[rows[0][-1], step], [rows[1][-1], 0]])
        scores = target.score(Draft.chain(chain), cache)
        cache.keep([2, 0])
        rows[0] += [step, 39 - step]
        assert (scores.logits[1] - alone(llama, [*rows[1], 0])[-2:]).abs().max() < EXACT
    assert cache.lengths == [27, 1]
    assert cache.capacity >= 28
    assert cache_error(llama, cache, [rows[0][:-1], rows[1][:-1]]) < EXACT


@torch.inference_mode()
def test_scratch_sees_what_it_names_and_nobody_sees_scratch(model):
    target = CausalLM(model)
    state = target.prefill(PROMPTS)
    draft = tree_draft(PROMPTS, 3)
    plain = target.score(draft, state.cache)
    num_rows, num_slots = draft.tokens.shape
    visible = torch.zeros(num_rows, 3, num_slots + 3, dtype=torch.bool)
    visible[:, :, 0] = True  # the root, then a chain of the three scratch slots at positions 1, 2, 3
    visible[:, :, num_slots:] = torch.ones(3, 3).tril().bool()
    scratch = Scratch(torch.tensor([[21, 22, 23]] * num_rows), torch.tensor([[1, 2, 3]] * num_rows), visible)
    scores = target.score(Draft(draft.tokens, draft.parents, draft.sizes, scratch=scratch), state.cache)
    assert (scores.logits - plain.logits).abs().max() < EXACT
    for b, row in enumerate(PROMPTS):
        assert (scores.scratch[b] - alone(model, [*row, 21, 22, 23])[-3:]).abs().max() < EXACT


def positions_by_slot(self):
    return torch.arange(self.num_slots).expand_as(self.tokens)


def sees_every_earlier_slot(parents):
    return torch.ones(*parents.shape, parents.shape[1]).tril().bool()


def sees_all_but_itself(parents):
    return sees_every_earlier_slot(parents) & ~torch.eye(parents.shape[1], dtype=torch.bool)


def biased(visible):
    """A mask mutant that leaves the positions as they are."""

    def bias(draft, dtype):
        shown = visible(draft.parents)
        return torch.full(shown.shape, torch.finfo(dtype).min, dtype=dtype).masked_fill(shown, 0)[:, None]

    return bias


def writes_behind_the_longest_row(self, num_slots):
    self.capacity = max(self.capacity, self.longest + num_slots)
    self.columns = (self.starts() * 0 + self.longest)[:, None] + torch.arange(num_slots)


def crops_instead_of_gathering(self, counts, path=None):
    self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]


def keeps_one_slot_too_many(self, counts, path=None, keep=KVCache.keep):
    keep(self, [count + 1 for count in counts], path)


def gathers_relative_to_the_start_of_the_buffer(self, counts, path=None, keep=KVCache.keep):
    before = list(self.lengths)
    self.lengths = [0] * len(before)
    keep(self, counts, path)
    self.lengths = [length + count for length, count in zip(before, counts, strict=True)]


def shows_every_row_the_longest_prefix(self, draft, cache, num_scored, mask=CausalLM._additive_mask):
    right = mask(self, draft, cache, num_scored)
    right[:, :, :, : cache.longest] = 0.0
    return right


MUTANTS = {
    "position: slot index": (Draft, "depths", positions_by_slot),
    "position: all at the longest row": (KVCache, "starts", lambda self: torch.full((len(self.lengths),), self.longest)),
    "mask: causal": (masks, "draft_bias", biased(sees_every_earlier_slot)),
    "mask: not itself": (masks, "draft_bias", biased(sees_all_but_itself)),
    "mask: longest prefix": (CausalLM, "_additive_mask", shows_every_row_the_longest_prefix),
    "write: behind the longest row": (KVCache, "reserve", writes_behind_the_longest_row),
    "gather: crop": (KVCache, "keep", crops_instead_of_gathering),
    "gather: from the start": (KVCache, "keep", gathers_relative_to_the_start_of_the_buffer),
    "gather: one too many": (KVCache, "keep", keeps_one_slot_too_many),
}


@pytest.mark.parametrize("mutant", MUTANTS)
@torch.inference_mode()
def test_mutants_are_caught(llama, mutant, monkeypatch):
    monkeypatch.setattr(*MUTANTS[mutant])
    errors, _, _ = two_trees(llama)
    assert max(errors) > WRONG


@pytest.mark.parametrize("others", [(), (1,), (0, 2)], ids=["alike", "one of another shape", "two of another shape"])
def test_a_tree_is_committed_in_every_layer_and_after_growth(others):
    """Layers of the first one's shape lie in stacks, the others by themselves; rows come and go, and the buffers grow."""
    torch.manual_seed(0)
    cache = KVCache(3, 2, 6, torch.device("cpu"))
    new = [torch.randn(2, 3 if layer in others else 2, 5, 4) for layer in range(3)]
    cache.reserve(5)
    for layer, states in enumerate(new):
        cache.update(states, states + 1, layer)
    cache.keep([2, 3], torch.tensor([[0, 4, -1], [0, 2, 3]]))
    cache.grow(40)
    assert {len(stack) for stack in cache.stacks} == {3}
    assert [layer.is_stacked for layer in cache.slot_layers] == [(layer in others) == (0 in others) for layer in range(3)]
    for layer, states in zip(cache.slot_layers, new, strict=True):
        assert layer.keys.shape[2] == cache.capacity
        assert torch.equal(layer.keys[0, :, :2], states[0][:, [0, 4]])
        assert torch.equal(layer.values[1, :, :3], states[1][:, [0, 2, 3]] + 1)
    cache.rearrange([1])
    cache.reserve(2)
    for layer, states in enumerate(new):
        cache.update(states[1:, :, :2], states[1:, :, :2], layer)
    cache.keep([1], torch.tensor([[1]]))
    for layer, states in zip(cache.slot_layers, new, strict=True):
        assert torch.equal(layer.keys[0, :, :4], states[1][:, [0, 2, 3, 1]])
