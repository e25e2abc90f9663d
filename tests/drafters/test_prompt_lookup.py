"""Prompt lookup copies what a brute-force search over the whole text would copy, at a cost that does not grow with the text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drafters.prompt_lookup import NgramIndex, PromptLookup
from tests.drafters.bench import check_greedy_identity, looping_target, new_tokens, plain_greedy, run, state_of

TEXT = st.lists(st.integers(0, 2), min_size=1, max_size=40)


def draft_of(drafter, row, room=100):
    state = state_of([row], room)
    drafter.reset(state)
    return drafter.propose(state, None).tokens[0, 1:].tolist()


def searched(row, max_ngram, min_ngram, num_tokens):
    """The draft by definition: longest suffix first, latest earlier occurrence, copied token by token onto the text itself."""
    for length in range(min(max_ngram, len(row) - 1), min_ngram - 1, -1):
        for end in range(len(row) - 1, length - 1, -1):
            if row[end - length : end] == row[-length:]:
                text = list(row)
                for source in range(end, end + num_tokens):
                    text.append(text[source])
                return text[len(row) :]
    return []


@pytest.mark.parametrize(
    ("row", "max_ngram", "num_tokens", "expected"),
    [
        ([1, 2, 3, 4, 1, 2], 2, 3, [3, 4, 1]),
        ([1, 2, 3, 4, 1, 2], 2, 6, [3, 4, 1, 2, 3, 4]),  # the copy runs over the end of the text and goes on with itself
        ([5, 5, 5, 5], 2, 4, [5, 5, 5, 5]),
        ([1, 2, 8, 1, 2, 9, 1, 2], 2, 1, [9]),  # the most recent of two matches
        ([1, 2, 8, 3, 2, 9, 1, 2], 2, 1, [8]),  # a longer match beats a more recent one
        ([1, 2, 3, 4], 3, 5, []),
        ([1], 3, 5, []),
    ],
)
def test_anchors(row, max_ngram, num_tokens, expected):
    assert draft_of(PromptLookup(max_ngram, num_tokens=num_tokens), row) == expected


@settings(deadline=None)
@given(TEXT, st.integers(1, 5), st.integers(1, 5), st.integers(1, 12))
def test_equals_a_search_through_the_whole_text(row, one, other, num_tokens):
    least, most = sorted((one, other))
    assert draft_of(PromptLookup(most, least, num_tokens=num_tokens), row) == searched(row, most, least, num_tokens)


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=5), TEXT)
def test_an_index_that_grew_equals_one_built_at_once(pieces, prompt):
    row, grown = list(prompt), NgramIndex(3, 1)
    grown.extend(row)
    for piece in pieces:
        row += piece
        grown.extend(row)
    rebuilt = NgramIndex(3, 1)
    rebuilt.extend(row)
    assert (grown.ends, grown.indexed) == (rebuilt.ends, rebuilt.indexed)


class CountingRow(list):
    """Counts the tokens that are read from it."""

    read = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        self.read += len(found) if isinstance(key, slice) else 1
        return found


@pytest.mark.parametrize("length", [50, 5000])
def test_a_step_reads_the_same_few_tokens_however_long_the_text_is(length):
    state = state_of([[token % 7 for token in range(length)]])
    drafter = PromptLookup(max_ngram=3, num_tokens=10)
    drafter.reset(state)
    drafter.propose(state, None)
    row = state.rows[0] = CountingRow([*state.rows[0], length % 7])
    assert drafter.propose(state, None).num_slots == 11
    assert row.read <= 6 + 6 + 10 + 1  # n-grams indexed, n-grams looked up, tokens copied, the root


def test_a_draft_fits_the_room_and_finished_rows_get_none():
    state = state_of([[1, 1, 1], [1, 1, 1], [1, 2, 1, 2]], room=4)
    state.done[1] = True
    drafter = PromptLookup()
    drafter.reset(state)
    draft = drafter.propose(state, None)
    assert draft.sizes.tolist() == [4, 1, 4]
    assert draft.tokens.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [2, 1, 2, 1]]
    assert draft.is_chain
    assert draft_of(drafter, [1, 1, 1], room=1) == []


def test_text_of_an_earlier_batch_is_forgotten():
    drafter = PromptLookup()
    draft_of(drafter, [1, 2, 3, 4, 1])
    assert draft_of(drafter, [3]) == []


def test_greedy_text_is_unchanged():
    check_greedy_identity(PromptLookup)


def test_a_loop_is_copied_whole():
    target = looping_target()
    generation = run(target, PromptLookup(), new=100)
    assert new_tokens(generation) == plain_greedy(target, new=100)
    assert generation.stats.tokens_per_step > 2


@pytest.mark.parametrize("wrong", [{"max_ngram": 2, "min_ngram": 3}, {"min_ngram": 0}, {"num_tokens": 0}])
def test_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        PromptLookup(**wrong)
