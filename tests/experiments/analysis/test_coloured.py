"""Coloured answers: every token in its colour, every character in its place, nothing that a browser would take for markup."""

import html
import re
from typing import Any

import pytest
from transformers import AutoTokenizer

from experiments.analysis.coloured import MAX_STRUCK, coloured, rejected
from spec.model import resolve_name
from tests.experiments.conftest import tokenizer as bytes_tokenizer


@pytest.fixture(scope="module")
def words() -> Any:
    """Bytes as tokens."""
    return bytes_tokenizer()


def ids(words: Any, text: str) -> list[int]:
    return words(text)["input_ids"]


def step(accepted: int, proposed: list[int] | None = None, **changes: Any) -> dict[str, Any]:
    return {"emitted": accepted + 1, "accepted": accepted, "cut": False, **({} if proposed is None else {"proposed": proposed}), **changes}


def visible(text: str) -> str:
    """What a reader takes for the answer: without the struck tokens, without markup."""
    assert text.startswith('<pre class="coloured">\n')
    return html.unescape(re.sub("<[^>]*>", "", re.sub("<del>.*?</del>", "", text.removeprefix('<pre class="coloured">\n'))))


def test_accepted_tokens_are_marked_rejected_ones_struck_before_the_token_that_replaced_them(words: Any) -> None:
    found = coloured(ids(words, "abcd"), [step(2, ids(words, "abxy")), step(0, ids(words, "z"))], words)
    assert found == '<pre class="coloured">\n<mark>a</mark><mark>b</mark><del>xy</del>c<del>z</del>d</pre>'


def test_without_proposed_nothing_is_struck_and_without_steps_nothing_is_marked(words: Any) -> None:
    assert coloured(ids(words, "abc"), [step(2)], words) == '<pre class="coloured">\n<mark>a</mark><mark>b</mark>c</pre>'
    assert coloured(ids(words, "abc"), [], words) == '<pre class="coloured">\nabc</pre>'


def test_a_step_that_was_cut_rejected_nothing(words: Any) -> None:
    assert "del" not in coloured(ids(words, "ab"), [step(1, ids(words, "abcd"), cut=True)], words)


def test_kept_tokens_of_a_tree_are_found_among_its_branches() -> None:
    assert rejected([5, 7, 6, 8, 7], [7, 8]) == [5, 6, 7]
    assert rejected([1, 2], []) == [1, 2]
    assert rejected([], []) == []


def test_a_wide_tree_is_not_shown_whole(words: Any) -> None:
    found = coloured(ids(words, "a"), [step(0, ids(words, "x" * (MAX_STRUCK + 5)))], words)
    assert found == f'<pre class="coloured">\n<del>{"x" * MAX_STRUCK}</del><del>\u2026+5</del>a</pre>'


def test_markup_and_control_characters_are_harmless(words: Any) -> None:
    text = "\n<b>&\x00\x1b"
    found = coloured(ids(words, text), [step(len(text) - 1, ids(words, text[:-1] + "<i>\n"))], words)
    assert "<b>" not in found
    assert "<i>" not in found
    assert "<del>&lt;i&gt;\u23ce</del>" in found
    assert visible(found) == "\n<b>&\u2400\u241b"


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_characters_of_several_tokens_survive_any_boundary(words: Any, size: int) -> None:
    text = "né → 😀 fin"
    tokens = ids(words, text)
    parts = [tokens[at : at + size] for at in range(0, len(tokens), size)]
    steps = [step(len(part) - 1, [*part[:-1], 40, 41]) for part in parts]
    found = coloured(tokens, steps, words)
    assert visible(found) == text
    assert "\ufffd" not in found


def test_a_character_that_never_ends_is_shown_as_broken(words: Any) -> None:
    assert visible(coloured(ids(words, "é")[:1], [], words)) == "\ufffd"


def test_tokens_of_many_characters_keep_their_spaces_and_specials_are_shown() -> None:
    words = AutoTokenizer.from_pretrained(resolve_name("embedded/target"))
    text = "def f(x):\n    return x < 3\n"
    tokens = [*words(text)["input_ids"], words.eos_token_id]
    steps = [step(0) for _ in tokens]
    assert visible(coloured(tokens, steps, words)).endswith(text + words.eos_token)


def test_steps_of_another_answer_are_refused(words: Any) -> None:
    with pytest.raises(ValueError, match="the steps emit 2 tokens, the record holds 3"):
        coloured(ids(words, "abc"), [step(1)], words)
