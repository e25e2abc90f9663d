"""The benchmark's modes from end to end on tiny models: what a result holds, what is refused, and that README says what the records say."""

import json

import pytest
from hydra import compose, initialize_config_module

from experiments.bench import job as bench
from experiments.recording import machine
from experiments.report.pages import speed
from spec.store import NoKernel, kernel
from tests.experiments.still_dirty import excuse

TINY = ["target=random", "target.name=tiny", "target.device=cpu", "assistant_size=tiny", "prompt_tokens=[9,5]", "num_prompts=1"]
SMALL = [*TINY, "max_new_tokens=5", "repeats=1", "warmup=1"]
CHEAP = "against=[bare,generate,assisted,prompt_lookup]"  # compiling takes long and has a test of its own


def composed(*overrides):
    with initialize_config_module("conf", version_base=None):
        return compose("bench", list(overrides))


def test_decode_times_every_way_and_holds_greedy_answers_against_generate(tmp_path, capsys):
    found = bench.execute(composed(*SMALL, CHEAP, "ours=[none,prompt_lookup,draft_model,lookahead,oracle,paid_oracle]"), tmp_path)
    assert found == json.loads((tmp_path / "bench.json").read_text())
    ways = {way["way"]: way for way in found["ways"]}
    peers = ["bare loop", "generate", "generate, assisted", "generate, prompt lookup"]
    assert list(ways) == [*peers, "none", "prompt_lookup", "draft_model", "lookahead", "oracle", "paid_oracle"]
    for name, way in ways.items():
        assert way["greedy"] == {"identical": 2, "compared": 2, "unexplained": 0}, name
        assert way["tokens_by_prompt"] == [5, 5]
        assert way["ms_per_token"] > 0
        assert way["process_ms_per_token"] > 0
        assert 0 < way["outside_forwards"] < 1
        assert len(way["warmup_seconds"]) == 1
        assert set(way["ratios"]) == {*peers} - {name}
    assert ways["none"]["tokens_per_forward"] == ways["generate"]["tokens_per_forward"] == 1
    assert ways["oracle"]["tokens_per_forward"] == ways["paid_oracle"]["tokens_per_forward"] > 1
    assert ways["paid_oracle"]["bytes_per_token"] > ways["oracle"]["bytes_per_token"]
    assert [name for name, way in ways.items() if way["decode_ms_per_token"] is None] == peers[2:]  # their first forward checks a draft too
    assert "acceptance set to 0.8" in ways["oracle"]["note"]
    assert set(ways["none"]["phase_ms_per_token"]) == {"prefill", "draft", "target", "verify", "commit", "other"}
    assert found["prompts"] == {"count": 2, "lengths": [9, 5], "random": True}
    assert found["provenance"]["load_average_after"] is not None
    assert found["label"] == "decode-random-tiny-float32-greedy"
    assert "times as fast as each peer" in capsys.readouterr().out


def test_sampling_is_timed_without_a_comparison_of_texts(tmp_path):
    overrides = ["sampling=sample", "against=[bare]", "ours=[none]"]
    found = bench.execute(composed(*SMALL, *overrides), tmp_path)
    assert all(way["greedy"] is None for way in found["ways"])
    assert found["label"].endswith("T0.8")


def test_batch_says_up_to_which_size_drafting_pays(tmp_path, capsys):
    sizes = ["batch.sizes=[1,2]", "batch.waves=6", "batch.repeats=1", "ours=[none,prompt_lookup,oracle]", "against=[]"]
    found = bench.execute(composed(*SMALL, "mode=batch", *sizes), tmp_path)
    assert [(line["way"], line["rows"], line["prompts"]) for line in found["lines"] if line["rows"] == 2] == [
        ("none", 2, 12),
        ("prompt_lookup", 2, 12),
        ("oracle", 2, 12),
    ]
    assert all(line["tokens"] == 5 * line["prompts"] for line in found["lines"])
    assert {line["prompts"] for line in found["lines"]} == {12}, "every number of rows decodes the same prompts"
    assert [line["speedup"] for line in found["lines"] if line["plain"]] == [1, 1]
    assert all(line["interval"][0] <= line["speedup"] <= line["interval"][1] for line in found["lines"])
    assert {line["units"] for line in found["lines"]} == {6}
    assert all(sum(line["decode_seconds"]) < sum(line["seconds"]) for line in found["lines"])
    assert [line["drafted_per_step"] for line in found["lines"] if line["plain"]] == [0, 0]
    assert {line["rows"]: line["rows_live"] for line in found["lines"] if line["plain"]} == {1: 1, 2: 2}
    assert set(found["pays_until"]) == {"prompt_lookup", "oracle"}
    assert "tokens per second by rows" in capsys.readouterr().out


def test_verify_measures_a_curve_for_every_precision(tmp_path):
    sizes = ["verify.slots=[1,3]", "verify.repeats=2", "verify.context=6", "ours=[none]", "against=[]"]
    found = bench.execute(composed(*SMALL, "mode=verify", *sizes), tmp_path)
    assert [curve["bed"] for curve in found["curves"]] == ["float32, auto", "bfloat16, auto"]
    assert all([point["slots"] for point in curve["points"]] == [1, 3] for curve in found["curves"])
    assert all(curve["points"][0]["ratio"] == 1 for curve in found["curves"])


def test_memory_reads_after_every_prompt(tmp_path):
    sizes = ["memory.num_prompts=5", "memory.warmup=2", "memory.drafter=prompt_lookup", "ours=[prompt_lookup]", "against=[]"]
    found = bench.execute(composed(*SMALL, "mode=memory", *sizes), tmp_path)
    assert len(found["readings"]) == 5
    assert found["must_hold"] > 0


