"""What a run was made with is part of its identity: code, models and data."""

import json
from pathlib import Path
from typing import Any

import pytest

from drafters.draft_model import DraftModel
from drafters.prompt_lookup import PromptLookup
from experiments.parts import versions
from experiments.parts.data.prompts import Prompt
from experiments.parts.versions import case_of, folder_version, model_version, models
from experiments.recording.code import code_version, foreign_packages, sources
from experiments.recording.identity import ForeignFolderError, Identity, config_hash
from experiments.recording.recorder import Recorder
from experiments.run import job
from spec.interfaces import Drafter
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft

CONFIG: dict[str, Any] = {"seed": 0}


class Compose(Drafter):
    """Made of others, of which one has an assistant that no `name` in the configuration tells of."""

    def __init__(self, assistant: str):
        self.members = (PromptLookup(), DraftModel(assistant))

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        return self.members[0].propose(state, sampler)


ORIGIN: dict[str, Any] = {"code": {"source": "a", "torch": "1"}, "models": {"target": "m"}, "data": "d"}


def held(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def begin(folder: Path, *, allow_code_change: bool = False, **origin: Any) -> None:
    Recorder(folder, Identity(CONFIG, {**ORIGIN, **origin}, allow_code_change)).close()


def test_the_manifest_holds_the_key_and_its_parts(tmp_path: Path) -> None:
    begin(tmp_path / "a")
    begin(tmp_path / "b", data="other")
    assert {name: held(tmp_path / "a")[name] for name in ORIGIN} == ORIGIN
    assert {"config_hash", "key", "git_commit"} <= set(held(tmp_path / "a"))
    assert held(tmp_path / "a")["key"] != held(tmp_path / "b")["key"]
    begin(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "named"),
    [({"code": {"source": "b", "torch": "1"}}, "code"), ({"models": {"target": "n"}}, "models"), ({"data": "e"}, "data")],
)
def test_another_version_is_refused_and_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    begin(tmp_path)
    before = held(tmp_path)
    with pytest.raises(ForeignFolderError, match=f"begun with another version of {named}") as caught:
        begin(tmp_path, **change)
    assert ("allow_code_change=true" in str(caught.value)) is (named == "code")
    assert held(tmp_path) == before


def test_a_change_of_code_may_be_allowed_and_is_recorded_but_one_of_data_may_not(tmp_path: Path) -> None:
    begin(tmp_path)
    newer = {"source": "b", "torch": "1"}
    begin(tmp_path, allow_code_change=True, code=newer)
    assert held(tmp_path)["code_changes"] == [{"from": ORIGIN["code"], "to": newer}]
    begin(tmp_path, code=newer)
    with pytest.raises(ForeignFolderError, match="another version of data"):
        begin(tmp_path, allow_code_change=True, code=newer, data="e")


def test_code_is_known_by_its_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_drafter.py").write_text("length = 1\n")
    assert [file.name for file in sources(["my_drafter"])] == ["my_drafter.py"]
    config = {"drafter": {"_target_": "my_drafter.Mine", "rules": [{"_target_": "drafters.none.NoDraft"}]}}
    assert foreign_packages(config) == ("my_drafter",)
    first = code_version(("my_drafter",))
    (tmp_path / "my_drafter.py").write_text("length = 2\n")
    code_version.cache_clear()
    assert code_version(("my_drafter",)) != first
    assert code_version() == code_version(())


def test_a_model_is_known_by_its_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(1000))
    first = folder_version(tmp_path)
    weights.write_bytes(bytes(999) + b"x")
    assert folder_version(tmp_path) != first
    monkeypatch.setattr(versions, "WHOLE", 10)
    monkeypatch.setattr(versions, "PIECE", 4)
    sampled = folder_version(tmp_path)
    weights.write_bytes(bytes(1000))
    assert folder_version(tmp_path) != sampled
    assert model_version(str(tmp_path)) == folder_version(tmp_path)
    assert model_version("embedded/nothing") is None


