"""What others may read of a drafter, for every drafter that there is: traits, length, members, checkpoints and models."""

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import OmegaConf

from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.none import NoDraft
from drafters.oracle import Oracle
from drafters.prompt_lookup import PromptLookup
from drafters.stopping.bandit import Bandit
from drafters.stopping.cost import Cost
from experiments.parts.build import make
from experiments.parts.door.comments import CONF, conf
from experiments.parts.versions import named_models
from spec import CausalLM, Drafter, Sampler
from spec.interfaces import Traits
from spec.model import load_model
from tests.drafters.contract import assistant_model, recorded
from tests.tiny import build

DRAFTERS = sorted(path.stem for path in (conf() / "drafter").glob("*.yaml"))
ALL_BUT_CONTEXT = {"makes_trees", "adapts_siblings", "keeps_state", "needs"}


def composed(drafter: str) -> Any:
    with initialize_config_module(CONF, version_base=None):
        return compose("config", [f"drafter={drafter}"])


@pytest.fixture(scope="module")
def embedded() -> CausalLM:
    return CausalLM(load_model("embedded/target", "float32"))


@pytest.mark.parametrize("name", DRAFTERS)
def test_what_is_said_before_attaching_holds_afterwards(name: str, embedded: CausalLM) -> None:
    config = composed(name)
    drafter: Drafter = make(config, "drafter")
    before, loads = drafter.traits, dict(drafter.checkpoints)
    with pytest.raises(FrozenInstanceError):
        before.makes_trees = True  # pyright: ignore[reportAttributeAccessIssue]
    drafter.attach(embedded)
    assert replace(drafter.traits, context=None) == before
    assert before.context is None
    assert dict(drafter.checkpoints) == loads
    assert drafter.traits.context == min((model.context for model in drafter.models.values()), default=None) or name == "oracle"
    assert drafter.length == config.drafter.get("num_tokens")
    settings = OmegaConf.to_container(config.drafter)
    assert set(loads.values()) <= {model for _, model in named_models(settings, "drafter")}, "a run would not know which model this is"


@pytest.mark.parametrize("name", DRAFTERS)
def test_trees_come_from_drafters_of_trees_alone(name: str) -> None:
    settings = composed(name).drafter
    drafter = instantiate(settings, **({"model": assistant_model()} if "name" in settings else {}))
    _, proposals = recorded(drafter, Sampler(seed=1))
    branching = any(not proposal.draft.is_chain and proposal.draft.num_slots > 1 for proposal in proposals)
    assert branching == drafter.traits.makes_trees


def test_the_settings_decide() -> None:
    assert DraftTree(widths=None).traits == Traits(makes_trees=True, adapts_siblings=True)
    assert DraftTree(widths=[1, 1]).traits == Traits()
    assert not DraftModel(stopping=Bandit()).traits.keeps_state
    assert DraftModel(stopping=Bandit(rules=[Cost(relative_cost=None)])).traits.keeps_state
    assert {field.name for field in fields(Traits)} == ALL_BUT_CONTEXT | {"context"}


def test_a_trait_that_nobody_would_read_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Old.makes_trees is read by nobody; declare it by traits = Traits\(makes_trees=...\)"):
        type("Old", (NoDraft,), {"makes_trees": True})


def test_models_and_checkpoints() -> None:
    given, loaded, target = DraftModel(assistant_model()), DraftModel("embedded/drafter"), CausalLM(build("llama"))
    assert (dict(given.checkpoints), dict(loaded.checkpoints)) == ({}, {"assistant": "embedded/drafter"})
    given.attach(target)
    assert given.models["assistant"].model is assistant_model()
    oracle = Oracle()
    assert (dict(oracle.models), dict(oracle.checkpoints)) == ({}, {})
    oracle.attach(target)
    assert oracle.models["assistant"] is target


class Both(NoDraft):
    """Made of two others."""

    def __init__(self, *members: Drafter):
        self.members = members


def test_a_drafter_made_of_others_shows_their_models() -> None:
    inner = DraftModel(assistant_model())
    inner.attach(CausalLM(build("llama")))
    both = Both(PromptLookup(), inner, DraftModel("embedded/drafter"))
    assert dict(both.checkpoints) == {"2.assistant": "embedded/drafter"}
    assert dict(Both(PromptLookup(), inner).models) == {"1.assistant": inner.models["assistant"]}


def test_length_may_be_set_anew() -> None:
    drafter = PromptLookup(num_tokens=4)
    drafter.length = 2
    assert (drafter.length, drafter.num_tokens) == (2, 2)
    assert NoDraft().length is None
