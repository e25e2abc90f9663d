"""Names as records hold them: the same in a checkout and in the wheel, which imports them under others."""

import pytest

from experiments.recording import moved
from experiments.recording.code import decoding_packages, foreign_packages
from experiments.recording.moved import bare, importable, place_of, recorded

IN_CHECKOUT = {"_target_": "drafters.draft_model.DraftModel", "stopping": [{"_target_": "mine.rules.Rule"}], "name": "draftproof.spec"}
IN_WHEEL = {"_target_": "draftproof.drafters.draft_model.DraftModel", "stopping": [{"_target_": "mine.rules.Rule"}], "name": "draftproof.spec"}


def test_what_is_recorded_is_the_same_in_both() -> None:
    assert recorded(IN_WHEEL) == recorded(IN_CHECKOUT) == IN_CHECKOUT
    assert bare("draftproof.mine.Rule") == "draftproof.mine.Rule"
    assert bare("draftproof.specification.X") == "draftproof.specification.X"


@pytest.mark.parametrize(("inside", "wanted"), [("", IN_CHECKOUT), ("draftproof.", IN_WHEEL)])
def test_what_is_recorded_can_be_imported_in_both(inside: str, wanted: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "INSIDE", inside)
    assert importable(IN_CHECKOUT) == importable(IN_WHEEL) == wanted
    assert place_of("experiments.tracking.NoTracking") == f"{inside}experiments.parts.tracking.none.NoTracking"
    assert place_of("spec") == f"{inside}spec"
    assert place_of("mine.rules.Rule") == "mine.rules.Rule"


def test_ours_are_not_a_users_packages() -> None:
    config = {"drafter": recorded(IN_WHEEL), "verifier": {"_target_": "experiments.mine.X"}, "sampling": {}, "target": {}}
    assert foreign_packages(config) == ("mine",)
    assert decoding_packages(config) == ("experiments", "mine")
