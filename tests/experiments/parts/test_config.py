"""One YAML per class, both ways; every pair and every experiment composes; wrong names are answered with the nearest right one."""

import importlib
import importlib.util
import inspect
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import get_class
from omegaconf import OmegaConf

from experiments.parts.build import make
from experiments.parts.door.command_line import CommandLine
from experiments.parts.door.groups import check_choices

ROOT = Path(__file__).resolve().parents[3]
RUNTIME = {"model", "processors", "continuations"}  # objects that a notebook may pass and YAML cannot hold
PACKAGES = {"drafter": "drafters", "verifier": "verifiers", "drafter/stopping": "drafters.stopping"}  # config group -> where its classes are


def stems(folder: str, suffix: str) -> set[str]:
    return {path.stem for path in (ROOT / folder).glob(f"*{suffix}") if not path.stem.startswith("_")}


def options(group: str) -> list[str]:
    return sorted(stems(f"conf/{group}", ".yaml"))


def installed(module: str) -> bool:
    """Whether a plugin is there; its parent package may be missing too."""
    return importlib.util.find_spec(module.split(".")[0]) is not None and importlib.util.find_spec(module) is not None


def composed(*overrides: str, config: str = "config") -> Any:
    with initialize_config_module("conf", version_base=None):
        return compose(config, list(overrides))


@pytest.mark.parametrize("group", PACKAGES)
def test_every_class_has_a_yaml_and_every_yaml_a_class(group: str) -> None:
    assert stems(PACKAGES[group].replace(".", "/"), ".py") == stems(f"conf/{group}", ".yaml")


@pytest.mark.parametrize(("package", "group", "stem"), [(package, group, stem) for group, package in PACKAGES.items() for stem in options(group)])
def test_yaml_and_constructor_have_the_same_parameters_and_defaults(package: str, group: str, stem: str) -> None:
    settings = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / group / f"{stem}.yaml"))
    assert isinstance(settings, dict)
    settings.pop("defaults", None)  # the groups inside a group
    part = get_class(str(settings.pop("_target_")))
    assert part.__module__ == f"{package}.{stem}"
    own = [name for name, kind in inspect.getmembers(importlib.import_module(part.__module__), inspect.isclass) if kind is part]
    assert own == [part.__name__]
    parameters = {} if part.__init__ is object.__init__ else inspect.signature(part).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items() if name not in RUNTIME}
    assert settings == {name: list(default) if isinstance(default, tuple) else default for name, default in defaults.items()}


@pytest.mark.parametrize("group", ["sampling", "data", "tracking", "target", "peers"])
def test_the_other_groups_name_every_parameter(group: str) -> None:
    for stem in options(group):
        settings = OmegaConf.load(ROOT / "conf" / group / f"{stem}.yaml")
        module, _, name = str(settings._target_).rpartition(".")
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        assert set(settings) - {"_target_"} == set(parameters) - RUNTIME


@pytest.mark.parametrize(("drafter", "verifier"), list(product(options("drafter"), options("verifier"))))
def test_every_pair_composes_and_can_be_made(drafter: str, verifier: str) -> None:
    config = composed(f"drafter={drafter}", f"verifier={verifier}", "sampling=sample")
    assert config.sampling.temperature == 0.8
    for group in ("drafter", "verifier", "sampling", "tracking"):
        assert make(config, group) is not None


@pytest.mark.parametrize("stopping", options("drafter/stopping"))
def test_every_stopping_rule_reaches_the_draft_model(stopping: str) -> None:
    drafter = make(composed("drafter=draft_model", f"drafter/stopping={stopping}"), "drafter")
    assert type(drafter.stopping).__module__ == f"drafters.stopping.{stopping}"


@pytest.mark.parametrize("group", ["target", "data", "sampling", "tracking"])
def test_every_option_composes(group: str) -> None:
    for option in options(group):
        assert f"{composed(f'{group}={option}')[group]._target_}"


@pytest.mark.parametrize("name", options("experiment"))
def test_every_experiment_composes_and_names_options_that_exist(name: str) -> None:
    if name.startswith("tune") and not installed("hydra_plugins.hydra_optuna_sweeper"):
        pytest.skip("hydra-optuna-sweeper is not installed")
    with initialize_config_module("conf", version_base=None):
        config = compose("config", [f"experiment={name}"], return_hydra_config=True)
    swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    assert not problem_with("-m", *swept)
    assert config.hydra.mode is None or config.hydra.mode.name == "MULTIRUN"


def problem_with(*arguments: str) -> str:
    """What is wrong with the options that are chosen; empty where nothing is."""
    try:
        check_choices(CommandLine.of(arguments), "config")
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("drafter=promt_lookup", 'unknown drafter "promt_lookup"; did you mean "prompt_lookup"? Known: '),
        ("verifier=recursiv", 'unknown verifier "recursiv"; did you mean "recursive"? Known: '),
        ("data=jsnol", 'unknown data "jsnol"; did you mean "jsonl"? Known: arena_hard, blazedit, cnn_dailymail, '),
        ("target=embeded", 'unknown target "embeded"; did you mean "embedded"? Known: embedded, gemma3_270m, hub'),
        ("sampling=zzz", 'unknown sampling "zzz"; Known: greedy, sample'),
        ("drafter/stopping=entorpy", 'unknown drafter/stopping "entorpy"; did you mean "entropy"? Known: bandit, confidence, constant, '),
        ("drafter=none,lookahaed", 'unknown drafter "lookahaed"; did you mean "lookahead"? Known: '),
        ("+experiment=default_swep", 'unknown experiment "default_swep"; did you mean "default_sweep"? Known: default_sweep'),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(override: str, message: str) -> None:
    assert problem_with("-m", override).startswith(message)


@pytest.mark.parametrize(
    ("overrides", "wrong"),
    [
        (("drafter/stopping=entropy",), "drafter=prompt_lookup"),
        (("drafter=lookahead", "drafter/stopping=entropy"), "drafter=lookahead"),
        (("drafter=draft_model,none", "drafter/stopping=entropy,cost"), "drafter=none"),
        (("peers=[generate,asisted]",), 'unknown peers "asisted"; did you mean "assisted"?'),
    ],
)
def test_an_option_inside_a_group_needs_the_option_that_it_belongs_to(overrides: tuple[str, ...], wrong: str) -> None:
    problem = problem_with(*overrides)
    assert wrong in problem
    assert "\n" not in problem
    assert "stopping" not in overrides[-1] or "belongs to drafter=draft_model" in problem
    assert not problem_with("drafter=draft_model", "drafter/stopping=entropy")
    assert not problem_with("experiment=tune", "drafter/stopping=entropy")


def test_known_options_settings_and_flags_pass() -> None:
    assert not problem_with("-m", "drafter=none,prompt_lookup", "drafter.num_tokens=3", "experiment=null", "seed=range(3)", "--cfg", "job")


def test_options_of_a_further_config_folder_are_known(tmp_path: Path) -> None:
    (tmp_path / "drafter").mkdir()
    (tmp_path / "drafter" / "mine.yaml").write_text("_target_: mine.Mine\n")
    assert not problem_with("--config-dir", str(tmp_path), "drafter=mine")
    assert not problem_with(f"--config-dir={tmp_path}", "drafter=mine")
    assert not problem_with(f"hydra.searchpath=[{tmp_path}]", "drafter=mine")
    assert problem_with("drafter=mine")
