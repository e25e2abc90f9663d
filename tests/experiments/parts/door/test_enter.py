"""The command `draftproof`: jobs, help, version, completion, strangers, and that nothing heavy is imported to say what is wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import draftproof
import spec
from experiments.parts.door.jobs import JOBS
from experiments.parts.door.plain import main_of, parser_of

ROOT = Path(__file__).resolve().parents[4]


def call(*arguments: str, where: Path = ROOT, paths: tuple[Path, ...] = (ROOT,), **environment: str) -> subprocess.CompletedProcess[str]:
    """`draftproof ...` in a process of its own, as the console command runs it."""
    code = "import sys; import draftproof; sys.argv[0] = 'draftproof'; draftproof.main()"
    found = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])} | environment
    command = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(command, cwd=where, env=found, capture_output=True, text=True, check=False, timeout=120)


def test_without_arguments_every_job_is_there_with_an_example() -> None:
    found = call()
    assert found.returncode == 0
    for name, job in JOBS.items():
        assert f"  {name} " in found.stdout
        assert job.does in found.stdout
        assert job.examples[0] in found.stdout
    assert len(JOBS) <= 13


@pytest.mark.parametrize("name", JOBS)
def test_help_of_a_job(name: str) -> None:
    found = call(name, "--help")
    assert (found.returncode, found.stderr) == (0, "")
    assert "Powered by" not in found.stdout
    assert "drafter=mine" not in found.stdout
    if JOBS[name].config:
        assert all(example in found.stdout for example in JOBS[name].examples)
        assert "settings of" in found.stdout
    assert "bench +experiment=gpu" not in found.stdout or name == "bench"


def test_help_has_the_settings_of_a_chosen_option() -> None:
    found = call("run", "drafter=lookahead", "--help").stdout
    assert "settings of drafter=lookahead" in found
    assert "drafter.window=7" in found
    assert call("run", "drafter=lookahed", "--help").returncode == 2


def test_versions_agree() -> None:
    assert call("--version").stdout == f"draftproof {draftproof.__version__}\n"
    assert call("run", "--version").stdout == f"draftproof {draftproof.__version__}\n"
    assert spec.__version__ == draftproof.__version__


@pytest.mark.parametrize("name", JOBS)
def test_every_job_can_be_imported(name: str) -> None:
    job = JOBS[name]
    assert callable(main_of(job))
    assert job.parser is None or parser_of(job).format_help()


def test_completion() -> None:
    assert "complete -o nospace -o default -F hydra_bash_completion draftproof" in call("-sc", "install=bash").stdout
    assert call("-sc", "query=bash", COMP_LINE="draftproof r").stdout.split() == ["run", "report", "replay"]
    assert call("-sc", "query=bash", COMP_LINE="draftproof run drafter=lo").stdout.split() == ["drafter=lookahead"]
    assert "mode=" in call("-sc", "query=bash", COMP_LINE="draftproof bench mo").stdout


@pytest.mark.parametrize("arguments", [("run", "drafter=lookahed"), ("run", "seed=x"), ("bench", "repeats=0"), ("report", "--htm", "x")])
def test_mistakes_are_said_without_importing_torch(arguments: tuple[str, ...]) -> None:
    found = call(*arguments, PYTHONPROFILEIMPORTTIME="1")
    lines = [line for line in found.stderr.splitlines() if not line.startswith("import time:")]
    assert found.returncode == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    modules = {line.rsplit("|", 1)[-1].strip() for line in found.stderr.splitlines() if line.startswith("import time:")}
    assert not modules & {"torch", "transformers", "pandas", "datasets", "wandb"}
    assert "hydra" in modules


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A folder with another project's package of one of our names."""
    (tmp_path / "site" / "verifiers").mkdir(parents=True)
    (tmp_path / "site" / "verifiers" / "__init__.py").write_text("raise SystemExit('the stranger was imported')\n")
    return tmp_path / "site"


