"""Columns, templates, samples and groups: how rows become prompts, whatever they are called."""

from typing import Any

import pytest

from experiments.analysis.summary import grouping
from experiments.parts.data.columns import Columns, Row
from experiments.parts.data.prompts import Prompt, Selection, choose, fingerprint, read_prompts, turn_id

EDIT = "{instructions}:\n{source}"


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(f"set row {number}", number, value) for number, value in enumerate(values)]


def numbered(count: int, categories: str = "a") -> list[Row]:
    return rows(*({"id": str(index), "category": categories[index % len(categories)], "text": f"t{index}"} for index in range(count)))


def test_a_template_is_filled_from_mapped_columns() -> None:
    layout = Columns("edits", {"instructions": "change_request", "source": "code"}, EDIT)
    found = read_prompts(rows({"code": "x = {1}", "change_request": "double it"}), layout)
    assert found == [Prompt("0", "edits", ("double it:\nx = {1}",))]


def test_a_field_that_is_not_mapped_is_a_column_of_that_name() -> None:
    assert read_prompts(rows({"article": "news"}), Columns("n", template="{{{article}}} in short:"))[0].text == "{news} in short:"


def test_null_numbers_the_rows_and_takes_the_label() -> None:
    given = rows({"id": "x", "category": "c", "prompt": "p"}, {"id": "x", "category": "c", "prompt": "q"})
    found = read_prompts(given, Columns("mine", {"id": None, "category": None, "prompt": "prompt"}))
    assert [(prompt.id, prompt.category) for prompt in found] == [("0", "mine"), ("1", "mine")]


def test_doubled_ids_are_refused_and_can_be_replaced_by_numbers() -> None:
    given = rows({"key": "x", "text": "a"}, {"key": "x", "text": "b"})
    with pytest.raises(ValueError, match=r"set row 1: the id 'x' was used before.*data\.columns\.id=null numbers the rows"):
        read_prompts(given, Columns("l", {"id": "key"}))
    assert len(read_prompts(given, Columns("l", {"id": None}))) == 2


def test_another_column_may_be_the_category() -> None:
    assert read_prompts(rows({"text": "a", "cluster": "maps"}), Columns("l", {"category": "cluster"}))[0].category == "maps"


