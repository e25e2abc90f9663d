"""The sweep for W&B's agent: the agent's own code makes the command, the main job runs it, and the metric is where W&B looks for it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from wandb import wandb_agent

from experiments.parts.tracking.rows import HEADLINE
from tests.experiments.offline_runs import offline_run

ROOT = Path(__file__).resolve().parents[3]
SWEEP = yaml.safe_load((ROOT / "conf" / "wandb_sweep.yaml").read_text())
pytestmark = [
    pytest.mark.usefixtures("no_account"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # W&B leaves the agent's file of parameters open
]


def chosen(high: bool) -> dict[str, Any]:
    """One end of every parameter's range, in the form in which the server sends it."""
    values = {}
    for name, parameter in SWEEP["parameters"].items():
        given = parameter.get("values") or [parameter.get("value", parameter.get("min")), parameter.get("value", parameter.get("max"))]
        values[name] = {"value": given[-1 if high else 0]}
    return values


@pytest.fixture
def agent_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """What the agent would start for some parameters; the environment is then the one it would start it in."""
    started: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str], **_: Any):
            for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
                monkeypatch.setenv(name, env[name])
            started.append(command)

    def make(run_id: str, parameters: dict[str, Any]) -> list[str]:
        wandb.teardown()  # it reads the environment only once
        for name, value in {"WANDB_SWEEP_ID": "sweep1", "WANDB_DIR": str(tmp_path), "WANDB_RUN_ID": "", "WANDB_SWEEP_PARAM_PATH": ""}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(wandb_agent, "AgentProcess", Process)
        agent = wandb_agent.Agent(api=None, queue=None)
        agent._sweep_command = list(SWEEP["command"])
        agent._command_run({"run_id": run_id, "program": SWEEP["program"], "args": parameters})
        return started[-1]

    yield make
    wandb.teardown()


@pytest.mark.parametrize("high", [False, True])
def test_the_agents_command_runs_and_the_run_is_the_agents(
    agent_command: Callable[..., list[str]], command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, high: bool
) -> None:
    parameters = chosen(high)
    words = agent_command(f"run{high}", parameters)
    assert words[:4] == ["/usr/bin/env", "python", "-m", "experiments.run"]
    monkeypatch.chdir(tmp_path)
    assert command(*words[4:], "num_prompts=1", "max_new_tokens=6") == 0
    folder = tmp_path / "outputs" / "wandb" / "sweep1" / f"run{high}"
    found = offline_run(folder)
    assert found.header["run_id"] == f"run{high}"
    assert found.header["sweep_id"] == "sweep1"
    assert found.config["max_new_tokens"] == 6
    assert {name: found.config[name] for name in parameters} == {name: parameter["value"] for name, parameter in parameters.items()}
    assert found.summary[SWEEP["metric"]["name"]] == found.history[-2][SWEEP["metric"]["name"]] > 0


def test_the_metric_is_one_that_the_history_holds() -> None:
    assert SWEEP["metric"]["name"] in HEADLINE
