"""Every notebook runs from top to bottom on a small sweep that is recorded here, is short, and is committed without outputs."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from hydra import compose, initialize_config_module
from nbclient import NotebookClient

from experiments.analysis.frames import load_runs
from experiments.report.notebook import overview
from experiments.run.job import execute
from tests.experiments.recorded import config, write_run

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_CELLS = 12
SMALL = ["num_prompts=2", "max_new_tokens=12", "warmup=1", "check_state=false"]
RUNS = (["drafter.num_tokens=2"], ["drafter.num_tokens=6"], ["drafter.num_tokens=6", "batch_size=2"])


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of the embedded pair, made once."""
    folder = tmp_path_factory.mktemp("sweep")
    for index, overrides in enumerate(RUNS):
        with initialize_config_module("conf", version_base=None):
            config = compose("config", [*SMALL, *overrides])
        execute(config, folder / str(index))
    return folder


@pytest.fixture
def cost(tmp_path: Path) -> Path:
    """A result of the cost model, by hand."""
    row = {
        "run": "r",
        "gamma": 2,
        "predicted": 1.2,
        "predicted_interval": [1.1, 1.3],
        "measured": 1.25,
        "measured_interval": [1.0, 1.4],
        "error": -0.04,
    }
    path = tmp_path / "cost.json"
    path.write_text(json.dumps({"runs": [row]}))
    return path


def with_parameters(notebook: nbformat.NotebookNode, **values: object) -> nbformat.NotebookNode:
    """The notebook with other values in its first cell; a value of None there is what is replaced."""
    first = notebook.cells[0]
    for name, value in values.items():
        first.source = first.source.replace(f"\n{name} = None", f"\n{name} = {value!r}")
    return notebook


@contextmanager
def kernel(folder: Path, *paths: str) -> Iterator[NotebookClient]:
    """A kernel of the interpreter of the tests, whatever kernels are installed, started elsewhere; `paths` come before all others."""
    (folder / "kernels" / "python3").mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT)]), "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        found = NotebookClient(nbformat.v4.new_notebook(), timeout=240, kernel_name="python3")
        with found.setup_kernel(cwd=str(folder), env=environment):
            yield found


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookClient]:
    """One kernel for all, which pays for its imports once."""
    with kernel(tmp_path_factory.mktemp("elsewhere")) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, recorded: Path, cost: Path, client: NotebookClient) -> None:
    notebook = with_parameters(nbformat.read(path, as_version=4), results=str(recorded), cost=str(cost))
    assert str(recorded) in notebook.cells[0].source
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))  # nothing of the notebook before
    client.nb = notebook
    for index, cell in enumerate(notebook.cells):
        client.execute_cell(cell, index)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no figure was shown"
    told = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert not [text for text in told if "Warning" in text], told


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_and_has_no_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= MOST_CELLS
    assert "parameters" in notebook.cells[0].metadata["tags"]
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert all(len(cell.source.splitlines()) <= 12 for cell in notebook.cells if cell.cell_type == "code"), "logic belongs in modules"


@pytest.mark.slow
def test_a_kernel_without_ipywidgets_shows_no_red_warning(tmp_path: Path) -> None:
    """What every notebook begins with, in a kernel of its own, in which ipywidgets cannot be imported."""
    (tmp_path / "ipywidgets.py").write_text("raise ImportError('there are none here')\n")
    with kernel(tmp_path, str(tmp_path)) as client:
        for lines, warned in ((["import tqdm.auto"], True), ([], False), (["%load_ext experiments.report.quiet", "import tqdm.auto"], False)):
            forget = "import sys\nfor name in [name for name in sys.modules if name.startswith('tqdm')]: del sys.modules[name]"
            client.nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join([forget, *lines]))])
            client.execute_cell(client.nb.cells[0], 0)
            told = "".join(output.get("text", "") for output in client.nb.cells[0].outputs if output.get("name") == "stderr")
            assert ("IProgress not found" in told) == warned, told


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_quiet_before_it_imports_anything(path: Path) -> None:
    code = [line for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    first = next(index for index, line in enumerate(code) if line.startswith(("import ", "from ")))
    assert "%load_ext experiments.report.quiet" in code[:first]


@pytest.mark.parametrize("stem", ["02_acceptance", "03_exactness"])
def test_tables_of_notebooks_name_the_sampling(stem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for temperature in (0.0, 0.8):
        write_run(tmp_path / str(temperature), sampling=config()["sampling"] | {"temperature": temperature})
    source = "\n".join(cell.source for cell in nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells)
    columns = re.findall('"([^"]+)"', re.findall(r"^overview\(runs, (.*)\)$", source, re.MULTILINE)[0])
    runs = load_runs([tmp_path])
    table = overview(runs, *columns)
    assert table.columns.tolist() == ["drafter", "sampling", *columns]
    assert table["sampling"].tolist() == ["greedy", "T=0.8"]
    assert capsys.readouterr().out == f"{runs.head}\n"
    assert overview(load_runs([tmp_path / "0.8"]), *columns)["sampling"].tolist() == ["T=0.8"]


def test_all_four_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_quickstart", "02_acceptance", "03_exactness", "04_speed_and_cost"]