@pytest.mark.parametrize(
    ("columns", "template", "message"),
    [
        ({"id": "uid"}, None, r"set row 0: has no field uid \(meant as id\); it has task, code: name the right one"),
        ({"category": "kind"}, None, r"has no field kind \(meant as category\); it has task, code"),
        ({"prompt": "question"}, None, r"has no field question \(meant as prompt\); it has task, code"),
        ({}, None, "has no field one of turns, prompt, question, text; it has task, code"),
        ({"source": "body"}, "{task} {source}", r"has no field body \(meant as source\); it has task, code"),
        ({}, "{task} {source}", "has no field source; it has task, code"),
    ],
)
def test_wrong_columns_are_answered_with_those_there_are(columns: dict[str, str | None], template: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prompts(rows({"task": "t", "code": "c"}), Columns("l", columns, template))


@pytest.mark.parametrize(
    ("columns", "template", "message"),
    [
        ({}, "no field", "must name at least one column"),
        ({}, "{}", "must name at least one column"),
        ({}, "{a.b}", "by a plain name"),
        ({}, "{a", "double a brace"),
        ({"article": "x"}, "{text}", "names article; what can be mapped here is id, category, text"),
        ({"article": "x"}, None, "names article; what can be mapped here is id, category, prompt"),
    ],
)
def test_a_template_that_is_none_is_refused(columns: dict[str, str | None], template: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Columns("l", columns, template)


@pytest.mark.parametrize("turns", [0, -1, True, "all", 1.5])
def test_turns_are_counted(turns: Any) -> None:
    with pytest.raises(ValueError, match=r"data\.turns="):
        Columns("l", turns=turns)


def test_a_template_whose_fields_are_all_empty_makes_no_prompt() -> None:
    layout = Columns("l", template=EDIT)
    assert read_prompts(rows({"instructions": "write", "source": ""}), layout)[0].text == "write:\n"
    with pytest.raises(ValueError, match="set row 0: the prompt is empty"):
        read_prompts(rows({"instructions": " ", "source": "\n"}), layout)
    with pytest.raises(ValueError, match="the field source holds NoneType"):
        read_prompts(rows({"instructions": "write", "source": None}), layout)


def test_turns_that_are_not_wanted_are_not_looked_at() -> None:
    given = rows({"turns": ["a", "b", ""]})
    assert read_prompts(given, Columns("l", turns=2))[0].turns == ("a", "b")
    with pytest.raises(ValueError, match="set row 0: turn 3 of the prompt is empty"):
        read_prompts(given, Columns("l"))


def test_a_sample_is_the_same_whatever_the_order_and_a_smaller_one_is_part_of_it() -> None:
    given, layout = numbered(50), Columns("l")
    ten = read_prompts(given, layout, Selection(num_rows=10, seed=3))
    assert len(ten) == 10
    assert [prompt.id for prompt in ten] == sorted((prompt.id for prompt in ten), key=int)
    assert {prompt.id for prompt in read_prompts(given[::-1], layout, Selection(num_rows=10, seed=3))} == {prompt.id for prompt in ten}
    assert {prompt.id for prompt in read_prompts(given, layout, Selection(num_rows=4, seed=3))} < {prompt.id for prompt in ten}
    assert read_prompts(given, layout, Selection(num_rows=10, seed=4)) != ten
    assert len(read_prompts(given, layout, Selection(num_rows=99))) == 50


def test_rows_that_are_not_sampled_need_not_be_right() -> None:
    given = [*numbered(3), Row("set row 3", 3, {"id": "bad", "category": "broken", "text": ""})]
    assert len(read_prompts(given, Columns("l"), Selection(categories=["a"]))) == 3
    with pytest.raises(ValueError, match="set row 3: the prompt is empty"):
        read_prompts(given, Columns("l"))


def test_a_group_stands_for_its_categories() -> None:
    given, groups = numbered(12, "abcd"), {"both": ["a", "b"]}
    found = read_prompts(given, Columns("l"), Selection(["both", "d"], groups))
    assert {prompt.category for prompt in found} == {"a", "b", "d"}
    with pytest.raises(ValueError, match=r"data\.categories names bth; the data set has a, b, both, c, d"):
        read_prompts(given, Columns("l"), Selection(["bth"], groups))
    with pytest.raises(ValueError, match=r"no prompt of the data set is in data\.categories"):
        read_prompts(given, Columns("l"), Selection(["gone"], {"gone": ["z"]}))
    assert grouping({"groups": groups}) == {"a": "both", "b": "both"}
    assert grouping({"_target_": "experiments.parts.data.sources.embedded"}) == {}


@pytest.mark.parametrize(("name", "value"), [("num_rows", 0), ("num_rows", "few"), ("num_rows", True), ("seed", -1), ("seed", None)])
def test_a_sample_is_counted(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"data\.{name}={value}: give a whole number"):
        Selection(**{name: value})


def test_ids_of_turns() -> None:
    assert [turn_id("81", turn) for turn in (1, 2, 3)] == ["81", "81/2", "81/3"]


def test_the_fingerprint_is_of_what_is_asked() -> None:
    prompts = [Prompt("1", "c", ("a", "b")), Prompt("2", "c", ("d",))]
    same = fingerprint([Prompt("1", "c", ("a", "b")), Prompt("2", "c", ("d",))])
    assert fingerprint(prompts) == same
    others = [prompts[:1], prompts[::-1], [Prompt("1", "c", ("ab",)), prompts[1]], [Prompt("1", "c", ("a",)), Prompt("b", "c", ("d",))]]
    assert all(fingerprint(other) != same for other in others)


def test_a_small_number_of_prompts_covers_all_categories() -> None:
    prompts = [Prompt(str(index), category, ("x",)) for index, category in enumerate("aaaabbbcc")]
    assert [prompt.category for prompt in choose(prompts, 4)] == ["a", "a", "b", "c"]
    assert choose(prompts, None) == choose(prompts, 99) == prompts
