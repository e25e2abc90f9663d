"""Pictures for a README: they parse, name every method, say what the summaries say, and are the same bytes whenever they are made."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from experiments.analysis.coloured import Piece
from experiments.analysis.frames import load_runs
from experiments.report.answer_picture import COLUMNS, Page, answer_picture, columns
from experiments.report.command import main
from experiments.report.picture import speedup_picture
from experiments.report.svg import THEMES, WIDTH, Drawing, wrapped
from tests.experiments.recorded import config, write_run

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {"lookahead": "drafters.lookahead.Lookahead", "prompt_lookup": "drafters.prompt_lookup.PromptLookup"}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two drafters, greedy and at temperature 0.8, faster, slower and undecided."""
    for place, path in enumerate(DRAWN.values()):
        for temperature in (0.0, 0.8):
            sampling = config()["sampling"] | {"temperature": temperature}
            folder = tmp_path / "sweep" / f"{place}-{temperature}"
            write_run(folder, num_prompts=6, seconds=1 + 0.3 * place + temperature, drafter={"_target_": path}, sampling=sampling, max_new_tokens=24)
    return tmp_path / "sweep"


def made(sweep: Path, base: Path, *options: str) -> tuple[str, str]:
    assert main([str(sweep), *options]) == 0
    light, dark = (base.with_name(f"{base.name}-{theme}.svg").read_text(encoding="utf-8") for theme in ("light", "dark"))
    return light, dark


def words(text: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(text).iter(f"{SVG}text")]


def test_the_picture_says_what_the_summaries_say(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "new" / "speedup"
    light, dark = made(sweep, base, "--picture", str(base))
    assert capsys.readouterr().out == f"written: {base}-light.svg\nwritten: {base}-dark.svg\n"
    told = words(light)
    assert told == words(dark)
    assert [word for word in told if word in DRAWN] == list(DRAWN)
    assert [word for word in told if word in ("greedy", "T=0.8")] == ["greedy", "T=0.8"] * 2
    numbers = []
    for file in sorted(sweep.rglob("summary.json")):
        summary = json.loads(file.read_text())
        low, high = summary["speedup_with_prefill_interval"]
        numbers.append(f"{summary['speedup_with_prefill']:.2f} [{low:.2f}, {high:.2f}]")
    assert [word for word in told if "[" in word] == numbers
    head = " ".join(told)
    for part in ("target embedded", "6 prompts", "max_new_tokens 24", "a processor", "float32", "plain decoding", "95 % interval", "6 units"):
        assert part in head
    assert ElementTree.fromstring(light).findtext(f"{SVG}title") == "End-to-end speedup over plain decoding"
    assert all(number in (ElementTree.fromstring(light).findtext(f"{SVG}desc") or "") for number in numbers)


def test_dots_stand_where_the_numbers_are(sweep: Path) -> None:
    root = ElementTree.fromstring(speedup_picture(load_runs([sweep])).to_svg(THEMES["light"]))
    texts = {element.text or "": element for element in root.iter(f"{SVG}text")}
    zero, one = (float(texts[tick].get("x", "nan")) for tick in ("0", "1"))
    dots = [(float(dot.get("cx", "nan")) - zero) / (one - zero) for dot in root.iter(f"{SVG}circle")]
    assert dots == pytest.approx([json.loads(file.read_text())["speedup_with_prefill"] for file in sorted(sweep.rglob("summary.json"))], abs=1e-3)
    colours = {THEMES["light"][name] for name in ("faster", "slower")}
    assert {dot.get("fill") for dot in root.iter(f"{SVG}circle")} == colours


@pytest.mark.parametrize("option", ["--picture", "--answer-picture"])
def test_a_picture_is_small_fetches_nothing_and_is_the_same_when_made_twice(option: str, sweep: Path, tmp_path: Path) -> None:
    first, second = (made(sweep, tmp_path / name, option, str(tmp_path / f"{name}.svg")) for name in ("a", "b"))
    assert first == second
    assert first[0] != first[1]
    for text in first:
        assert len(text) < 20_000
        assert not re.search(r"https?://(?!www\.w3\.org/)|url\(|<image|<script|@import", text)
        assert "{" not in re.sub("<style>.*</style>", "", text)  # every colour is set
        root = ElementTree.fromstring(text)
        width, height = map(float, (root.get("viewBox") or "").split()[2:])
        assert width == WIDTH
        for box in root.iter(f"{SVG}rect"):
            assert float(box.get("x", "nan")) >= 0
            assert float(box.get("x", "nan")) + float(box.get("width", "nan")) <= WIDTH
            assert (box.get("width"), box.get("height")) != (root.get("width"), root.get("height"))  # no background
        assert all(0 < float(text.get("y", "nan")) < height for text in root.iter(f"{SVG}text"))


def test_what_a_picture_cannot_show_honestly_is_refused(sweep: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "longer", num_prompts=6, max_new_tokens=48)
    with pytest.raises(ValueError, match=r"runs differ in max_new_tokens \(24, 48\): their speedups are not comparable, so one picture"):
        speedup_picture(load_runs([sweep, tmp_path / "longer"]))
    path = sweep / "1-0.8" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"valid": False, "errors": ["the books do not balance"]}))
    with pytest.raises(ValueError, match=r"prompt_lookup · T=0\.8: not valid"):
        speedup_picture(load_runs([sweep]))