def test_store_compares_16_bit_weights_with_float32_and_bfloat16(tmp_path, capsys):
    sizes = ["store.size=tiny", "store.slots=[1,3]", "store.repeats=1", "store.context=6", "store.new_tokens=4", "ours=[none]", "against=[]"]
    try:
        kernel()
    except NoKernel as error:
        pytest.skip(str(error))
    found = bench.execute(composed(*SMALL, "mode=store", *sizes), tmp_path)
    names = ["float32", "bfloat16", "16 bits in float32"]
    assert [line["rows"] for line in found["products"]] == [1, 3]
    assert all(list(line["ms"]) == names and min(line["ms"].values()) > 0 for line in found["products"])
    assert [curve["bed"] for curve in found["curves"]] == [line["store"] for line in found["decoding"]] == names
    held = [line["must_hold"] for line in found["decoding"]]
    assert held[1] < held[2] < 0.6 * held[0]
    assert "a random model: plain decoding" in capsys.readouterr().out


def test_the_gpu_run_goes_through_all_stages_on_a_cpu(tmp_path):
    config = composed("+experiment=gpu_smoke")
    found = bench.execute(config, tmp_path)["lines"]
    assert found == [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert not [line for line in found if "error" in line or "skipped" in line]
    finished = [line["stage"] for line in found if "seconds" in line and len(line) == 3]
    assert finished == ["checks", *(f"{stage} tiny" for stage in ("curve", "plain", "oracle", "assistant", "batches"))]
    checks = [line for line in found if line["stage"] == "checks" and "check" in line]
    assert len(checks) == 9
    assert all(line["passed"] for line in checks)
    promised = [line["of_promised"] for line in found if line["stage"] == "oracle tiny" and "way" in line]
    assert promised[0] > 0
    assert promised[1] is None  # the curve was measured behind prompts of another length
    config.gpu.budget_seconds = 0
    again = bench.execute(config, tmp_path)["lines"]
    assert [line["skipped"] for line in again if "skipped" in line] == ["all of it: the time is spent"] * 6
    assert len((tmp_path / "gpu.jsonl").read_text().splitlines()) == len(found) + len(again)


def test_a_stage_that_fails_does_not_end_the_gpu_run(tmp_path, monkeypatch):
    def broken(lab, size):
        yield {"piece": 1}
        raise RuntimeError("no\nkernel")

    monkeypatch.setitem(bench.stages.BY_SIZE, "curve", broken)
    found = bench.execute(composed("+experiment=gpu_smoke", "gpu.stages=[curve,batches]", "gpu.rows=[1]"), tmp_path)["lines"]
    assert [line.get("error") for line in found if line["stage"] == "curve tiny"] == [None, "RuntimeError: no kernel"]
    assert any(line.get("way") == "oracle, lean" for line in found)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mode=decod"], "mode names 'decod'; did you mean 'decode'"),
        (["ours=[none,drft_model]"], "did you mean 'draft_model'"),
        (["against=[generat]"], "did you mean 'generate'"),
        (["against=[openvino,ctranslat2]"], "did you mean 'ctranslate2'"),
        (["against=[openvino_draft]", "sampling=sample"], "against openvino_draft: its sampled drafts"),
        (["runtimes=[graph]"], "did you mean 'graphs'"),
        (["ours=[]"], "must each name something"),
        (["max_new_tokens=1"], "give at least 2"),
        (["repeats=0"], "repeats=0: give a whole number"),
        (["record='no'"], "record=no: give true or false"),
        (["allow_lossy='no'"], "allow_lossy=no: give true or false"),
        (["label=a/b"], "label=a/b: give letters"),
        (["ours=[oracle]", "sampling=sample"], "sampling=greedy alone"),
        (["target.name=20b"], "unknown size '20b'"),
        (["max_new_tokens=100", "target.context=50"], "context of 50"),
        (["mode=batch", "ours=[prompt_lookup]"], "compares with plain decoding"),
        (["mode=verify", "verify.slots=[2,4]"], "give 1 among them"),
        (["mode=memory", "memory.drafter=lookahaed"], "did you mean 'lookahead'"),
        (["mode=gpu", "gpu.sizes=[9b]"], "gpu.sizes names '9b'"),
        (["mode=gpu", "gpu.sizes=[tiny]", "gpu.stages=[check]"], "did you mean 'checks'"),
        (["verifier=typical"], "allow_lossy=true"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(overrides, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        bench.execute(composed(*SMALL, CHEAP, *overrides), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_record_is_dated_and_named_by_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RECORDS", tmp_path)
    monkeypatch.setattr(machine, "git_commit", lambda: "0123456789ab")
    found = bench.execute(composed(*SMALL, "against=[generate]", "ours=[none]", "record=true"), tmp_path / "run")
    (path,) = tmp_path.glob("bench-decode-random-tiny-float32-greedy-????-??-??.json")
    assert json.loads(path.read_text()) == found
    page = speed.table(tmp_path)
    assert "random weights of size `tiny`, float32, greedy, 2 prompts of random ids of 5 to 9 tokens, 5 new tokens" in page
    assert "| **none** |" in page
    (tmp_path / "bench-decode-random-tiny-float32-greedy-1999-01-01.json").write_text("{}")  # an older one of the same label is not read
    (tmp_path / "gpu-run-2026-01-01.jsonl").write_text(
        json.dumps({"stage": "start", "provenance": found["provenance"]}) + "\n" + json.dumps({"stage": "checks", "check": "noise", "passed": True})
    )
    assert "1 of 1 checks passed" in speed.table(tmp_path)


def test_readme_says_what_the_records_say(monkeypatch):
    excuse(monkeypatch)
    assert speed.pages()[speed.PAGE] == speed.PAGE.read_text(encoding="utf-8")
