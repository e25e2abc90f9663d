"""Every command of the table ends with its exit code and its one line: twenty in processes of their own, all in forks of one."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wrong_inputs.table import ROOT, Row, read, told

ROWS = read()
FRESH = ROWS[:: len(ROWS) // 20][:20]
FORKED = """
import json, sys
from pathlib import Path
from tests.wrong_inputs.table import read, run_all
for row in run_all([row.command for row in read()], Path(sys.argv[1])):
    print("ROW " + json.dumps([row.command, row.code, row.said]), flush=True)
"""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.wrong_inputs.material import RUN, make
    from tests.wrong_inputs.table import record

    run, folder = tmp_path_factory.mktemp("wrong") / "run", tmp_path_factory.mktemp("material")
    assert record(run, RUN) == 0
    make(folder, run)
    return folder


def environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}


def test_the_table_is_long_and_every_answer_is_one_line() -> None:
    assert len(ROWS) >= 200
    assert len({row.command for row in ROWS}) == len(ROWS)
    assert [row.command for row in ROWS if row.code != 2 or not row.said.startswith("error: ") or " | " in row.said] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_answers_as_the_table_says(material: Path) -> None:
    import json

    command = [sys.executable, "-c", FORKED, str(material)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=590)
    found = [Row(*json.loads(line[4:])) for line in done.stdout.splitlines() if line.startswith("ROW ")]
    assert len(found) == len(ROWS), done.stderr[-2000:]
    assert [other for row, other in zip(ROWS, found, strict=True) if not row.matches(other)] == []


@pytest.mark.parametrize("row", FRESH, ids=lambda row: row.command)
def test_a_fresh_process_answers_the_same(row: Row, material: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    code = "import sys; import draftproof; sys.argv[0] = 'draftproof'; draftproof.main()"
    command = [sys.executable, "-c", code, *shlex.split(row.command.replace("{t}", str(material)))]
    done = subprocess.run(command, cwd=tmp_path / "work", env=environment(), capture_output=True, text=True, check=False, timeout=120)
    assert row.matches(Row(row.command, done.returncode, told(done.stderr, material, tmp_path)))