@pytest.mark.parametrize("installed", ["before", "after"])
def test_a_strangers_package_is_named_in_one_line(stranger: Path, tmp_path: Path, installed: str) -> None:
    found = call("run", "--help", where=tmp_path, paths=(stranger, ROOT) if installed == "before" else (ROOT, stranger))
    if installed == "after":
        assert found.returncode == 0
        return
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert str(stranger / "verifiers") in found.stderr
    assert f"cd {ROOT} && python -m experiments" in found.stderr


@pytest.mark.parametrize("module", ["experiments", "experiments.run", "experiments.bench.verifier_yield"])
def test_a_folder_of_that_name_where_one_stands_is_named_in_one_line(tmp_path: Path, module: str) -> None:
    (tmp_path / "spec").mkdir()
    (tmp_path / "spec" / "__init__.py").write_text("")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-m", module], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2, found.stderr
    assert found.stderr.count("\n") == 1
    assert str(tmp_path / "spec") in found.stderr


def test_a_drafter_of_ones_own_from_an_unrelated_folder(tmp_path: Path) -> None:
    """By its class alone, by --config-dir and by hydra.searchpath; wrong settings of it are named."""
    package = tmp_path / "elsewhere" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(
        "from spec import Draft, Drafter\n\n"
        "class Mine(Drafter):\n"
        "    def __init__(self, depth: int = 2):\n        self.depth = depth\n\n"
        "    def propose(self, state, sampler):\n"
        "        chains = [[root] * min(self.depth, max(room - 1, 0)) for root, room in zip(state.roots, state.room, strict=True)]\n"
        "        return Draft.of_chains(state.roots, chains, state.device)\n"
    )
    (tmp_path / "yaml" / "drafter").mkdir(parents=True)
    (tmp_path / "yaml" / "drafter" / "mine.yaml").write_text("_target_: my_package.mine.Mine\ndepth: 3\n")
    work = tmp_path / "work"
    work.mkdir()
    paths = (ROOT, package.parent)
    small = ("num_prompts=1", "max_new_tokens=4", "warmup=0", "check_state=false", "trusted_packages=[my_package]")
    for number, chosen in enumerate(
        (["drafter._target_=my_package.mine.Mine", "drafter.depth=1"], ["--config-dir", str(tmp_path / "yaml"), "drafter=mine"])
    ):
        found = call("run", *chosen, *small, f"hydra.run.dir=out{number}", where=work, paths=paths)
        assert found.returncode == 0, found.stderr[-2000:]
        assert f"depth: {1 if number == 0 else 3}" in (work / f"out{number}" / "config.yaml").read_text()
        assert "num_tokens" not in (work / f"out{number}" / "config.yaml").read_text()
    for wrong, said in (
        (("drafter._target_=my_package.mine.Mine", "drafter.num_tokens=3"), 'takes no "num_tokens"'),
        (("drafter._target_=my_package.mine.Mine", "drafter.depth=x"), "drafter.depth=x: give a whole number"),
        (("drafter._target_=my_package.mine.Mien",), "has no 'Mien'"),
        ((f"hydra.searchpath=[{tmp_path / 'yaml'}]", "drafter=mine", "drafter.depth=2.5"), "drafter.depth=2.5: give a whole number"),
    ):
        found = call("run", *wrong, where=work, paths=paths)
        assert (found.returncode, found.stderr.count("\n")) == (2, 1), found.stderr
        assert said in found.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGTERM"), reason="no SIGTERM")
def test_sigterm_stops_as_ctrl_c_does(tmp_path: Path) -> None:
    """Summary, word, exit code 143; the same command goes on."""
    code = "import sys; import draftproof; sys.argv[0] = 'draftproof'; draftproof.main()"
    options = ["run", f"hydra.run.dir={tmp_path / 'run'}", "num_prompts=12", "max_new_tokens=96", "warmup=0", "check_state=false"]
    process = subprocess.Popen([sys.executable, "-c", code, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    records = tmp_path / "run" / "records.jsonl"
    deadline = time.monotonic() + 120
    while (not records.exists() or records.read_text().count("\n") < 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = "".join(process.communicate(timeout=60))
    assert process.returncode == 143, said[-2000:]
    assert "stopped after" in said
    assert "Traceback" not in said
    assert '"interrupted": true' in (tmp_path / "run" / "summary.json").read_text()
