"""The report: every run in it, nothing fetched from anywhere, what is wrong in red, and plain words where there is nothing to report."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.analysis import curves
from experiments.analysis.frames import load_runs
from experiments.report import plots
from experiments.report.blocks import Picture
from experiments.report.command import main
from experiments.report.page import svg
from experiments.report.plots import INK
from tests.experiments.recorded import config, write_run

VOID = {"meta", "br", "img", "link", "input", "hr", "path", "use", "line", "rect", "circle"}


class Page(HTMLParser):
    """Checks that elements close in order, and collects what the page refers to and says."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open += [] if tag in VOID else [tag]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "srcset", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open = self.open if tag in VOID else self.open[:-1]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def spoil(path: Path) -> None:
    summary = json.loads(path.read_text())
    error = "<b>books</b> do not balance"
    path.write_text(json.dumps(summary | {"valid": False, "errors": [error], "warnings": [error, "busy"]}))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for name, length in (("0", 2), ("1", 4)):
        write_run(tmp_path / "sweep" / name, drafter=config()["drafter"] | {"num_tokens": length})
    return tmp_path / "sweep"


def test_the_page_holds_every_run_and_nothing_from_outside(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep), "--html", str(tmp_path / "new" / "report.html")]) == 0
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    said = " ".join(page.words)
    for expected in (
        "prompt_lookup (num_tokens=2)",
        "prompt_lookup (num_tokens=4)",
        "a processor",
        "2.13",
        "no validity check failed",
        "tokens per step",
    ):
        assert expected in said
    assert text.count("<svg ") == 6
    assert {"speedup", "tokens_per_step", "gamma", "phases", "positions", "lengths"} <= set(page.ids)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"url\((?!#)|@import", text)
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert "<mark>" in text
    assert "<del>" in text
    assert len(page.ids) == len(set(page.ids))
    assert "no validity check failed" in capsys.readouterr().out


def test_the_same_figure_makes_the_same_page(sweep: Path) -> None:
    one, two = (
        svg(Picture("phases", plots.time_per_phase(curves.phase_times(load_runs([sweep]).summaries), "head"), 'left of "1"')) for _ in range(2)
    )
    assert one == two
    assert 'aria-label="left of &quot;1&quot;"' in one
    assert INK not in one
    assert "currentColor" in one


def test_a_lossy_run_is_named_before_its_numbers(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep / "1" / "summary.json"
    summary = json.loads(path.read_text())
    summary["proof"] = {"verdict": "lossy", "mark": "lossy", "reason": "by design", "record": None, "file": None}
    path.write_text(json.dumps(summary))
    assert main([str(sweep), "--html", str(tmp_path / "report.html")]) == 0
    said = " ".join(Page((tmp_path / "report.html").read_text(encoding="utf-8")).words)
    warning = "does not have the target's distribution, by design: prompt_lookup (num_tokens=4)."
    assert said.index(warning) < said.index("Every run.")
    assert warning in capsys.readouterr().out


def test_an_invalid_and_a_failed_run_come_first_and_in_red(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep / "1" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(
        json.dumps(summary | {"valid": False, "errors": ["<b>books</b> do not balance"], "warnings": ["<b>books</b> do not balance", "busy"]})
    )
    (sweep / "2").mkdir()
    (sweep / "2" / "error.json").write_text(json.dumps({"error": "ValueError: no such model"}))
    assert main([str(sweep), "--html", str(tmp_path / "r.html")]) == 0
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<p class="bad">1 of 2 runs are NOT valid' in text
    assert "&lt;b&gt;books&lt;/b&gt; do not balance" in text
    assert text.index("NOT valid") < text.index("ValueError: no such model") < text.index("<table")
    assert '<td class="bad">NO</td>' in text
    assert "1 of 2 runs are NOT valid" in capsys.readouterr().out
    assert "(num_tokens=4): busy" in text


HEAD = (
    "target embedded; data embedded; 4 prompts; verifier recursive; sampling greedy; max_new_tokens 128; batch size 1; seed 0; float32; a processor"
)


def test_every_output_says_what_was_measured(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "r.html", tmp_path / "r.md"]
    assert main([str(sweep), "--html", str(files[0]), "--markdown", str(files[1])]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(HEAD)
    text = files[0].read_text(encoding="utf-8")
    assert f"<p>{HEAD}" in text[: text.index("</header>")]
    assert HEAD in "\n".join(files[1].read_text(encoding="utf-8").splitlines()[:6])
    for figure in re.findall("<svg .*?</svg>", text, re.DOTALL):
        assert HEAD in " ".join(" ".join(Page(figure).words).split())
    for options in (["--table", "terminal"], ["--table", "markdown"], ["--categories"]):
        assert main([str(sweep), *options]) == 0
        assert capsys.readouterr().out.splitlines()[0].startswith(HEAD)


def test_what_cannot_be_compared_is_marked_before_and_in_the_tables(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "longer", max_new_tokens=48)
    assert main([str(sweep), str(tmp_path / "longer"), "--html", str(tmp_path / "r.html")]) == 0
    note = "runs differ in max_new_tokens (128, 48): their speedups are not comparable"
    assert f"The {note}." in capsys.readouterr().out
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert (
        text.index(f'<p class="warn">The {note}.</p>') < text.index('<th scope="col">max_new_tokens</th>') < text.index('<th scope="col">sound</th>')
    )
    assert "prompt_lookup (num_tokens=2) · max_new_tokens 48" in text


def test_no_heading_is_printed_twice(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "0", "1":
        write_run(tmp_path / "again" / name, drafter=config()["drafter"] | {"num_tokens": 2 + 2 * int(name)})
    for options in ([], ["--categories"], ["--categories", "--table", "markdown"]):
        assert main([str(sweep), str(tmp_path / "again"), *options]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if "tokens/step" in line or line.startswith("target ")]
        assert len(lines) == 3
        assert len(lines) == len(set(lines))
    assert main([str(sweep), str(tmp_path / "again"), "--categories"]) == 0
    told = capsys.readouterr().out
    assert told.count("  a  ") == told.count("  b  ") == 4
    assert "prompt_lookup (num_tokens=2) [sweep/0]" in told
    assert "prompt_lookup (num_tokens=2) [again/0]" in told


def test_markdown_has_its_figures_beside_it(sweep: Path, tmp_path: Path) -> None:
    spoil(sweep / "1" / "summary.json")
    assert main([str(sweep), "--markdown", str(tmp_path / "out" / "report.md")]) == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    assert len(pictures) == 6
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert "**NOT VALID:** 1 of 2 runs are NOT valid" in text
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(line.count("|") == table[0].count("|") for line in table[:4])


def test_what_cannot_be_reported_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, expected in (
        (["nowhere"], "nowhere does not exist"),
        ([], "name a folder"),
        (["--spec-bench-baseline", "x.jsonl", "."], "give both"),
        (["--vllm", "x.jsonl"], "cannot be read"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert expected in error
        assert error.count("\n") == 1
