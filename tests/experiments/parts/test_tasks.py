"""Tasks: chat templates, second turns and their history, what does not fit, and which prompts are decoded together."""

import logging
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.parts.data.prompts import Prompt
from experiments.parts.settings import Settings
from experiments.parts.tasks import TURN_STRIDE, Encoder, Task, make_batches, make_tasks, next_turn
from spec.interfaces import Traits
from tests.experiments.conftest import END
from tests.experiments.conftest import tokenizer as bytes_tokenizer

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
NO_BLANK = "{% for m in messages %}{% if not m['content'] %}{{ raise_exception('no content') }}{% endif %}{% endfor %}" + TEMPLATE
CHAT = Prompt("81", "writing", ("Write.", "Again.", "More."))


def tokenizer(template: str | None = None) -> Any:
    words = bytes_tokenizer()
    words.chat_template = template
    return words


def encoder(template: str | None = None, *, context: int = 1000, **changes: Any) -> Encoder:
    settings = Settings(**({"max_new_tokens": 10, "chat_template": template is not None} | changes))
    return Encoder(tokenizer(template), context, settings)


def tasks_of(prompts: list[Prompt], template: str | None = None, **changes: Any) -> list[Task]:
    return make_tasks(prompts, encoder(template, **changes))


def text(words: Encoder, task: Task | None) -> str:
    assert task is not None
    return words.tokenizer.decode(task.tokens)


def answer(words: Encoder, content: str) -> list[int]:
    return [*words.tokenizer(content)["input_ids"], words.tokenizer.eos_token_id]


def test_plain_turns_are_joined_as_documented() -> None:
    words = encoder()
    (first,) = tasks_of([CHAT])
    assert text(words, first) == "Write."
    second = next_turn(first, answer(words, " A poem."), words)
    assert text(words, second) == "Write. A poem.\n\nAgain."
    assert second is not None
    third = next_turn(second, answer(words, " Another."), words)
    assert text(words, third) == "Write. A poem.\n\nAgain. Another.\n\nMore."
    assert third is not None
    assert (first.id, second.id, third.id) == ("81", "81/2", "81/3")
    assert (second.turn, second.answers, second.prompt.category) == (2, (" A poem.",), "writing")
    assert next_turn(third, answer(words, "x"), words) is None


def test_a_chat_template_gets_the_history_as_messages() -> None:
    words = encoder(TEMPLATE, system_prompt="Be brief.")
    (first,) = tasks_of([CHAT], TEMPLATE, system_prompt="Be brief.")
    assert text(words, first) == "<system>Be brief.\n<user>Write.\n<assistant>"
    second = next_turn(first, answer(words, "A poem."), words)
    assert text(words, second) == "<system>Be brief.\n<user>Write.\n<assistant>A poem.\n<user>Again.\n<assistant>"


def test_without_a_system_prompt_there_is_no_system_message() -> None:
    assert text(encoder(NO_SYSTEM), tasks_of([CHAT], NO_SYSTEM)[0]) == "<user>Write.\n<assistant>"


def test_the_end_of_an_answer_is_no_part_of_the_history() -> None:
    words = encoder()
    with_end = next_turn(tasks_of([CHAT])[0], answer(words, "a"), words)
    assert with_end == next_turn(tasks_of([CHAT])[0], answer(words, "a")[:-1], words)
    assert END not in text(words, with_end)


def test_turns_have_noise_of_their_own() -> None:
    words = encoder()
    indices = []
    for task in tasks_of([CHAT, replace(CHAT, id="82")]):
        following: Task | None = task
        while following is not None:
            indices.append(following.index)
            following = next_turn(following, answer(words, "a"), words)
    assert len(set(indices)) == 6
    assert indices[:3] == [0, TURN_STRIDE, 2 * TURN_STRIDE]


