"""What is wrong with the settings of a target, a random one or a peer is said before a model is loaded."""

import pytest

from drafters.none import NoDraft
from experiments.parts.peers.configured import WantedAssisted, WantedPromptLookup
from experiments.parts.peers.transformers_generate import PromptLookup
from experiments.parts.random_target import load_random
from experiments.parts.target import find_device, load_target
from spec import CausalLM
from spec.loading import load_model
from tests.spec.damaged import copied, reweigh

SETTINGS = [
    ({"context": "abc"}, "context='abc': give a whole number"),
    ({"context": 1.5}, r"context=1\.5: give a whole number"),
    ({"capacity": "many"}, "capacity='many': give a whole number"),
    ({"device": "foo"}, "device='foo': give auto, cpu, cuda"),
    ({"device": "meta"}, "device='meta': give auto"),
    ({"device": 3}, "device=3: give auto"),
    ({"device": "cuda:99"}, "device=cuda:99: this machine has no such device for torch; it has cpu"),
    ({"dtype": "foo"}, "dtype='foo': give "),
    ({"dtype": 16}, "dtype=16: give "),
]


@pytest.mark.parametrize(("settings", "told"), SETTINGS)
@pytest.mark.parametrize(("load", "name"), [(load_target, "/no/such"), (load_random, "tiny")], ids=["hub", "random"])
def test_settings_are_checked_before_a_model_is_loaded(load, name, settings, told):
    with pytest.raises(ValueError, match=told):
        load(name, **settings)


@pytest.mark.parametrize("name", [None, 5, ["tiny"]])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="could not be loaded: this is no name"):
        load_target(name)
    with pytest.raises(ValueError, match=r"unknown size .* Known: tiny"):
        load_random(name)


def test_the_device_that_is_there():
    assert find_device("cpu") == "cpu"
    assert find_device("auto") in ("cpu", "cuda")


def test_an_assistant_of_a_peer_is_checked_as_a_target_is(tmp_path):
    reweigh(copied(tmp_path / "model"), "model.norm")
    target = CausalLM(load_model("embedded/target"))
    for name, told in ((str(tmp_path / "model"), r"1 missing \(model\.norm\.weight\)"), (5, "5 could not be loaded: this is no name")):
        with pytest.raises(ValueError, match=told):
            WantedAssisted(name).build(target, NoDraft())  # type: ignore[arg-type]


@pytest.mark.parametrize("num_tokens", [0, 1.5, "four"])
def test_numbers_of_peers_are_whole(num_tokens):
    for make in (WantedAssisted, WantedPromptLookup):
        with pytest.raises(ValueError, match=r"num_tokens=.*at least one drafted token"):
            make(num_tokens=num_tokens)
    for wrong in (lambda: WantedPromptLookup(max_ngram=num_tokens), lambda: PromptLookup(None, max_ngram=num_tokens)):
        with pytest.raises(ValueError, match=r"max_ngram=.*: give at least 1"):
            wrong()
