"""The functions of `parents` against naive versions that follow one slot at a time."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spec.tree import ancestor_mask, chain_parents, children, longest_path, merge_chains, path_to
from spec.types import Draft


@st.composite
def trees(draw):
    """parents [B, N] with parents[i] < i, and sizes [B]; padding hangs from the root."""
    num_rows, num_slots = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    sizes = draw(st.lists(st.integers(1, num_slots), min_size=num_rows, max_size=num_rows))
    rows = [[-1, *(draw(st.integers(0, i - 1)) if i < size else 0 for i in range(1, num_slots))] for size in sizes]
    return torch.tensor(rows), torch.tensor(sizes)


def drafted(parents):
    return Draft(torch.zeros_like(parents), parents, torch.full((len(parents),), parents.shape[1]))


def lineage(parents, slot):
    """The slot and its ancestors, root last."""
    found = [slot]
    while parents[found[-1]] >= 0:
        found.append(parents[found[-1]])
    return found


@settings(deadline=None)
@given(trees())
def test_depths_count_the_steps_to_the_root(tree):
    parents, _ = tree
    assert drafted(parents).depths().tolist() == [[len(lineage(row, slot)) - 1 for slot in range(len(row))] for row in parents.tolist()]


@settings(deadline=None)
@given(trees())
def test_the_mask_shows_a_slot_itself_and_its_ancestors(tree):
    parents, _ = tree
    expected = [[[j in lineage(row, i) for j in range(len(row))] for i in range(len(row))] for row in parents.tolist()]
    assert ancestor_mask(parents).tolist() == expected


@settings(deadline=None)
@given(trees(), st.booleans())
def test_children_stand_in_drawn_order_without_padding(tree, width_known):
    parents, sizes = tree
    pairs = list(zip(parents.tolist(), sizes.tolist(), strict=True))
    families = [[[i for i in range(1, size) if row[i] == u] for u in range(len(row))] for row, size in pairs]
    width = max(1, max(len(family) for row in families for family in row))
    table = children(parents, sizes, width if width_known else None)
    assert table.shape == (len(pairs), width, parents.shape[1])
    assert table.transpose(1, 2).tolist() == [[family + [-1] * (width - len(family)) for family in row] for row in families]


@settings(deadline=None)
@given(trees(), st.data())
def test_the_longest_path_of_hits_is_the_first_or_the_preferred_of_its_length(tree, data):
    parents, sizes = tree
    num_rows, num_slots = parents.shape
    hit = torch.tensor([[data.draw(st.booleans()) and slot < size for slot in range(num_slots)] for size in sizes.tolist()])
    preference = torch.tensor([[float(data.draw(st.integers(0, 2))) for _ in range(num_slots)] for _ in range(num_rows)])
    mask = ancestor_mask(parents)
    for given_preference in (None, preference):
        path, counts = longest_path(hit, mask, given_preference)
        for row in range(num_rows):
            lines = [lineage(parents[row].tolist(), slot)[::-1] for slot in range(num_slots)]
            reached = [line for line in lines if all(hit[row, slot] for slot in line[1:])]
            best = max(reached, key=lambda line: (len(line), 0.0 if given_preference is None else float(preference[row, line[-1]]), -line[-1]))
            assert path[row].tolist() == best + [-1] * (num_slots - len(best))
            assert counts[row] == len(best)
            assert [value[0].tolist() for value in path_to(torch.tensor([best[-1]]), mask[row : row + 1])] == [path[row].tolist(), len(best)]


def test_small_tree_by_hand():
    parents = torch.tensor([[-1, 0, 0, 1, 1, 2]])
    assert drafted(parents).depths().tolist() == [[0, 1, 1, 2, 2, 2]]
    assert children(parents, torch.tensor([6])).tolist() == [[[1, 3, 5, -1, -1, -1], [2, 4, -1, -1, -1, -1]]]
    assert children(parents, torch.tensor([4])).tolist() == [[[1, 3, -1, -1, -1, -1], [2, -1, -1, -1, -1, -1]]]
    assert ancestor_mask(parents)[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 0, 1, 0, 0, 1],
    ]


def test_a_chain_is_a_triangle():
    parents = chain_parents(2, 4)
    assert parents.tolist() == [[-1, 0, 1, 2]] * 2
    assert ancestor_mask(parents).int().tolist() == [torch.ones(4, 4).tril().int().tolist()] * 2


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=6))
def test_merged_chains_hold_every_prefix_once_in_order_of_appearance(chains):
    tokens, parents = merge_chains(chains)
    texts = [()]
    for token, parent in zip(tokens, parents, strict=True):
        texts.append((*texts[parent], token))
    prefixes = [tuple(chain[:end]) for chain in chains for end in range(1, len(chain) + 1)]
    assert texts[1:] == list(dict.fromkeys(prefixes))
    assert all(parent <= slot for slot, parent in enumerate(parents))