def test_an_answer_has_its_tokens_in_three_colours_and_a_legend(sweep: Path, tmp_path: Path) -> None:
    light, _ = made(sweep, tmp_path / "answer", "--answer-picture", str(tmp_path / "answer"), "--answer", "p1")
    told = words(light)
    assert {"drafted, accepted", "drafted, rejected", "added by the target"} <= set(told)
    assert "prompt p1" in " ".join(told)
    assert "max_new_tokens 24" in " ".join(told)
    boxes = [box.get("fill") for box in ElementTree.fromstring(light).iter(f"{SVG}rect")]
    accepted, rejected, bonus = (THEMES["light"][name] for name in ("accepted", "rejected", "bonus"))
    assert boxes == [accepted, rejected, bonus] + [accepted, accepted, bonus] + [accepted, rejected, bonus]  # legend, first step, second step


def test_a_prompt_that_is_not_there_is_named(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep), "--answer-picture", str(tmp_path / "a"), "--answer", "p9"]) == 2
    assert capsys.readouterr().err == "error: no valid run has an answer to p9; there are p0, p1, p2, p3, p4, p5, ...\n"


def test_an_answer_of_an_invalid_run_is_not_shown(sweep: Path) -> None:
    for path in sweep.rglob("summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"valid": False, "errors": ["x"]}))
    with pytest.raises(ValueError, match="no valid run has an answer"):
        answer_picture(load_runs([sweep]))


def placed(*pieces: Piece) -> list[tuple[Any, ...]]:
    """(column, line, text) of what a page of these pieces shows."""
    drawing = Drawing("t", "d", 100)
    page = Page(drawing, 0)
    for piece in pieces:
        page.write(piece)
    root = ElementTree.fromstring(drawing.to_svg(THEMES["light"]))
    return [
        (round((float(text.get("x", "nan")) - 8) / 9), round(float(text.get("y", "nan")) / 25), text.text) for text in root.iter(f"{SVG}text")
    ]  # fmt: skip


def test_line_breaks_are_shown_and_long_lines_are_broken() -> None:
    assert placed(Piece("accepted", "a\n  b"), Piece("own", "c")) == [(0, 0, "a"), (1, 0, "⏎"), (2, 1, "b"), (3, 1, "c")]
    assert placed(Piece("own", "x" * (COLUMNS + 2))) == [(0, 0, "x" * COLUMNS), (0, 1, "xx")]
    assert placed(Piece("own", "x" * (COLUMNS - 1)), Piece("own", "水")) == [(0, 0, "x" * (COLUMNS - 1)), (0, 1, "水")]
    assert columns("a水") == 3


def test_markup_and_control_characters_are_harmless() -> None:
    assert placed(Piece("own", '<b>&"{ink}"\x00')) == [(0, 0, '<b>&"{ink}"\u2400')]


def test_lines_are_broken_between_words() -> None:
    assert wrapped("one two three", 10, 42) == ["one two", "three"]
    assert wrapped("unbreakable", 10, 20) == ["unbreakable"]
    assert wrapped("", 10, 20) == [""]
