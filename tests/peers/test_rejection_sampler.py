"""What vLLM asks of its rejection sampler, asked of every exact verifier of chains, in our words: logits in, emitted tokens out.

Greedy matches and mismatches, seeds that belong to rows, the target's distribution, top-k and top-p, processors that know the drafted prefix, and
vocabularies that fill no block of a kernel. `NOT_SERVED` says what vLLM's sampler has and ours has not.
"""

import pytest
import torch
from transformers import LogitsProcessorList, NoBadWordsLogitsProcessor

from spec import Draft, Noise, Sampler
from spec.generate.door import speculative
from spec.named import verifier_named

VERIFIERS = ("recursive", "rejection", "block", "traversal", "sample_match", "coupled")
SHARP = 100.0
NOT_SERVED = {
    "frequency and presence penalties": (
        lambda: Sampler(frequency_penalty=1.0),
        TypeError,
        "transformers has none; give a processor of your own",
    ),
    "temperatures that differ by row": (lambda: Sampler(temperature=[0.0, 1.0]), ValueError, "a decode has one temperature"),
    "FLy": (lambda: speculative(verifier="fly"), ValueError, "a lossy rule that keeps a mismatch if what follows it matches"),
    "synthetic acceptance": (lambda: speculative(verifier="synthetic"), ValueError, "drafter=oracle sets the acceptance and stays exact"),
}


def sharp(wanted: list[list[int]], vocabulary: int = 100, second: int | None = None) -> torch.Tensor:
    """Logits [B, N, V] whose best token after slot i is wanted[b][i], and whose second best is `second`; shorter rows are filled up."""
    width = max(map(len, wanted))
    logits = torch.full((len(wanted), width, vocabulary), -SHARP)
    for row, tokens in enumerate(wanted):
        logits[row].scatter_(1, torch.tensor([*tokens, *[0] * (width - len(tokens))])[:, None], SHARP)
    if second is not None:
        logits[..., second] = SHARP - 1
    return logits


def emitted(name: str, draft: Draft, logits: torch.Tensor, sampler: Sampler, ids: list[int] | None = None) -> list[list[int]]:
    """The tokens that each row emits."""
    rows = len(draft.tokens)
    noise = Noise(sampler.seed).at(torch.tensor(ids or list(range(rows))), torch.zeros(rows, dtype=torch.int64))
    p = sampler.distribution(logits, draft.contexts(lambda row: [9, int(draft.tokens[row, 0])]))
    return [[token for token in row if token >= 0] for row in verifier_named(name)(p, draft, noise).emitted(draft).tolist()]


