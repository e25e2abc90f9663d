"""Kinds of settings, by comments, annotations and defaults; and that every setting of `conf/` has one which takes its default."""

import ast
from pathlib import Path

import pytest

from experiments.parts.door import comments
from experiments.parts.door.check import check
from experiments.parts.door.groups import groups_in, options_in
from experiments.parts.door.jobs import JOBS
from experiments.parts.door.kinds import Kind, by_annotation, by_comment, by_value
from experiments.parts.door.signatures import signature

JOB_FILES = sorted(comments.conf().glob("*.yaml"))
OPTION_FILES = sorted(path for path in comments.conf().rglob("*.yaml") if path.parent != comments.conf() and path.parent.name != "experiment")


@pytest.mark.parametrize(
    ("comment", "default", "taken", "refused"),
    [
        ("from 1 to 8; slots", 4, [1, 8], [0, 9, 2.5, "4", True, None, [4]]),
        ("from 0", 0.5, [0, 0.0, 7.5], [-0.1, "x", None, True, float("nan")]),
        ("above 0, below 1; a share", 0.5, [0.1, 0.999], [0, 1, 2]),
        ("whole number from 1, or null; at most", None, [1, 10**9, None], [0, 1.0, "1", False]),
        ("one of order, length; which", "order", ["order", "length"], ["Order", None, 1]),
        ("one of auto, true, false", "auto", ["auto", True, False], ["yes", None, 1]),
        ("list of whole numbers from 1 to 9", [1], [[], [1, 9]], [[0], [1.5], "1", 3, None, ["x"]]),
        ("list of any of a, b, or null", None, [["a"], ["b", "a"], None], [["c"], "a"]),
        ("list of texts", [], [["x"], []], ["x", [1]]),
        ("number from 0 to 1, or null", None, [0.5, 1, None], [1.5, "0.5"]),
        ("text, or null; a name", None, ["x", None], [1, ["x"]]),
        ("mapping; more", {}, [{}, {"a": 1}], [None, [], "x"]),
    ],
)
def test_a_comment_says_what_a_setting_takes(comment: str, default: object, taken: list[object], refused: list[object]) -> None:
    kind = by_comment(comment, default)
    assert kind is not None
    assert [value for value in taken if not kind.accepts(value)] == []
    assert [value for value in refused if kind.accepts(value)] == []


@pytest.mark.parametrize("prose", ["", "prompts decoded together", "from the target", "the first of text, prompt", "null: all", "one"])
def test_prose_is_no_kind(prose: str) -> None:
    assert by_comment(prose, 3) is None


@pytest.mark.parametrize(
    ("annotation", "taken", "refused"),
    [
        ("int", [3], [3.0, "3", True, None]),
        ("float", [3, 0.5], ["3", True, None]),
        ("bool", [True], [1, "no", None]),
        ("int | None", [3, None], ["3"]),
        ("Optional[float]", [3.5, None], ["3"]),
        ("Sequence[int] | None", [[1], None], [["x"], 1, "1"]),
        ("tuple[int, ...]", [[1, 2]], [[1.5]]),
        ("Literal['a', 'b']", ["a"], ["c", None]),
        ("Mapping[str, int]", [{"a": 1}], ["a"]),
        ("'int'", [1], ["x"]),
        ("str | Path", ["x", 3], []),
        ("SomeClass", [3, None, "x"], []),
    ],
)
def test_an_annotation_says_what_a_parameter_takes(annotation: str, taken: list[object], refused: list[object]) -> None:
    kind = by_annotation(ast.parse(annotation, mode="eval").body)
    assert [value for value in taken if value is not None and not kind.accepts(value)] == []
    assert [value for value in refused if kind.accepts(value)] == []


def test_a_kind_says_what_to_give() -> None:
    assert str(Kind("int", least=1, most=2_000_000)) == "a whole number from 1 to 2,000,000"
    assert str(Kind("float", least=0, most=1, open_ends=True)) == "a number between 0 and 1, both excluded"
    assert str(Kind("list", items=Kind(choices=("a", "b")), null=True)) == "a list, each item one of a, b or null"
    assert str(by_value(True)) == "true or false"


