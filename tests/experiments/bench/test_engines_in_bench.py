"""Other engines among the ways of the benchmark, and in the tables that are made of its records."""

import pytest
from hydra import compose, initialize_config_module

from experiments.bench import figures
from experiments.bench import job as bench
from experiments.parts.peers.engines import engine
from experiments.report.pages import speed

TINY = ["target=random", "target.name=tiny", "target.device=cpu", "assistant_size=tiny", "prompt_tokens=[9,5]", "num_prompts=1"]
SMALL = [*TINY, "max_new_tokens=5", "repeats=1", "warmup=1"]


def composed(*overrides: str):
    with initialize_config_module("conf", version_base=None):
        return compose("bench", list(overrides))


def test_an_engine_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "installed", lambda _: None)
    with pytest.raises(ValueError, match=r'against openvino: openvino-genai is not installed: pip install "draftproof\[peers\]"'):
        bench.execute(composed(*SMALL, "against=[openvino]"), tmp_path)


def test_an_engine_takes_no_other_dtype(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "installed", lambda _: "1.0")
    with pytest.raises(ValueError, match=r"against ctranslate2: the target is bfloat16 on cpu"):
        bench.execute(composed(*SMALL, "target.dtype=bfloat16", "against=[ctranslate2]"), tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(None in map(engine.installed, ("openvino-genai", "ctranslate2")), reason="the extra peers is not installed")
def test_engines_are_timed_beside_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    against = "against=[generate,openvino,openvino_draft,openvino_lookup,ctranslate2]"
    found = bench.execute(composed(*SMALL, against, "ours=[none,draft_model]"), tmp_path)
    ways = {way["way"]: way for way in found["ways"]}
    assert list(ways)[1:5] == ["openvino", "openvino, draft model", "openvino, prompt lookup", "ctranslate2"]
    assert all(way["greedy"] == {"identical": 2, "compared": 2, "unexplained": 0} for way in ways.values())
    assert ways["ctranslate2"]["runtime"].startswith("ctranslate2 ")
    assert "the same method by OpenVINO" in speed.decode_table(found)


def way(name: str, ours: bool, seconds: float) -> dict:
    """A way that takes as many seconds for every prompt."""
    empty = dict.fromkeys(("outside_forwards", "outside_forwards_of_steps", "of_bandwidth", "greedy"))
    figures = {"way": name, "ours": ours, "note": "", "ms_per_token": 5.0, "tokens_per_forward": 1.0, "warmup_seconds": []}
    timed = {"seconds_by_prompt": [seconds] * 6, "tokens_by_prompt": [10] * 6, "tokens_per_second": 10 / seconds}
    return figures | empty | timed


def record_of(*ways: dict) -> dict:
    return {"ways": list(ways), "prompts": {"count": 6}}


def column(table: str, head: str) -> list[str]:
    """The cells below a head of a Markdown table."""
    lines = [line.split("|") for line in table.splitlines() if line.startswith("|")]
    place = [cell.strip() for cell in lines[0]].index(head)
    return [line[place].strip() for line in lines[2:]]


def test_tables_show_engines_where_they_were_timed():
    engines = way("openvino", False, 0.8), way("openvino, draft model", False, 0.5)
    record = record_of(*engines, way("none", True, 1.0), way("none, lean", True, 0.9), way("draft_model, lean", True, 0.4))
    table = speed.decode_table(record)
    same = column(table, "speed, the same method by OpenVINO = 1")
    assert same == ["-", "-", "0.80 [0.80, 0.80]", "0.89 [0.89, 0.89]", "1.25 [1.25, 1.25]"]
    assert column(table, "speed, `openvino` = 1")[:3] == ["1", "1.60 [1.60, 1.60]", "0.80 [0.80, 0.80]"]
    assert speed.over_same(record, speed.ENGINE) == "none 0.80 [0.80, 0.80]; none, lean 0.89 [0.89, 0.89]; draft_model, lean 1.25 [1.25, 1.25]"
    without = record_of(way("generate", False, 1.2), way("none", True, 1.0))
    assert "OpenVINO" not in speed.decode_table(without)
    assert speed.over_same(without, speed.ENGINE) == ""


def test_two_gains_are_named_over_our_own_runtime_and_over_the_fastest_plain_decoding_of_all():
    """The fastest plain decoding is another engine's here; its drafting is faster still, and does not count."""
    engines = way("openvino", False, 0.8), way("openvino, draft model", False, 0.5)
    record = record_of(*engines, way("none", True, 1.0), way("none, lean", True, 0.9), way("draft_model, lean", True, 0.4))
    table = speed.decode_table(record)
    assert column(table, "over own plain") == ["-", "-", "-", "-", "2.25 [2.25, 2.25]"]
    assert column(table, "over fastest plain")[0] == "-"
    assert column(table, "over fastest plain")[2:] == ["0.80 [0.80, 0.80]", "0.89 [0.89, 0.89]", "2.00 [2.00, 2.00]"]
    assert "End to end" in table
    assert "over 6 units" in table
    assert "`openvino`, what a user gains" in table
    told = ". ".join(speed.compared(record))
    assert "(what speculation gains): draft_model, lean 2.25 [2.25, 2.25]" in told
    assert "openvino (what a user gains): draft_model, lean 2.00 [2.00, 2.00]" in told


def test_intervals_of_earlier_records_are_not_shown_and_few_units_have_none():
    assert figures.describe({"ratio": 1.5, "interval": [1.4, 1.6]}) == "1.50 [-]"
    assert figures.describe({"ratio": 1.5, "interval": None, "units": 3}) == "1.50 [-, 3 units]"
    assert figures.describe({"ratio": 1.5, "interval": [1.4, 1.6], "units": 9}) == "1.50 [1.40, 1.60]"
    assert figures.describe(None) == "-"
