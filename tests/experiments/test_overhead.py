"""The command that times the loop: the same prompts for every way, every answer as long as asked, forwards counted and given back."""

import json

import pytest
import torch
from hydra import compose, initialize_config_module

from experiments import overhead


def test_every_way_is_timed_on_the_same_work(target, assistant, tmp_path, capsys):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("abcabc", "xyz", "hello hello")))
    with initialize_config_module("conf", version_base=None):
        chosen = [f"target.name={target}", "drafter=draft_model", f"drafter.name={assistant}", f"data.path={prompts}"]
        config = compose("config", ["target=hub", "data=jsonl", "max_new_tokens=6", *chosen])
    overhead.main.__wrapped__(config)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["num_prompts"] == 3
    for temperature in ("T=0", "T=0.8"):
        assert set(found[temperature]) == {"generate", "none", "prompt_lookup", "draft_model", "lookahead"}
        for figures in found[temperature].values():
            assert 0 < figures["outside_forwards"] < 1
            assert figures["ms_per_token"] > 0
        assert found[temperature]["generate"]["vs_generate"] == 1


def test_a_watched_model_is_given_back():
    class Model(torch.nn.Module):
        def forward(self, number):
            return 1 / number

    model, watch = Model(), overhead.Stopwatch()
    with pytest.raises(ZeroDivisionError), watch.watch(model):
        model(0)
    assert watch.seconds > 0
    assert "forward" not in vars(model)