@pytest.mark.parametrize("file", JOB_FILES, ids=lambda file: file.stem)
def test_every_setting_of_a_job_has_a_kind(file: Path) -> None:
    """A default of null says nothing, so the comment must."""
    unknown = [item.name for item in comments.settings(file) if item.default in (None, "???") and by_comment(item.comment, None) is None]
    assert file.stem == "wandb_sweep" or unknown == []


@pytest.mark.parametrize("file", OPTION_FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_option_says_what_it_is(file: Path) -> None:
    assert comments.about(file)


@pytest.mark.parametrize("file", [*JOB_FILES, *OPTION_FILES], ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_kind_takes_its_default(file: Path) -> None:
    wrong = []
    for item in comments.settings(file):
        kind = by_comment(item.comment, item.default)
        if kind is not None and item.default != "???" and "${" not in str(item.default) and not kind.accepts(item.default):
            wrong.append(item.name)
    assert wrong == []


@pytest.mark.parametrize("job", [JOBS[name] for name in ("run", "bench", "slots")], ids=lambda job: job.config)
def test_every_option_of_every_group_passes(job) -> None:
    """What lies in conf/ is right by its own comments and by the signatures of what it names."""
    config = job.config
    given = ["recorded=."] if config == "replay" else []
    for group in sorted(groups_in([comments.conf()]) - {"experiment", "peers", "drafter/stopping", "effort"} - set(job.without)):
        for option in options_in(group, [comments.conf()]):
            try:
                check(config, [*given, f"{group}={option}"])
            except ValueError as error:
                assert "must be given" in str(error) or "is no group of this job" in str(error), f"{config} {group}={option}: {error}"  # noqa: PT017


def test_a_constructor_refuses_what_a_comment_refuses_and_takes_what_it_takes() -> None:
    """The comments of drafters and the constructors' own checks say the same."""
    from experiments.parts.build import make

    for file in sorted((comments.conf() / "drafter").glob("*.yaml")):
        defaults = {item.name: item.default for item in comments.settings(file)}
        for item in comments.settings(file):
            kind = by_comment(item.comment, item.default)
            if kind is None or kind.name != "int" or kind.least == float("-inf"):
                continue
            config = {"trusted_packages": [], "drafter": defaults | {item.name: int(kind.least)}}
            if (file.stem, item.name) == ("adversarial", "token"):  # looked at when the vocabulary is known
                continue
            if (file.stem, item.name) != ("draft_tree", "num_nodes"):  # not below num_rounds
                make(config, "drafter")
            with pytest.raises(ValueError, match=f"drafter: .*{item.name}"):
                make(config | {"drafter": defaults | {item.name: int(kind.least) - 1}}, "drafter")


def test_signatures_are_read_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "far" / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom far.base import Base as Above\n\n"
        "class Mine(Above):\n    '''A drafter.\n\n    More.'''\n\n"
        "class Own(Above):\n    def __init__(self, depth: int, *, rate: float = 0.5, **more): ...\n\n"
        "@dataclass(frozen=True)\nclass Rule:\n    weight: float\n    name: str = 'x'\n\n"
        "def make(path: str | None = None): ...\n"
    )
    (tmp_path / "far" / "base.py").write_text("class Base:\n    def __init__(self, width: int = 3): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    mine, own, rule, make = (signature(f"far.mine.{name}") for name in ("Mine", "Own", "Rule", "make"))
    assert mine is not None
    assert (set(mine.parameters), mine.required, mine.about) == ({"width"}, frozenset(), "A drafter.")
    assert own is not None
    assert (set(own.parameters), own.required, own.takes_more) == ({"depth", "rate"}, {"depth"}, True)
    assert rule is not None
    assert (set(rule.parameters), rule.required) == ({"weight", "name"}, {"weight"})
    assert make is not None
    assert not make.required
    for name in ("far.mine.Other", "far.nothing.X", "nowhere.at.All", "NoDots"):
        with pytest.raises(ValueError, match=r"has no 'Other'|no module|no package|dotted name"):
            signature(name)
