"""What does not go together is refused before a model is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from experiments.run.job import execute


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("drafter=lookahead", "verifier=rejection"), "Rejection verifies chains only and Lookahead drafts trees"),
        (("drafter=lookahead", "verifier=block"), "Block verifies chains only and Lookahead drafts trees"),
        (("verifier=typical",), "allow_lossy=true"),
        (("verifier=lenient", "verifier.leniency=2", "allow_lossy=true"), "leniency=2: give more than 0"),
    ],
)
def test_wrong_pair_is_refused_before_the_target_is_loaded(
    composed: Callable[..., DictConfig], tmp_path: Path, overrides: tuple, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        execute(composed(*overrides, "target.name=/nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("verifier", "exact"), [("block", True), ("coupled", True), ("ensemble", False)])
def test_summary_says_whether_the_verifier_is_exact(
    composed: Callable[..., DictConfig], tmp_path: Path, assistant: str, verifier: str, exact: bool
) -> None:
    names = ("drafter=draft_model", f"drafter.name={assistant}", "drafter.dtype=float64", f"verifier={verifier}", f"allow_lossy={not exact}")
    summary = execute(composed(*names, "sampling=sample", "num_prompts=2"), tmp_path / "run")
    assert summary["claims_exact"] is exact
    assert summary["exact"] is (None if exact else False)  # a claim is no proof