def drawn(rows: int, length: int, q: torch.Tensor, seed: int = 0) -> Draft:
    """Chains of tokens drawn from q [V], which is handed over."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.multinomial(q.expand(rows, -1), length, replacement=True, generator=generator)
    rows_of_q = q.expand(rows, length + 1, -1).contiguous()
    return Draft.chain(torch.cat([torch.full((rows, 1), 9), tokens], 1), q=rows_of_q)


@pytest.mark.parametrize("name", VERIFIERS)
@pytest.mark.parametrize(
    ("drafted", "wanted", "expected"),
    [
        ([[1, 2, 3]], [[1, 2, 3, 4]], [[1, 2, 3, 4]]),  # all accepted, and the bonus
        ([[1, 2, 3]], [[1, 5, 3, 4]], [[1, 5]]),
        ([[1]], [[1, 2]], [[1, 2]]),
        ([[1]], [[2, 3]], [[2]]),
        ([[]], [[5]], [[5]]),
        ([[1, 2], [3]], [[1, 2, 5], [3, 4]], [[1, 2, 5], [3, 4]]),  # rows of different lengths
        ([[1, 2, 3], [4, 5, 6]], [[1, 2, 7, 6], [4, 8, 6, 9]], [[1, 2, 7], [4, 8]]),
        ([[1, 2], [3, 4]], [[1, 5, 6], [3, 4, 7]], [[1, 5], [3, 4, 7]]),
        ([[1, 1, 1], [], [1, 1, 1]], [[1, 1, 1, 1], [7], [1, 1, 2, 1]], [[1, 1, 1, 1], [7], [1, 1, 2]]),
    ],
)
def test_greedy(name, drafted, wanted, expected):
    draft = Draft.of_chains([9] * len(drafted), drafted)
    assert emitted(name, draft, sharp(wanted), Sampler(temperature=0)) == expected


@pytest.mark.parametrize("name", VERIFIERS)
@pytest.mark.parametrize("length", [1, 3, 5])
@pytest.mark.parametrize("rows", [1, 4, 8])
def test_a_row_follows_its_own_seed(name, length, rows):
    """The same in any batch, and another one under another seed or another sequence id."""
    generator = torch.Generator().manual_seed(5)
    q = torch.rand(1000, generator=generator).softmax(-1)
    draft, logits = drawn(rows, length, q), torch.rand(rows, length + 1, 1000, generator=generator)
    ids = [40 + 3 * row for row in range(rows)]
    together = emitted(name, draft, logits, Sampler(seed=1), ids)
    assert together == emitted(name, draft, logits, Sampler(seed=1), ids)
    for row in range(rows):
        one = Draft.chain(draft.tokens[row : row + 1], q=None if draft.q is None else draft.q[row : row + 1])
        assert emitted(name, one, logits[row : row + 1], Sampler(seed=1), [ids[row]]) == [together[row]]
    assert [emitted(name, draft, logits, Sampler(seed=seed), ids) for seed in (2, 3)] != [together, together]


@pytest.mark.parametrize("name", VERIFIERS)
def test_tokens_follow_the_target_and_not_the_draft(name):
    """The distance from the target falls with the number of samples, and that from the draft does not."""
    generator = torch.Generator().manual_seed(2)
    q, logits = (torch.rand(10, generator=generator) * 3).softmax(-1), torch.rand(10, generator=generator) * 3
    far = []
    for rows in (100, 20_000):
        found = emitted(name, drawn(rows, 2, q, seed=rows), logits.expand(rows, 3, -1), Sampler(seed=4))
        first = torch.tensor([tokens[0] for tokens in found]).bincount(minlength=10) / rows
        second = torch.tensor([tokens[1] for tokens in found if len(tokens) > 1]).bincount(minlength=10).float()
        far.append([float((shares - logits.softmax(-1)).abs().sum() / 2) for shares in (first, second / second.sum())])
    assert far[1][0] < 0.012 < far[0][0]
    assert far[1][1] < 2 / float(second.sum()) ** 0.5
    assert float((first - q).abs().sum() / 2) > 0.1


@pytest.mark.parametrize("name", VERIFIERS)
@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_k": 5}, {"top_k": 99}, {"top_p": 0.5}, {"top_p": 0.9}, {"top_p": 0.99}], ids=str)
def test_nothing_outside_top_k_or_top_p(name, settings):
    """However likely the drafter found it."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(100, 4, 100, generator=generator)
    allowed = Sampler(**settings).distribution(logits) > 0
    found = emitted(name, drawn(100, 3, torch.full((100,), 0.01)), logits, Sampler(**settings))
    assert all(allowed[row, place, token] for row, tokens in enumerate(found) for place, token in enumerate(tokens))


@pytest.mark.parametrize("name", VERIFIERS)
def test_processors_see_the_drafted_prefix(name):
    draft = Draft.of_chains([9] * 3, [[1, 1, 1], [], [1, 2, 1]])
    logits = sharp([[1, 1, 1, 1], [7], [1, 2, 1, 1]], second=15)
    penalty = Sampler(temperature=0, repetition_penalty=1.5)  # a token that was drafted before loses to the second best
    assert emitted(name, draft, logits, penalty) == [[1, 15], [7], [1, 2, 15]]
    words = Sampler(temperature=0, processors=LogitsProcessorList([NoBadWordsLogitsProcessor([[1, 2]])]))
    assert emitted(name, draft, logits, words) == [[1, 1, 1, 1], [7], [1, 15]]


@pytest.mark.parametrize("name", VERIFIERS)
@pytest.mark.parametrize("with_q", [True, False])
@pytest.mark.parametrize("vocabulary", [100, 8192, 8193, 10_000, 151_936])
def test_corrections_stay_inside_the_vocabulary(name, with_q, vocabulary):
    """Where the tail of the vocabulary has no mass, and where the rejected token had all there was in a block."""
    tail = vocabulary // 8192 * 8192 or 1
    logits = torch.rand(2, 4, vocabulary, generator=torch.Generator().manual_seed(1))
    logits[..., tail:] = -torch.inf
    q = torch.rand(vocabulary, generator=torch.Generator().manual_seed(6)).softmax(-1)
    draft = drawn(2, 3, q)
    found = emitted(name, draft if with_q else Draft.chain(draft.tokens), logits, Sampler(seed=42))
    assert all(0 <= token < tail for tokens in found for token in tokens)


@pytest.mark.parametrize("what", NOT_SERVED)
def test_what_is_not_served(what):
    attempt, error, reason = NOT_SERVED[what]
    with pytest.raises(error):
        attempt()
    assert reason
