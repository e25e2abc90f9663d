"""Settings are checked once, at the door: what makes no sense is named there, and what an old configuration lacks takes the default of the YAML."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hydra import compose, initialize_config_module

from experiments.parts.settings import Settings, resolved


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    with initialize_config_module("conf", version_base=None):
        return resolved(compose("config"))


def test_the_yaml_names_every_setting_with_its_default(plain: dict[str, Any]) -> None:
    assert Settings.of(plain) == Settings()
    parts = {"target", "drafter", "verifier", "data", "sampling", "tracking"}
    assert set(plain) - parts - {"trusted_packages", "resume"} == {part.name for part in fields(Settings)}


def test_a_setting_that_an_old_configuration_lacks_takes_its_default() -> None:
    assert Settings.of({"seed": 3, "num_prompts": 2}) == Settings(seed=3, num_prompts=2)


def test_nobody_changes_a_setting_afterwards() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().seed = 1  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("max_new_tokens", 0, "a whole number of at least 1"),
        ("max_new_tokens", None, "a whole number of at least 1"),
        ("batch_size", True, "a whole number of at least 1"),
        ("num_prompts", 2.0, "a whole number of at least 1"),
        ("threads", "2", "a whole number of at least 1"),
        ("warmup", -1, "a whole number of at least 0"),
        ("seed", -1, "a whole number of at least 0"),
        ("batching", "size", "one of order, length"),
        ("split", "train", "one of all, dev, test"),
        ("dev_share", 0, "a number between 0 and 1"),
        ("dev_share", True, "a number between 0 and 1"),
        ("objective", "valid", "one of speedup, "),
        ("certify", 1, "true or false"),
        *((name, "no", "true or false") for name in ("allow_lossy", "stop_at_eos", "chat_template", "skip_too_long", "check_state")),
        ("allow_code_change", None, "true or false"),
        ("battery", "high", "options of experiments.lossless as a mapping"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_line(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}={value}: give {allowed}") as caught:
        Settings(**{name: value})
    assert "\n" not in str(caught.value)


def test_what_may_be_left_open_may_be() -> None:
    assert Settings(num_prompts=None, battery=None, batching="length").num_prompts is None  # pyright: ignore[reportArgumentType]