@pytest.mark.parametrize(
    ("template", "options", "message"),
    [
        (None, {"chat_template": True}, "chat_template=true, but the target's tokenizer has no chat template"),
        (None, {"system_prompt": "Be brief."}, "system_prompt is given, but only a chat template has a place for it"),
        (NO_SYSTEM, {"system_prompt": "Be brief."}, r"does not take the messages \(system, user\): System role not supported"),
    ],
)
def test_a_template_that_is_not_there_or_does_not_fit_is_refused(template: str | None, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tasks_of([CHAT], template, **options)


def test_a_first_turn_that_does_not_fit_is_refused_or_left_out() -> None:
    prompts = [Prompt("a", "c", ("x" * 91,)), Prompt("b", "c", ("x" * 90,))]
    with pytest.raises(ValueError, match="prompt a has 91 tokens and max_new_tokens is 10"):
        tasks_of(prompts, context=100)
    assert [(task.id, task.index) for task in tasks_of(prompts, context=100, skip_too_long=True)] == [("b", 0)]
    with pytest.raises(ValueError, match="does not fit the context of 10"):
        tasks_of(prompts, context=10)


def test_a_later_turn_that_cannot_fit_is_refused_before_any_work() -> None:
    long = Prompt("a", "c", ("x" * 50, "y" * 37, "z"))
    assert len(tasks_of([replace(long, turns=long.turns[:2])], context=100)[0].prompt.turns) == 2
    with pytest.raises(ValueError, match=r"turn 3 of prompt a comes after 9\d tokens even if nothing is answered.* data\.turns"):
        tasks_of([long], context=100)
    (task,) = tasks_of([long], context=100, skip_too_long=True)
    assert task.prompt.turns == long.turns[:2]


def test_a_later_turn_that_turns_out_too_long_is_left_out_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    words = encoder(context=100)
    (task,) = tasks_of([Prompt("a", "c", ("x" * 50, "y" * 30))], context=100)
    with caplog.at_level(logging.WARNING):
        assert len(next_turn(task, answer(words, "z" * 8), words).tokens) == 90  # pyright: ignore[reportOptionalMemberAccess]
        assert not caplog.messages
        assert next_turn(task, answer(words, "z" * 9), words) is None
    assert caplog.messages == ["turn 2 of prompt a has 91 tokens with its history and is left out"]


def test_an_answer_that_the_template_does_not_take_ends_the_conversation(caplog: pytest.LogCaptureFixture) -> None:
    words = encoder(NO_BLANK)
    (task,) = tasks_of([CHAT], NO_BLANK)
    with caplog.at_level(logging.WARNING):
        assert next_turn(task, [words.tokenizer.eos_token_id], words) is None
    assert "turn 2 of prompt 81 is left out: " in caplog.text
    assert "no content" in caplog.text


def numbered(*lengths: int) -> list[Task]:
    return [Task(index, Prompt(str(index), "c", ("x",)), [1] * length) for index, length in enumerate(lengths)]


def test_batches_of_neighbours_and_batches_of_similar_length() -> None:
    tasks = numbered(9, 1, 8, 2, 7)
    assert [[task.index for task in batch] for batch in make_batches(tasks, 2)] == [[0, 1], [2, 3], [4]]
    assert [[task.index for task in batch] for batch in make_batches(tasks, 2, "length")] == [[0], [1, 3], [4, 2]]
    assert make_batches([], 2) == []


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(1, 6))
def test_every_task_is_in_one_batch_and_lengths_are_neighbours(lengths: list[int], size: int) -> None:
    tasks = numbered(*lengths)
    for batching in ("order", "length"):
        batches = make_batches(tasks, size, batching)
        assert sorted(task.index for batch in batches for task in batch) == list(range(len(tasks)))
        assert all(len(batch) <= size for batch in batches)
        assert len(batches) == -(-len(tasks) // size)
    spans = sorted((min(ends), max(ends)) for batch in make_batches(tasks, size, "length") if (ends := [len(task.tokens) for task in batch]))
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


@pytest.mark.parametrize(("target", "drafter", "context"), [(100, None, 100), (100, 80, 80), (80, 100, 80)])
def test_the_context_is_the_smaller_of_targets_and_drafters(target: int, drafter: int | None, context: int) -> None:
    model, attached = SimpleNamespace(context=target), SimpleNamespace(traits=Traits(context=drafter))
    parts: Any = SimpleNamespace(target=SimpleNamespace(model=model, tokenizer=tokenizer()), drafter=attached)
    assert Encoder.of(Settings(max_new_tokens=10), parts).context == context
