"""Other engines among the ways of the benchmark, and in the tables that are made of its records."""

import pytest
from hydra import compose, initialize_config_module

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


def way(name: str, ours: bool, **ratios: float) -> dict:
    empty = dict.fromkeys(("outside_forwards", "outside_forwards_of_steps", "of_bandwidth", "greedy"))
    figures = {"way": name, "ours": ours, "note": "", "ms_per_token": 5.0, "tokens_per_forward": 1.0, "warmup_seconds": []}
    return figures | empty | {"ratios": {peer.replace("_", " "): {"ratio": ratio, "interval": None} for peer, ratio in ratios.items()}}


def test_tables_show_engines_where_they_were_timed():
    ours = [way("none", True, generate=1.2, openvino=0.8) | {"ratios": {"openvino": {"ratio": 0.8, "interval": None}}}]
    ours.append(way("draft_model, lean", True) | {"ratios": {"openvino, draft model": {"ratio": 1.1, "interval": [1.0, 1.2]}}})
    record = {"ways": [way("openvino", False), way("openvino, draft model", False, openvino=1.4), *ours]}
    lines = speed.decode_table(record).splitlines()
    heads = [cell.strip() for cell in lines[0].split("|")]
    place = heads.index("speed, the same method by OpenVINO = 1")
    assert [line.split("|")[place].strip() for line in lines[2:]] == ["-", "-", "0.80", "1.10 [1.00, 1.20]"]
    assert [line.split("|")[heads.index("speed, `openvino` = 1")].strip() for line in lines[2:]] == ["1", "1.40", "0.80", "-"]
    assert speed.over_engine(record) == "none 0.80; draft_model, lean 1.10 [1.00, 1.20]"
    without = {"ways": [way("generate", False), way("none", True, generate=1.2)]}
    assert "OpenVINO" not in speed.decode_table(without)
    assert speed.over_engine(without) == ""
