"""What tables call a method: its module where that is called so too, else module and class, so that two classes of one module are told apart."""

from importlib.resources import files
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.analysis.summary import labels
from experiments.recording.naming import method_name
from tests.experiments.recorded import config

OURS = sorted(path for group in ("drafter", "verifier") for path in (Path(str(files("conf"))) / group).glob("*.yaml"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_method_of_ours_is_called_as_on_the_command_line(path: Path) -> None:
    part = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(part, dict)
    assert method_name({"_target_": part["_target_"]}) == path.stem


def test_two_classes_of_one_module_have_two_names() -> None:
    first, second = (labels(config(drafter={"_target_": f"mine.drafts.{name}"}))["drafter"] for name in ("First", "Second"))
    assert (first, second) == ("drafts.First", "drafts.Second")
    assert method_name({"_target_": "mine.drafts.Drafts"}) == "drafts"
    assert method_name({"_target_": "drafts.Second"}) == "drafts.Second"
    assert method_name({"_target_": "Second"}) == "Second"