def drafted_by(drafter: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run, as far as its models are concerned."""
    return {
        "target": {"_target_": "experiments.parts.target.load_target", "name": "big"},
        "drafter": drafter,
        "verifier": {"_target_": "verifiers.recursive.Recursive"},
        "sampling": {"_target_": "spec.sampling.Sampler"},
        "trusted_packages": ["tests"],
    }


def test_every_model_inside_a_drafter_belongs_to_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopping rule's model, and those of the members of a drafter that is made of others; a `name` that is no part's own names no model."""
    monkeypatch.setattr(versions, "model_version", lambda name: f"version of {name}")
    config = drafted_by({"_target_": "drafters.draft_model.DraftModel", "name": "small"})
    config["peers"] = {"assisted": {"_target_": "x.Peer", "name": "other"}, "generate": {"_target_": "x.Peer"}}
    plain = {"target": "version of big", "drafter": "version of small", "peers.assisted": "version of other"}
    assert models(config) == plain
    rule = {"_target_": "drafters.stopping.learned.Learned", "name": "judge"}
    inner = [config["drafter"] | {"stopping": rule, "labels": {"name": "no model"}}, {"_target_": "drafters.prompt_lookup.PromptLookup"}]
    config["drafter"] = {"_target_": "drafters.cascade.Cascade", "members": inner}
    nested = {"drafter.members.0": "version of small", "drafter.members.0.stopping": "version of judge"}
    assert models(config) == {"target": "version of big", "peers.assisted": "version of other"} | nested
    assert case_of(config, "cpu", "float32").models == {
        "target": {"name": "big", "version": "version of big"},
        "drafter.members.0": {"name": "small", "version": "version of small"},
        "drafter.members.0.stopping": {"name": "judge", "version": "version of judge"},
    }


def test_a_model_that_only_the_drafter_knows_of_belongs_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: a checkpoint that the configuration names already keeps its place there."""
    monkeypatch.setattr(versions, "model_version", lambda name: f"version of {name}")
    config = drafted_by({"_target_": "x.Compose", "assistant": "hidden"})
    checkpoints = {"0.assistant": "hidden", "1.assistant": "big"}
    assert models(config, checkpoints) == {"target": "version of big", "drafter.checkpoints.0.assistant": "version of hidden"}
    held = case_of(config, "cpu", "float32", checkpoints).models
    assert held["drafter.checkpoints.0.assistant"] == {"name": "hidden", "version": "version of hidden"}


def test_a_run_asks_its_drafter_what_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "model_version", lambda name: f"version of {name}")
    config = drafted_by({"_target_": f"{__name__}.Compose", "assistant": "hidden"})
    found = job.origin(config, [Prompt("a", "text", ["said"])])["models"]
    assert found == {"target": "version of big", "drafter.checkpoints.1.assistant": "version of hidden"}


def test_a_folder_of_the_same_configuration_under_old_names_says_what_has_changed(tmp_path: Path) -> None:
    """Then it is the code, which may be allowed; not the configuration, which may not."""
    old = {"seed": 0, "data": {"_target_": "experiments.data.embedded", "path": None}}
    new = {"seed": 0, "data": {"_target_": "experiments.parts.data.sources.embedded", "path": None}}
    Recorder(tmp_path, Identity(old, ORIGIN)).close()
    newer = ORIGIN | {"code": {"source": "b"}}
    with pytest.raises(ForeignFolderError, match="another version of code"):
        Identity(new, newer).check(tmp_path)
    Identity(new, newer, allow_code_change=True).check(tmp_path)
    assert held(tmp_path)["config_hash"] == config_hash(new)
    assert len(held(tmp_path)["code_changes"]) == 1
    with pytest.raises(ForeignFolderError, match="another configuration"):
        Identity(new | {"seed": 1}, newer, allow_code_change=True).check(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", "{"])
def test_a_damaged_manifest_keeps_every_run_out(tmp_path: Path, text: str) -> None:
    begin(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ForeignFolderError, match=r"manifest\.json: cannot be read"):
        begin(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == text
